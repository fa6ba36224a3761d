"""Traces of a real server, taken by a real OTLP/HTTP receiver: one enrollment as a tree, and nothing secret in it."""

import asyncio
import base64
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from birthmark_server import settings as settings_file
from birthmark_server.campaigns import Strategy
from birthmark_server.errors import Misconfigured
from birthmark_server.rotation.campaigning import CampaignService
from birthmark_server.rotation.runner import CampaignRunner
from birthmark_server.services import open_services
from birthmark_server.settings import TracingSettings
from birthmark_server.tracing import open_tracer
from birthmark_wire.encoding import b64, unb64
from birthmark_wire.enrollment import Challenge
from rotation.world import command, device
from support.core import Core
from support.ports import free_port
from support.server import Clock, Installation

pytestmark = pytest.mark.parts


@dataclass
class Collector:
    """What was received. anchors: over https, by whom its certificate is."""

    anchors: Path | None = None
    port: int = field(default_factory=free_port)
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    @property
    def settings(self) -> str:
        if self.anchors is None:
            return f'[tracing]\nendpoint = "http://127.0.0.1:{self.port}/v1/traces"\n'
        return f'[tracing]\nendpoint = "https://localhost:{self.port}/v1/traces"\nanchors = "{self.anchors}"\n'

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        assert request.headers["Content-Type"] == "application/x-protobuf"
        message = ExportTraceServiceRequest.FromString(body)
        self.raw.append(body)
        for resource in message.resource_spans:
            self.resources.append({one.key: one.value.string_value for one in resource.resource.attributes})
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        reply = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=reply, content_type="application/x-protobuf")

    def tree(self, root: Span) -> list[tuple[int, str]]:
        """Names below a span with their depth, in the order in which they began."""
        found = [(0, root.name)]
        children = sorted((one for one in self.spans if one.parent_span_id == root.span_id), key=_began)
        for child in children:
            assert child.trace_id == root.trace_id
            assert root.start_time_unix_nano <= child.start_time_unix_nano
            assert child.end_time_unix_nano <= root.end_time_unix_nano
            found += [(depth + 1, name) for depth, name in self.tree(child)]
        return found

    def root(self, name: str) -> Span:
        (span,) = [one for one in self.spans if one.name == name and not one.parent_span_id]
        return span


def _began(span: Span) -> int:
    return int(span.start_time_unix_nano)


def attributes(span: Span) -> dict[str, str | int]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


@contextmanager
def collecting(over_tls_of: Installation | None = None) -> Iterator[Collector]:
    """A collector on a loop of its own thread; over TLS with a certificate of this installation."""
    collector, loop, ready = Collector(), asyncio.new_event_loop(), threading.Event()
    context = None
    if over_tls_of is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*over_tls_of.pki.server().write(over_tls_of.folder, "collector"))
        collector.anchors = over_tls_of.pki.root_pem

    async def listen() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/traces", collector.take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", collector.port, ssl_context=context).start()
        ready.set()
        return runner

    def run() -> None:
        runner = loop.run_until_complete(listen())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(10)
    try:
        yield collector
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@dataclass
class Enrolled:
    """What one enrollment and one refusal left at the collector, and what of it nobody may read there."""

    collector: Collector
    secrets: dict[str, bytes]


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enrolled]:
    with collecting() as collector, Installation.create(tmp_path_factory.mktemp("traced")) as site:
        with site.start(extra=collector.settings) as server, server.connect() as client:
            tpm = site.listed_device("SN-TRACED")
            request = tpm.enroll_request(server_name="localhost")
            challenge = Challenge.decode(client.begin(tpm).body)
            answer = tpm.answer(challenge, anchor_sha256=server.anchor_sha256, server_name="localhost")
            assert client.activate(challenge.enrollment_id, answer.encode()).status == 200
            assert client.begin(site.tpm()).code == "not-expected"
        # The server has ended, and has sent what it had.
        secrets = {
            "enrollment id": unb64(challenge.enrollment_id, field="id"),
            "nonce": challenge.nonce,
            "credential": challenge.credential_blob,
            "encrypted secret": challenge.encrypted_secret,
            "secret": answer.secret,
            "csr": answer.csr,
            "certify": answer.certify.attest,
            "ek certificate": request.ek_certificates[0],
            "ak": request.ak_public,
        }
        yield Enrolled(collector, secrets)


def test_an_enrollment_is_a_tree(enrolled: Enrolled) -> None:
    root = enrolled.collector.root("POST /v1/enrollments/{id}/activation")
    assert enrolled.collector.tree(root) == [
        (0, "POST /v1/enrollments/{id}/activation"),
        (1, "activation"),
        (2, "verify"),
        (2, "issue"),
        (2, "commit"),
    ]
    assert root.kind == Span.SPAN_KIND_SERVER
    told = attributes(root)
    assert (told["http.route"], told["http.response.status_code"]) == ("/v1/enrollments/{id}/activation", 200)
    by_name = {one.name: attributes(one) for one in enrolled.collector.spans if one.trace_id == root.trace_id}
    assert by_name["activation"]["birthmark.device_id"] == "dev-sn-traced"
    assert by_name["issue"]["birthmark.profile"] == "idevid"
    assert len(str(by_name["issue"]["birthmark.serial_number"])) == 32
    assert enrolled.collector.resources[0]["service.name"] == "birthmark"


def test_a_refusal_is_told_by_its_code_and_not_by_its_words(enrolled: Enrolled) -> None:
    refused = [one for one in enrolled.collector.spans if attributes(one).get("error.type") == "not-expected"]
    assert [one.name for one in sorted(refused, key=_began)] == ["POST /v1/enrollments", "enrollment"]
    assert all(not one.status.message and not one.events for one in enrolled.collector.spans)


def test_nothing_that_was_sent_or_drawn_is_in_it(enrolled: Enrolled) -> None:
    said = b"".join(enrolled.collector.raw)
    assert b"dev-sn-traced" in said
    for name, secret in enrolled.secrets.items():
        piece = secret[-24:]
        forms = piece, piece.hex().encode(), b64(secret).encode()[:24], base64.b64encode(secret)[:24]
        assert not any(form in said for form in forms), name
    assert {key for one in enrolled.collector.spans for key in attributes(one)} == {
        "birthmark.device_id",
        "birthmark.issuer",
        "birthmark.profile",
        "birthmark.request_id",
        "birthmark.serial_number",
        "error.type",
        "http.request.method",
        "http.response.status_code",
        "http.route",
    }


def test_a_campaign_s_look_and_its_command_are_spans_and_go_over_https_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")  # of no concern to us
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with Installation.create(tmp_path) as site, collecting(site) as collector:
        path = site.settings(extra=collector.settings, broker=site.broker_lines(8883))
        settings = settings_file.load(path)
        tracer = open_tracer(settings.tracing, replica="one")
        clock = Clock()
        services = open_services(settings, now=clock, tracer=tracer)
        try:
            core = Core(site, services, clock)
            device_id = device(core).device_id
            campaigns = CampaignService(campaigns=services.campaigns, now=clock, seed=lambda: 1)
            campaigns.start("seen", (), Strategy(), by="alice")
            clock.forward(seconds=3)
            assert CampaignRunner(campaigns=services.campaigns, now=clock, tracer=tracer).run() == 1
            (job,) = services.jobs.device_jobs(device_id)
            command(core, job)
        finally:
            services.store.close()
            tracer.close()
    look, told = collector.root("campaign look"), collector.root("command")
    assert attributes(look) == {"birthmark.campaign_id": "seen", "birthmark.done": 1}
    assert attributes(told) == {"birthmark.device_id": device_id, "birthmark.job_id": job.job_id}
    assert collector.resources[0]["service.instance.id"] == "one"


def test_a_collector_that_is_down_holds_up_neither_requests_nor_the_end(tmp_path: Path) -> None:
    nobody = Collector()
    with Installation.create(tmp_path) as site:
        with site.start(extra=nobody.settings) as server:
            began = time.monotonic()
            server.enroll(site.listed_device())
            assert time.monotonic() - began < 20
            ends = time.monotonic()
        assert time.monotonic() - ends < 15


def test_off_it_is_not_even_imported() -> None:
    code = "import sys, birthmark_server.app; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_anchors_that_are_not_there_are_named(tmp_path: Path) -> None:
    settings = TracingSettings.model_validate({"endpoint": "https://x/", "anchors": str(tmp_path / "none.pem")})
    with pytest.raises(Misconfigured, match=r"none\.pem"):
        open_tracer(settings, replica="one")


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    settings = "settings.TracingSettings(endpoint='http://localhost:4318/v1/traces')"
    code = (
        "import sys; sys.modules['opentelemetry'] = None; from birthmark_server import settings, tracing\n"
        f"tracing.open_tracer({settings}, replica='one')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, capture_output=True, text=True)
    assert "pip install 'birthmark[tracing]'" in done.stderr.splitlines()[-1]
