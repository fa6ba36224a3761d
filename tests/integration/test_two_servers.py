"""Two server processes on one PostgreSQL: either finishes what the other began, and neither does it twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from birthmark_server.domain import RevocationReason
from birthmark_wire.enrollment import Challenge
from birthmark_wire.est import BASE_PATH
from support.ports import free_port
from support.postgres import fresh_database, postgres_server
from support.server import Installation, Server, now

pytestmark = pytest.mark.parts


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    with (
        postgres_server() as cluster,
        fresh_database(cluster) as url,
        Installation.create(tmp_path_factory.mktemp("two"), database_url=url) as site,
        site.start() as one,
        site.start(port=free_port()) as two,
    ):
        yield one, two


def test_one_finishes_what_the_other_began(servers: tuple[Server, Server]) -> None:
    one, two = servers
    tpm = one.site.listed_device("SN-TWO")
    with one.connect() as client:
        challenge = Challenge.decode(client.begin(tpm).body)
    body = tpm.answer(challenge, anchor_sha256=one.anchor_sha256, server_name="localhost").encode()
    with two.connect() as client:
        first = client.activate(challenge.enrollment_id, body)
    assert first.status == 200
    with one.connect() as client:  # and gives the other's stored answer
        assert client.activate(challenge.enrollment_id, body).body == first.body


def test_the_same_answer_to_both_at_once_makes_one_certificate(servers: tuple[Server, Server]) -> None:
    one, two = servers
    tpm = one.site.listed_device("SN-RACE")
    with one.connect() as first, two.connect() as second:
        challenge = Challenge.decode(first.begin(tpm).body)
        body = tpm.answer(challenge, anchor_sha256=one.anchor_sha256, server_name="localhost").encode()
        with ThreadPoolExecutor(2) as pool:
            replies = list(pool.map(lambda c: c.activate(challenge.enrollment_id, body), (first, second)))
    assert [reply.status for reply in replies] == [200, 200]
    assert replies[0].body == replies[1].body
    assert len(one.site.store.device_certificates("dev-sn-race")) == 1


def test_a_nonce_of_one_serves_at_the_other_once(servers: tuple[Server, Server]) -> None:
    one, two = servers
    tpm = one.site.listed_device("SN-NONCE")
    idevid = one.enroll(tpm)
    with one.connect(idevid) as client:
        nonce = client.nonce()
    names = two.first_names("dev-sn-nonce")
    for expected in (200, 403):
        _, reply = two.est(tpm, idevid, "dev-sn-nonce", names, "simpleenroll", with_nonce=nonce)
        assert reply.status == expected, reply.body


def test_a_revocation_counts_at_both_at_once(servers: tuple[Server, Server]) -> None:
    one, two = servers
    idevid = one.enroll(one.site.listed_device("SN-BOTH"))
    with one.connect(idevid) as first, two.connect(idevid) as second:
        first.nonce()
        second.nonce()
        one.site.store.revoke_device("dev-sn-both", reason=RevocationReason.KEY_COMPROMISE, at=now(), by="alice")
        for client in (first, second):
            assert client.ask("GET", f"{BASE_PATH}/nonce").status == 403


def test_many_devices_at_both_doors_are_each_born_once(servers: tuple[Server, Server]) -> None:
    site = servers[0].site
    tpms = [site.listed_device(f"SN-MANY-{number}") for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        born = list(pool.map(lambda pair: servers[pair[0] % 2].enroll(pair[1]), enumerate(tpms)))
    assert len({identity.der for identity in born}) == 16
