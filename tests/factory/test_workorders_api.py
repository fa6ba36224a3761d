"""Work orders at a real server: what stations ask of it, what they bring, and what it makes of it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from birthmark_server.domain import CertificateProfile, RevocationReason
from birthmark_server.factory.desk import FactoryRefused, ServerUnreachable
from birthmark_server.factory.entries import ENTRY_MIME
from birthmark_server.factory.serials import SerialPool
from birthmark_server.factory.values import WorkOrder
from birthmark_server.roles import PROFILE_OF, Role
from support.pki import Leaf
from support.ports import free_port
from support.routes import of_stations
from support.server import MODEL, Installation, Reply, Server, now
from support.stations import StationHere, close_desks, entry_of

JSON = "application/json"
PATTERN = "SN-{:06}-{c}"
LIMITS = "[limits]\nrequests_per_s = 10000\nburst = 10000\n"
NUMBERS = count(1)


@pytest.fixture(autouse=True)
def _hang_up() -> Iterator[None]:
    yield
    close_desks()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.create(tmp_path_factory.mktemp("workorders")) as installation:
        yield installation


@pytest.fixture(scope="module")
def server(site: Installation) -> Iterator[Server]:
    with site.start(extra=LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def people(site: Installation) -> dict[Role, Leaf]:
    """One operator of each role."""
    return {role: site.infra(profile, f"the-{role}") for role, profile in PROFILE_OF.items()}


@pytest.fixture(scope="module")
def station(site: Installation) -> StationHere:
    return StationHere.create(site, "line-1", site.folder)


@pytest.fixture
def order(server: Server, people: dict[Role, Leaf], station: StationHere) -> WorkOrder:
    """A work order of 20 devices."""
    reply = create(server, people[Role.FACTORY])
    assert reply.status == 201, reply.body
    return station.desk(server).workorder(json.loads(reply.body)["name"])


def create(server: Server, by: Leaf, **changes: Any) -> Reply:
    body = {
        "name": f"WO-{next(NUMBERS)}",
        "model": MODEL.name,
        "quantity": 20,
        "serials": PATTERN,
        "open_for_s": 3600,
    } | changes
    return server.ask("POST", "/v1/workorders", json.dumps(body).encode(), by=by, content_type=JSON)


def bring(server: Server, order: WorkOrder, jws: bytes, by: Leaf) -> Reply:
    return server.ask("POST", f"/v1/workorders/{order.name}/entries", jws, by=by, content_type=ENTRY_MIME)


def serial_of(order: WorkOrder, place: int) -> str:
    return SerialPool.parse(order.serials).serial(place)


# -- who may ask


@pytest.mark.parametrize("route", of_stations(), ids=lambda route: f"{route.method} {route.path}")
def test_every_door_of_stations_is_for_those_it_names(
    server: Server, site: Installation, people: dict[Role, Leaf], station: StationHere, route: Any
) -> None:
    path = route.path.replace("{id}", "nothing")
    assert server.ask(route.method, path).code == "certificate-required"
    for role, leaf in people.items():
        reply = server.ask(route.method, path, by=leaf)
        if PROFILE_OF[role] in route.door.profiles:
            assert reply.status in (400, 404, 415), (role, reply.body)
        else:
            assert reply.status == 403, role
    assert server.ask(route.method, path, by=station.leaf).status in (400, 404, 415)
    device = server.enroll(site.listed_device(f"SN-DOOR-{next(NUMBERS)}"))
    assert server.ask(route.method, path, by=device).status == 403


def test_a_station_opens_no_operators_door(server: Server, station: StationHere) -> None:
    for method, path in (("POST", "/v1/workorders"), ("GET", "/v1/workorders"), ("POST", "/v1/workorders/x/close")):
        assert server.ask(method, path, by=station.leaf).status == 403


# -- work orders and serial numbers


def test_work_orders_of_one_pattern_go_on_behind_each_other(server: Server, people: dict[Role, Leaf]) -> None:
    pattern = "GO-{:04}"
    made = [json.loads(create(server, people[Role.FACTORY], serials=pattern).body) for _ in range(2)]
    assert [one["serials"] for one in made] == ["GO-{:04}@0", "GO-{:04}@20"]
    taken = create(server, people[Role.FACTORY], serials="GO-{:04}@39")
    assert (taken.status, taken.code) == (409, "serials-taken")
    assert made[1]["name"] in taken.body.decode()
    assert b"GO-{:04}@40" in taken.body
    short = create(server, people[Role.FACTORY], serials="SHORT-{:01}")
    assert (short.status, short.code) == (403, "serial-pool-exhausted")
    assert create(server, people[Role.FACTORY], serials="no pattern").status == 400


def test_a_block_that_was_asked_for_twice_under_one_name_is_one(
    server: Server, station: StationHere, order: WorkOrder
) -> None:
    desk = station.desk(server)
    first = desk.take_serials(order.name, 5, request=f"{order.name}-1")
    assert desk.take_serials(order.name, 5, request=f"{order.name}-1") == first
    assert (first.first, first.count, first.station) == (0, 5, "line-1")
    assert desk.take_serials(order.name, 100, request=f"{order.name}-2").count == 15
    with pytest.raises(FactoryRefused, match="all its 20") as refused:
        desk.take_serials(order.name, 1, request=f"{order.name}-3")
    assert refused.value.server_code == "serials-exhausted"


# -- entries


def test_a_device_that_a_station_signed_for_is_born_for_its_work_order(
    server: Server, site: Installation, station: StationHere, order: WorkOrder, people: dict[Role, Leaf]
) -> None:
    desk, tpm = station.desk(server), site.tpm()
    desk.take_serials(order.name, 5, request=f"{order.name}-1")
    serial = serial_of(order, 0)
    with server.connect() as client:
        assert client.begin(tpm).code == "not-expected"
    jws = station.sign(entry_of(tpm, order.name, serial))
    device_id = desk.bring_entry(jws)
    assert desk.bring_entry(jws) == device_id == serial.lower()
    assert desk.device(serial) is None
    born = server.enroll(tpm)
    standing = desk.device(serial)
    assert standing is not None
    assert (standing.device_id, standing.state, standing.idevid) == (device_id, "active", born.der)
    device = site.store.get_device(device_id)
    assert (device.serial, device.batch) == (serial, order.name)
    shown = json.loads(server.ask("GET", f"/v1/workorders/{order.name}", by=people[Role.VIEWER]).body)
    assert (shown["given"], shown["entries"], shown["born"]) == (5, 1, 1)
    assert desk.device("SN-NEVER") is None


def test_a_model_that_wants_an_ek_certificate_lets_no_listed_ek_in_without(
    server: Server, site: Installation, station: StationHere, order: WorkOrder
) -> None:
    assert MODEL.require_ek_certificate
    bare = replace(site.tpm(), ek_certificates=(), ek_chain=())
    desk = station.desk(server)
    desk.take_serials(order.name, 5, request=f"{order.name}-1")
    desk.bring_entry(station.sign(entry_of(bare, order.name, serial_of(order, 0))))
    with server.connect() as client:
        assert client.begin(bare).code == "ek-certificate-missing"


def test_what_a_station_signed_an_operator_may_bring_by_hand(
    server: Server, site: Installation, station: StationHere, order: WorkOrder, people: dict[Role, Leaf]
) -> None:
    station.desk(server).take_serials(order.name, 5, request=f"{order.name}-1")
    jws = station.sign(entry_of(site.tpm(), order.name, serial_of(order, 1)))
    assert bring(server, order, jws, people[Role.VIEWER]).code == "role-not-allowed"
    brought = bring(server, order, jws, people[Role.FACTORY])
    assert brought.status == 201, brought.body
    told = json.loads(brought.body)
    assert (told["station"], told["brought_by"]) == ("line-1", "the-factory")


def test_an_entry_counts_only_as_its_station_signed_it(
    server: Server, site: Installation, station: StationHere, order: WorkOrder, people: dict[Role, Leaf]
) -> None:
    desk = station.desk(server)
    desk.take_serials(order.name, 5, request=f"{order.name}-1")
    entry = entry_of(site.tpm(), order.name, serial_of(order, 0))
    good = station.sign(entry)
    header, _, signature = good.split(b".")
    _, other_payload, _ = station.sign(replace(entry, operator="mallory")).split(b".")
    assert bring(server, order, b".".join((header, other_payload, signature)), station.leaf).code == "entry-forged"

    other = StationHere.create(site, f"line-{next(NUMBERS)}", site.folder)
    assert bring(server, order, good, other.leaf).code == "entry-of-another"
    assert bring(server, order, other.sign(entry), other.leaf).code == "serial-not-given"

    officer = StationHere.of(people[Role.SECURITY_OFFICER], site.folder)
    assert bring(server, order, officer.sign(entry), people[Role.FACTORY]).code == "not-a-station"
    stranger = StationHere.of(site.pki.infra(CertificateProfile.STATION, "nobody"), site.folder)
    assert bring(server, order, stranger.sign(entry), people[Role.FACTORY]).code == "not-a-station"

    shown = json.loads(server.ask("GET", f"/v1/workorders/{order.name}", by=station.leaf).body)
    assert shown["entries"] == 0
    assert bring(server, order, good, station.leaf).status == 201


def test_a_stations_certificate_must_be_good_when_it_signs_and_unrevoked_when_it_is_brought(
    server: Server, site: Installation, order: WorkOrder, people: dict[Role, Leaf]
) -> None:
    late = site.pki.infra(CertificateProfile.STATION, "late", now=now() - timedelta(days=2), lifetime=timedelta(days=1))
    site.store.add_infrastructure_certificate(late.record, by="alice")
    entry = entry_of(site.tpm(), order.name, serial_of(order, 0))
    expired = bring(server, order, StationHere.of(late, site.folder).sign(entry), people[Role.FACTORY])
    assert expired.code == "certificate-expired"

    gone = StationHere.create(site, "gone", site.folder)
    site.store.revoke_certificate(gone.leaf.record.sha256, reason=RevocationReason.KEY_COMPROMISE, at=now(), by="alice")
    revoked = bring(server, order, gone.sign(entry), people[Role.FACTORY])
    assert revoked.code == "station-revoked"
    with pytest.raises(FactoryRefused) as refused:
        gone.desk(server).workorder(order.name)
    assert refused.value.server_code == "certificate-revoked"


def test_duplicates_are_refused_with_what_has_them_and_are_in_the_book(
    server: Server, site: Installation, station: StationHere, order: WorkOrder
) -> None:
    desk, tpm = station.desk(server), site.tpm()
    desk.take_serials(order.name, 5, request=f"{order.name}-1")
    first, second = serial_of(order, 0), serial_of(order, 1)
    mac = "02:00:00:00:00:01"
    desk.bring_entry(station.sign(entry_of(tpm, order.name, first, mac=mac)))
    for entry, code in (
        (entry_of(site.tpm(), order.name, first), "duplicate-serial"),
        (entry_of(tpm, order.name, second), "duplicate-ek"),
        (entry_of(site.tpm(), order.name, second, mac=mac), "duplicate-mac"),
        (entry_of(site.tpm(), order.name, serial_of(order, 7)), "serial-not-given"),
        (entry_of(site.tpm(), order.name, first[:-1] + ("0" if first[-1] != "0" else "1")), "bad-serial"),
        (entry_of(site.tpm(), order.name, second, model="other"), "foreign-model"),
        (entry_of(site.tpm(), order.name, second, made_at=order.created_at + timedelta(hours=1)), "entry-out-of-time"),
    ):
        with pytest.raises(FactoryRefused) as refused:
            desk.bring_entry(station.sign(entry))
        assert refused.value.server_code == code
        (noted,) = site.store.list_refusals(code=code, limit=1)
        assert (noted.door, noted.source, noted.ek_sha256) == ("station-entry", "line-1", entry.ek_sha256)
        assert noted.detail == str(refused.value)


def test_what_is_no_entry_is_refused_as_such(
    server: Server, site: Installation, station: StationHere, order: WorkOrder
) -> None:
    entry = entry_of(site.tpm(), "another", serial_of(order, 0))
    other = bring(server, order, station.sign(entry), station.leaf)
    assert (other.status, json.loads(other.body)["field"]) == (400, "workorder")
    for body in (b"", b"a.b.c", b"\xff" * 100, station.sign(entry)[:-10]):
        assert bring(server, order, body, station.leaf).status == 400
    jws = station.sign(entry)
    wrong = server.ask("POST", f"/v1/workorders/{order.name}/entries", jws, by=station.leaf, content_type=JSON)
    assert wrong.status == 415
    with pytest.raises(FactoryRefused, match="this is no entry"):
        station.desk(server).bring_entry(b"nothing")


def test_a_server_that_does_not_answer_is_unreachable(site: Installation, server: Server, station: StationHere) -> None:
    gone = replace(server, port=free_port())
    with pytest.raises(ServerUnreachable, match="refused"):
        station.desk(gone).workorder("WO-1")


def test_a_line_of_the_manifest_is_removed_by_who_may_import_it(
    server: Server, site: Installation, people: dict[Role, Leaf]
) -> None:
    tpm = site.listed_device("SN-WRONG")
    assert server.ask("DELETE", "/v1/manifest/SN-WRONG", by=people[Role.VIEWER]).code == "role-not-allowed"
    removed = server.ask("DELETE", "/v1/manifest/SN-WRONG", by=people[Role.FACTORY])
    assert json.loads(removed.body)["ek_sha256"] == tpm.ek_sha256
    with server.connect() as client:
        assert client.begin(tpm).code == "not-expected"
    assert server.ask("DELETE", "/v1/manifest/SN-WRONG", by=people[Role.FACTORY]).code == "unknown-line"
    right = site.listed_device("SN-WRONG")
    server.enroll(right)
    assert server.ask("DELETE", "/v1/manifest/SN-WRONG", by=people[Role.FACTORY]).code == "born-already"


def test_an_expired_station_is_told_so_at_its_desk(server: Server, site: Installation, tmp_path: Path) -> None:
    old = site.pki.infra(CertificateProfile.STATION, "old", now=now() - timedelta(days=2), lifetime=timedelta(days=1))
    site.store.add_infrastructure_certificate(old.record, by="alice")
    with pytest.raises(FactoryRefused) as refused:
        StationHere.of(old, tmp_path).desk(server).workorder("WO-1")
    assert refused.value.server_code == "not-your-door"
    assert "expired" in str(refused.value)
