"""Two stations at two servers on one PostgreSQL: no serial number is anybody else's, and no device is there twice."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from birthmark_server.domain import CertificateProfile
from birthmark_server.factory.desk import FactoryRefused
from birthmark_server.factory.serials import SerialPool
from birthmark_server.factory.values import SerialBlock
from support.ports import free_port
from support.postgres import fresh_database, postgres_server
from support.server import MODEL, Installation, Server
from support.stations import StationHere, close_desks, entry_of

pytestmark = pytest.mark.parts

LIMITS = "[limits]\nrequests_per_s = 10000\nburst = 10000\n"
QUANTITY = 200


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    with (
        postgres_server() as cluster,
        fresh_database(cluster) as url,
        Installation.create(tmp_path_factory.mktemp("two-stations"), database_url=url) as site,
        site.start(extra=LIMITS) as one,
        site.start(extra=LIMITS, port=free_port()) as two,
    ):
        yield one, two
    close_desks()


def make_order(server: Server, name: str, serials: str) -> str:
    carol = server.site.infra(CertificateProfile.FACTORY, f"carol-{name.lower()}")
    body = {"name": name, "model": MODEL.name, "quantity": QUANTITY, "serials": serials, "open_for_s": 3600}
    data = json.dumps(body).encode()
    reply = server.ask("POST", "/v1/workorders", data, by=carol, content_type="application/json")
    assert reply.status == 201, reply.body
    return name


def test_blocks_that_two_stations_take_of_two_servers_at_once_never_overlap(
    servers: tuple[Server, Server],
) -> None:
    site = servers[0].site
    order = make_order(servers[0], "WO-TWO", "TWO-{:04}-{c}@1")
    desks = [
        StationHere.create(site, f"line-{number}", site.folder).desk(server) for number, server in enumerate(servers)
    ]

    def take(number: int) -> SerialBlock | None:
        try:
            return desks[number % 2].take_serials(order, 7, request=f"request-{number}")
        except FactoryRefused as refused:
            if refused.server_code != "serials-exhausted":
                raise
            return None

    with ThreadPoolExecutor(8) as pool:
        blocks = [block for block in pool.map(take, range(40)) if block is not None]
    assert {block.station for block in blocks} == {"line-0", "line-1"}
    places = sorted(place for block in blocks for place in range(block.first, block.first + block.count))
    assert places == list(range(QUANTITY))


def test_one_entry_brought_to_both_servers_at_once_is_one_device(servers: tuple[Server, Server]) -> None:
    site = servers[0].site
    order = make_order(servers[0], "WO-ONE", "ONE-{:04}-{c}")
    station = StationHere.create(site, "line-7", site.folder)
    desks = [station.desk(server) for server in servers]
    desks[0].take_serials(order, 1, request="line-7")
    serial, tpm = SerialPool.parse("ONE-{:04}-{c}").serial(0), site.tpm()
    jws = station.sign(entry_of(tpm, order, serial))
    with ThreadPoolExecutor(2) as pool:
        ids = list(pool.map(lambda desk: desk.bring_entry(jws), desks))
    assert ids == [serial.lower()] * 2
    assert [line.batch for line in site.store.list_manifest()] == [order]
    servers[1].enroll(tpm)
    standing = desks[0].device(serial)
    assert standing is not None
    assert standing.device_id == serial.lower()
