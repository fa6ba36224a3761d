"""Three servers on one PostgreSQL behind HAProxy, configured by the guide itself; one is killed in the middle of a
campaign, enrollments, renewals and operators' requests: nothing is lost, nothing is done twice."""

import http.client
import json
import signal
import ssl
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from birthmark_server.campaigns import CampaignState, Count, Strategy
from birthmark_server.domain import DeviceState
from birthmark_server.fleet import DeviceFilter
from birthmark_server.roles import PROFILE_OF, Role
from birthmark_server.rotation.campaigning import CampaignService
from birthmark_server.store.sql.store import SqlStore
from birthmark_wire.enrollment import Challenge, EnrollResult
from support.balancer import running_balancer
from support.pki import Leaf
from support.ports import free_port
from support.postgres import fresh_database, postgres_server
from support.rotating_live import LiveDevice, born, broker_of, connected
from support.server import MODEL, Client, Identity, Installation, Reply, Server, now
from support.software_tpm import SoftwareTpm

pytestmark = pytest.mark.parts

NAMES = ("one", "two", "three")
SETTINGS = """
[limits]
requests_per_s = 10000
burst = 10000
[est]
most_per_day = 1000
[crl]
listen = "127.0.0.1:{crl_port}"
"""


@dataclass
class Plant:
    """Three servers, and the front door that leads to any of them."""

    site: Installation
    servers: list[Server]
    door: Server
    crl_port: int
    broker_port: int
    campaigns: CampaignService


@contextmanager
def _may_be_killed(site: Installation, **settings: Any) -> Iterator[Server]:
    """Start a server; one that was killed need not end well."""
    running = site.start(**settings)
    server = running.__enter__()
    try:
        yield server
    finally:
        killed = server.process.poll() == -signal.SIGKILL
        with suppress(AssertionError) if killed else nullcontext():
            running.__exit__(None, None, None)


@contextmanager
def plant(folder: Path) -> Iterator[tuple[Plant, Callable[[str], LiveDevice]]]:
    """All of it, and a way to have a device born there."""
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres_server())
        url = stack.enter_context(fresh_database(cluster))
        site = stack.enter_context(Installation.create(folder, database_url=url))
        broker = stack.enter_context(broker_of(site))
        ports, crl_ports = [free_port() for _ in NAMES], [free_port() for _ in NAMES]
        servers = []
        for name, port, crl_port in zip(NAMES, ports, crl_ports, strict=True):
            running = _may_be_killed(
                site,
                port=port,
                extra=SETTINGS.format(crl_port=crl_port),
                server='proxy_protocol_from = ["127.0.0.1"]',
                broker=site.broker_lines(broker.port, replica=name),
            )
            servers.append(stack.enter_context(running))
        balancer = stack.enter_context(running_balancer(folder, site, ports=ports, crl_ports=crl_ports))
        door = replace(servers[0], port=balancer.port)
        assert isinstance(site.store, SqlStore)
        campaigns = CampaignService(campaigns=site.store.campaigns, now=now, seed=lambda: 1)
        here = Plant(site, servers, door, balancer.crl_port, broker.port, campaigns)
        yield here, lambda serial: born(site, door, broker, serial)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plant, Callable[[str], LiveDevice]]]:
    with plant(tmp_path_factory.mktemp("plant")) as made:
        yield made


def test_who_was_refused_is_known_by_their_own_address(running: tuple[Plant, Callable[[str], LiveDevice]]) -> None:
    here, _ = running
    context = ssl.create_default_context(cafile=str(here.site.pki.root_pem))
    for address in ("127.0.0.2", "127.0.0.3"):
        connection = http.client.HTTPSConnection(
            "localhost", here.door.port, context=context, timeout=20, source_address=(address, 0)
        )
        assert Client(connection).begin(here.site.tpm()).code == "not-expected"
        connection.close()
    refused = here.site.store.list_refusals(code="not-expected")
    assert {one.source for one in refused} == {"127.0.0.2", "127.0.0.3"}


def test_crls_come_through_it_too(running: tuple[Plant, Callable[[str], LiveDevice]]) -> None:
    here, _ = running
    name = here.site.pki.authority.fleet.name
    for _ in NAMES:  # each of the three in turn
        with urllib.request.urlopen(f"http://localhost:{here.crl_port}/pki/crl/{name}.crl", timeout=20) as answer:
            assert x509.load_der_x509_crl(answer.read()).issuer == here.site.pki.authority.fleet.certificate.subject
    connection = http.client.HTTPConnection("localhost", here.crl_port, timeout=20, source_address=("127.0.0.4", 0))
    connection.request("GET", f"/pki/crl/{name}.crl")
    assert connection.getresponse().status == 200
    connection.close()
    assert sum("caller=127.0.0.4" in server.log for server in here.servers) == 1


@dataclass
class Asker:
    """Somebody who asks until there is an answer, over one connection for as long as it holds."""

    door: Server
    by: Identity | Leaf | None = None
    broken: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)
    _client: Client | None = None

    def connect(self) -> Client:
        if self._client is None:
            self._client = self._stack.enter_context(self.door.connect(self.by))
        return self._client

    def close(self) -> None:
        self._stack.close()
        self._client = None

    def ask(self, send: Callable[[Client], Reply]) -> Reply:
        """The very same request again after a broken connection, or while the first one may be under way."""
        give_up = time.monotonic() + 90
        while time.monotonic() < give_up:
            try:
                reply = send(self.connect())
            except (OSError, http.client.HTTPException):
                self.broken += 1
                self.close()
                time.sleep(0.05)
                continue
            if reply.status == 409 and reply.code == "idempotency-key-in-use":
                time.sleep(1)
                continue
            return reply
        raise AssertionError("no answer for 90 s")


@dataclass
class Load:
    """What goes on while a server is killed; each kind in a thread of its own, until `over`."""

    here: Plant
    officers: list[Asker]
    renewing: LiveDevice
    tpms: list[SoftwareTpm]
    over: threading.Event = field(default_factory=threading.Event)
    killed: threading.Event = field(default_factory=threading.Event)
    enrolled: list[x509.Certificate] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)
    renewed: list[x509.Certificate] = field(default_factory=list)
    lost_renewals: int = 0
    failures: list[BaseException] = field(default_factory=list)

    def threads(self) -> list[threading.Thread]:
        work = [self.enroll, self.renew, *(lambda who=who: self.open_batches(who) for who in self.officers)]
        return [threading.Thread(target=self._watched, args=(each,)) for each in work]

    def _watched(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the test's own thread shall hear of it
            self.failures.append(error)

    def enroll(self) -> None:
        """Half of them before a server is killed, half of them after."""
        client = Asker(self.here.door)
        for number, tpm in enumerate(self.tpms):
            if number == len(self.tpms) // 2:
                self.killed.wait(60)
            begun = client.ask(lambda one, tpm=tpm: one.begin(tpm))  # type: ignore[misc]
            assert begun.status == 201, begun.body
            challenge = Challenge.decode(begun.body)
            answer = tpm.answer(challenge, anchor_sha256=self.here.door.anchor_sha256, server_name="localhost").encode()
            ended = client.ask(lambda one: one.activate(challenge.enrollment_id, answer))  # noqa: B023 - asked at once
            assert ended.status == 200, ended.body
            self.enrolled.append(x509.load_der_x509_certificate(EnrollResult.decode(ended.body).chain[0]))
        client.close()

    def renew(self) -> None:
        device = self.renewing.device
        while not self.over.is_set():
            try:
                ldevid = self.here.door.renew(device.tpm, device.identity, device.device_id)
            except (OSError, http.client.HTTPException):
                self.lost_renewals += 1
                continue
            self.renewed.append(ldevid.certificate)
            device.identity = ldevid

    def open_batches(self, officer: Asker) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            name = f"{officer.by.certificate.serial_number % 997}-{number}"  # type: ignore[union-attr]
            body = {"name": name, "model": MODEL.name, "quota": 5, "open_for_s": 3600}
            sent = json.dumps(body).encode()

            def post(one: Client, sent: bytes = sent, name: str = name) -> Reply:
                return one.ask(
                    "POST", "/v1/batches", sent, content_type="application/json", Idempotency_Key=f"open-{name}"
                )

            reply = officer.ask(post)
            assert reply.status == 201 or (reply.status, reply.code) == (409, "already-exists"), reply.body
            self.batches.append(name)
            time.sleep(0.02)
        officer.close()


def wait(condition: Callable[[], bool], timeout_s: float = 80) -> bool:
    give_up = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.timeout(240)
def test_one_of_three_is_killed_and_nothing_is_lost_or_done_twice(
    running: tuple[Plant, Callable[[str], LiveDevice]],
) -> None:
    here, bear = running
    site, store = here.site, here.site.store
    assert isinstance(store, SqlStore)
    devices = [bear(f"SN-{number}") for number in range(6)]
    renewing = bear("SN-RENEWS")
    officers = [Asker(here.door, site.infra(PROFILE_OF[Role.SECURITY_OFFICER], f"officer-{n}")) for n in range(3)]
    for officer in officers:
        assert officer.ask(lambda one: one.ask("GET", "/v1/status")).status == 200  # one connection to each server
    tpms = [site.listed_device(f"SN-BORN-{number}") for number in range(8)]
    load = Load(here, officers, renewing, tpms)
    threads = load.threads()
    with connected(devices):
        ids = tuple(one.device.device_id for one in devices)
        here.campaigns.start("felt", (DeviceFilter(device_ids=ids),), Strategy(canaries=1, most_at_once=2), by="alice")
        for thread in threads:
            thread.start()
        midway = wait(lambda: here.campaigns.view("felt").total.done >= 2 and len(load.enrolled) >= 4)
        here.servers[0].process.kill()
        load.killed.set()
        before = here.campaigns.view("felt").total.done
        ended = wait(lambda: here.campaigns.view("felt").campaign.state is CampaignState.DONE)
        ended = wait(lambda: len(load.enrolled) + len(load.failures) >= len(tpms)) and ended
        load.over.set()
        for thread in threads:
            thread.join(60)
    assert load.failures == []
    assert midway
    assert before < len(devices), "it was over before a server was killed: that proves nothing"
    assert ended, here.campaigns.view("felt")
    # the campaign: each device once
    assert here.campaigns.view("felt").total == Count(done=len(devices))
    for one in devices:
        assert len(store.jobs.device_jobs(one.device.device_id)) == 1
        assert len(store.device_certificates(one.device.device_id)) == 3  # birth, first, rotated
    events = Counter(str(one.event) for one in here.campaigns.happenings("felt"))
    assert events == {"started": 1, "finished": 1}
    # enrollments: each device once, with one birth certificate, the one that it was given
    assert len(load.enrolled) == len(tpms)
    for number, certificate in enumerate(load.enrolled):
        (record,) = store.device_certificates(f"dev-sn-born-{number}")
        assert int(record.serial_number, 16) == certificate.serial_number
    assert store.count_devices()[DeviceState.ACTIVE] == len(devices) + 1 + len(tpms)
    # renewals: all that were answered are on record, and of those that were not at most one each
    known = {int(record.serial_number, 16) for record in store.device_certificates("dev-sn-renews")}
    assert {certificate.serial_number for certificate in load.renewed} <= known
    assert len(load.renewed) + 2 <= len(known) <= len(load.renewed) + 2 + load.lost_renewals
    # operators' requests: each asked until it was answered, each done once
    assert sum(officer.broken for officer in officers) >= 1, "no officer's connection was to the server that was killed"
    opened = [batch.name for batch in store.list_batches()]
    assert sorted(opened) == sorted(load.batches)
    assert len(set(load.batches)) == len(load.batches) > 20
