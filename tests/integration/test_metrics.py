"""A scrape of a running server, by a certificate, as Prometheus does it."""

import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from birthmark_server import app
from birthmark_server import settings as settings_file
from birthmark_server.domain import CertificateProfile
from birthmark_server.meters import Meters
from birthmark_server.web.broker_metrics import BrokerGauges
from support.rotating_live import broker_of
from support.scraped import scraped
from support.server import Clock, Installation, Server

pytestmark = pytest.mark.parts


def value(server: Server, by: object, name: str, **labels: str) -> float:
    """What a scrape shows under that name and those labels; 0 where it does not."""
    reply = server.ask("GET", "/metrics", by=by)  # type: ignore[arg-type]
    assert reply.status == 200, reply.body
    return sum(
        sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_a_scrape_tells_of_a_birth_and_of_a_refusal_to_operators_alone(tmp_path: Path) -> None:
    with Installation.create(tmp_path) as site, site.start() as server:
        viewer = site.infra(CertificateProfile.VIEWER, "prometheus")
        known, stranger = site.listed_device(), site.tpm()
        server.enroll(known)
        with server.connect() as client:
            assert client.begin(stranger).status == 403
        assert value(server, viewer, "birthmark_requests_total", route="POST /v1/enrollments", status="201") == 1
        assert value(server, viewer, "birthmark_refusals_total", door="enrollment") == 1
        assert value(server, viewer, "birthmark_request_seconds_count", route="POST /v1/enrollments") == 2
        assert value(server, viewer, "birthmark_devices", state="active") in (0, 1)  # as of the last look
        assert server.ask("GET", "/no/such/thing", by=viewer).status == 404
        assert value(server, viewer, "birthmark_requests_total", route="none", status="404") == 1
        assert server.ask("GET", "/metrics").code == "certificate-required"
        station = site.infra(CertificateProfile.STATION, "line-1")
        assert server.ask("GET", "/metrics", by=station).code == "certificate-misused"


def test_a_real_broker_is_shown_as_long_as_its_gate_answers(tmp_path: Path) -> None:
    with Installation.create(tmp_path) as site, broker_of(site) as broker:
        lines = site.broker_lines(broker.port)
        with site.services(Clock(), broker=lines) as services:
            engine = app._rotation_engine(settings_file.load(site.settings(broker=lines)), services)
            gauges = BrokerGauges(engine, deny_version=broker.deny.version)
            engine.start()
            try:
                until = time.monotonic() + 20
                while not engine.live and time.monotonic() < until:
                    time.sleep(0.05)
                gauges.refresh()
                shown = scraped(Meters(), gauges)
                assert shown["birthmark_broker_answers", "broker"] == 1
                assert 0 < shown["birthmark_broker_round_trip_seconds", "broker"] < 20
                assert shown["birthmark_broker_connections", "broker"] == 1  # ours
                assert shown["birthmark_broker_lease_seconds", "broker"] > 0
                assert shown["birthmark_broker_open", "broker"] == 1
                assert shown["birthmark_broker_deny_behind", "broker"] == 0
                broker.stop()
                gauges.refresh()
                shown = scraped(Meters(), gauges)
                assert shown["birthmark_broker_answers", "broker"] == 0
                assert ("birthmark_broker_lease_seconds", "broker") not in shown
            finally:
                engine.stop()
