"""What is told outside the database is on its disk first: acts that reach the broker are not part of a batch."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from birthmark_server.ca.authority import Authority
from birthmark_server.domain import BoardSwap, CertificateProfile, CertificateRecord, RevocationReason
from birthmark_server.errors import Misconfigured
from birthmark_server.meters import Meters
from birthmark_server.roles import Role
from birthmark_server.rollover.service import RolloverService
from birthmark_server.rotation.campaigning import CampaignService
from birthmark_server.settings import LimitSettings
from birthmark_server.store.errors import StoreFailed
from birthmark_server.store.sql.store import SqlStore
from birthmark_server.web.api.authorities import AUTHORITIES
from birthmark_server.web.api.routes import operator_routes
from birthmark_server.web.api.store_desk import StoreDesk
from birthmark_server.web.app import HttpShell, Peers
from birthmark_server.web.doors import Router
from birthmark_server.web.workers import Workers
from store.values import FOREVER, ISSUER, MODEL, bear, certificate, ek
from store.world import World, world

TAKEN = (
    "SELECT (SELECT count(*) FROM certificates WHERE revoked_at_us IS NOT NULL)"
    " + (SELECT count(*) FROM devices WHERE state = 'quarantined')"
)
ALICE = b"the DER of alice's certificate"


class Told:
    """The broker, as far as the desk knows it: at each telling it looks what is on the disk."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self.seen: list[int] = []

    def cut_off(self, _revoked: Iterable[CertificateRecord], _device_ids: Iterable[str] = ()) -> str:
        with sqlite3.connect(self._database, timeout=0) as other:
            self.seen.extend(other.execute(TAKEN).fetchone())
            other.execute("BEGIN IMMEDIATE")  # nobody waits for the broker with the database locked
        return ""

    def let_back(self, device_id: str) -> str:
        return self.cut_off((), [device_id])


def no_authority(_with_keys: bool) -> Authority:
    raise Misconfigured("no CA folder here")


def serve(
    store: SqlStore,
    broker: Told,
    request: bytes,
    together: Callable[[], AbstractContextManager[object]] | None = None,
) -> bytes:
    """Answer one HTTP request of alice's, a fleet operator, as the server does. together: for the store's own."""

    def desk(by: str, role: Role) -> StoreDesk:
        campaigns = CampaignService(campaigns=store.campaigns, now=utc_now, seed=int)
        rollover = RolloverService(store=store.authorities, authority=lambda: no_authority(False), now=utc_now)
        return StoreDesk(
            store,
            campaigns=campaigns,
            workorders=store.workorders,
            authority=no_authority,
            broker=broker,
            rollover=rollover,
            by=by,
            role=role,
            now=utc_now,
        )

    async def main() -> bytes:
        with Workers(1, together=together or store.together) as workers:
            shell = HttpShell(
                router=Router(operator_routes(desk, store, now=utc_now)),
                store=store,
                issuers=lambda: {ISSUER},
                limits=LimitSettings.model_validate({}),
                workers=workers,
                meters=Meters(),
                now=utc_now,
            )
            listener = shell.listener(Peers(lambda _: ALICE, lambda _: "192.0.2.1"))
            server = await asyncio.get_running_loop().create_server(listener, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(request)
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            await listener.shutdown(1)
            server.close()
        return answer

    return asyncio.run(main())


def utc_now() -> datetime:
    return datetime.now(UTC)


def test_no_act_on_an_authority_is_part_of_a_batch() -> None:
    """A retirement locks the fleet, which must come first in a transaction."""
    acts = {path.rpartition("/")[2]: contract.alone for method, path, _, contract, _ in AUTHORITIES if method == "POST"}
    assert acts == dict.fromkeys(("stage", "withdraw", "activate", "retire", "restore"), True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/devices/dev-000001/revoke", '{"reason":"keyCompromise"}'),
        ("/v1/devices/dev-000001/retire", '{"note":"scrapped"}'),
        ("/v1/devices/dev-000001/quarantine", '{"note":"odd traffic"}'),
        ("/v1/denials", '{"device_id":"dev-000001","reason":"stolen"}'),
        ("/v1/certificates/CERTIFICATE/revoke", '{"reason":"keyCompromise"}'),
        ("/v1/devices/dev-000001/swap/approval", "{}"),
    ],
)
def test_the_broker_is_told_of_what_is_on_the_disk(tmp_path: Path, path: str, body: str) -> None:
    broker = Told(tmp_path / "birthmark.db")
    with world(f"sqlite:///{tmp_path}/birthmark.db", tmp_path) as it:
        store, born = _furnished(it)
        path = path.replace("CERTIFICATE", born.sha256)
        request = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        answer = serve(store, broker, f"{request}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert b" 200 " in answer[:16] or b" 201 " in answer[:16], answer
    assert broker.seen == [1]


@pytest.mark.parametrize(("act", "end"), [("quarantine", "restore"), ("revoke", "readmit")])
def test_whom_the_broker_lets_back_is_on_the_disk(tmp_path: Path, act: str, end: str) -> None:
    broker = Told(tmp_path / "birthmark.db")
    with world(f"sqlite:///{tmp_path}/birthmark.db", tmp_path) as it:
        store, born = _furnished(it)
        match act:
            case "quarantine":
                store.quarantine_device(born.device_id, at=utc_now(), by="bob")
            case _:
                store.revoke_device(born.device_id, reason=RevocationReason.UNSPECIFIED, at=utc_now(), by="bob")
        revoked = sum(one.revoked_at is not None for one in store.device_certificates(born.device_id))
        path = f"/v1/devices/{born.device_id}/{end}"
        answer = serve(store, broker, f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert b" 200 " in answer[:16], answer
    assert broker.seen == [revoked]


def test_a_model_is_never_seen_before_it_is_on_the_disk(tmp_path: Path) -> None:
    """Enrollments remember a model that they have read; one that a failed commit took back would stay with them."""
    body = '{"name":"edge-2","ek_template":"p256","require_ek_certificate":false}'

    with world(f"sqlite:///{tmp_path}/birthmark.db", tmp_path) as it:
        store, _ = _furnished(it)

        @contextmanager
        def failing() -> Iterator[None]:
            with store.together():
                yield
                raise StoreFailed("the disk is full")

        request = "POST /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        answer = serve(
            store,
            Told(tmp_path / "birthmark.db"),
            f"{request}Content-Length: {len(body)}\r\n\r\n{body}".encode(),
            failing,
        )
        assert b" 201 " in answer[:16], answer
        assert store.get_model("edge-2").added_by == "alice"


def _furnished(it: World) -> tuple[SqlStore, CertificateRecord]:
    """A store with one device, a swap of its board that bob asked for, and alice's certificate."""
    store = it.open(create=True)
    store.add_model(MODEL, by="alice")
    born = bear(store, 1)
    store.request_swap(BoardSwap(born.device_id, ek(50), "bob", utc_now()))
    alice = certificate("alice", profile=CertificateProfile.FLEET_OPERATOR, not_after=FOREVER)
    store.add_infrastructure_certificate(replace(alice, sha256=sha256(ALICE).hexdigest()), by="bob")
    return store, store.device_certificates(born.device_id)[0]
