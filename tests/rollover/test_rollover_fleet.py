"""A Fleet CA is replaced: real servers, Mosquitto with our gate, devices over MQTT, the command line."""

import json
import socket
import time
from collections.abc import Callable

import pytest
from cryptography import x509

from birthmark_server.ca.profile import CaKind
from birthmark_server.domain import RevocationReason
from birthmark_server.store.sql.store import SqlStore
from birthmark_wire import jws
from birthmark_wire.trust import TRUST_PATH, TRUST_TYPE, TrustBundle
from rollover.conftest import Ca
from support.mosquitto import Broker
from support.rotating_live import LiveDevice, born, broker_of, connected
from support.server import Installation, Server

pytestmark = pytest.mark.parts

OLD, NEW = "fleet-2025", "fleet-2027"


def until(condition: Callable[[], object], timeout_s: float = 30) -> bool:
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up:
        if condition():
            return True
        time.sleep(0.1)
    return bool(condition())


def store_of(site: Installation) -> SqlStore:
    assert isinstance(site.store, SqlStore)
    return site.store


def lines(site: Installation, broker: Broker) -> str:
    return site.broker_lines(broker.port) + site.deny_lines(broker.deny.path)


def issuer_of(one: LiveDevice) -> str:
    """The name of the CA that issued the certificate in use."""
    name = one.device.identity.certificate.issuer
    return str(name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def issued_below(site: Installation, name: str) -> int:
    return store_of(site).authorities.count_leaves(_sha256(site, name), at=site.pki.now)


def bundle_at(server: Server) -> TrustBundle:
    reply = server.ask("GET", TRUST_PATH)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/jose")
    return TrustBundle.decode(jws.decode(reply.body, message_type=TRUST_TYPE).payload)


def campaign_done(ca: Ca, name: str) -> bool:
    done = ca.run("campaign", "show", name, "--json")
    return done.status == 0 and json.loads(done.out)["campaign"]["state"] == "done"


def test_a_fleet_ca_is_replaced_and_nobody_is_stranded(site: Installation, ca: Ca) -> None:
    with broker_of(site) as broker:
        there = lines(site, broker)
        with site.start(broker=there) as server:
            devices = [born(site, server, broker, f"SN-{number}") for number in range(4)]
            *awake, sleeper = devices
            assert server.ask("GET", TRUST_PATH).status == 404
            site.pki.add(CaKind.FLEET, label="2027")
            assert ca.states()[NEW] == "new"
            assert (
                "fleet-2027 is new; to activate one, it must be staged or superseded"
                in ca("activate", NEW, status=73).err
            )
            ca("stage", NEW)
            # A server that runs has not read the folder since: who would break is named.
            assert until(lambda: ca.told("status", NEW)["brokers"])
            refused = ca("activate", NEW, status=73).err
            assert f"server {_server_name(site)} has not loaded it: it reads its CA folder when it starts" in refused
            assert until(lambda: server.ask("GET", TRUST_PATH).status == 200)
            assert bundle_at(server).version == 1
        with site.start(broker=there) as server, connected(awake):
            changes = ca("status", NEW, "--watch", "--json").out.splitlines()
            assert json.loads(changes[-1])["ready"] is True
            gone = store_of(site).authorities
            assert until(lambda: [gone.trust_of(one.device.device_id) for one in awake] == [1, 1, 1])
            bundle = bundle_at(server)
            assert len(bundle.issuers) == 3
            assert awake[0].device.bundle == bundle
            assert issuer_of(awake[0]).endswith("2025")

            ca("activate", NEW)
            assert ca.states() | {NEW: "active", OLD: "superseded"} == ca.states()
            assert bundle_at(server).version == 1  # devices and brokers need not hear of it
            time.sleep(2)
            late = born(site, server, broker, "SN-LATE")
            assert issuer_of(late).endswith("2027")

            assert ca.run("campaign", "start", "roll", "--issued-by", OLD).status == 0
            assert until(lambda: all(issuer_of(one).endswith("2027") for one in awake))
            assert until(lambda: issued_below(site, OLD) == 1), ca("status", OLD).out
            refused = ca("retire", OLD, status=73).err
            assert f"{OLD} can't be retired yet: 1 certificate below it stands, neither" in refused
            assert f"birthmark ca status {OLD}" in refused
            assert f"ldevid of {sleeper.device.device_id}" in refused
            assert sleeper.device.device_id in ca("status", OLD).out

            with connected([sleeper]):  # its hello brings it the bundle, and its job
                assert until(lambda: issued_below(site, OLD) == 0), ca("status", OLD).out
                assert issuer_of(sleeper).endswith("2027")
                assert until(lambda: campaign_done(ca, "roll"))
                ca("retire", OLD)
                assert until(lambda: gone.trust_of(sleeper.device.device_id) == 2)
                assert until(lambda: set(_broker(ca)) == {NEW, "infra-2025"}), _broker(ca)
            assert ca.run("device", "list", "--issued-by", OLD).status in (0, 1)


def test_each_step_is_undone(site: Installation, ca: Ca) -> None:
    with broker_of(site) as broker:
        with site.start():  # the record begins before the new CA is there
            pass
        site.pki.add(CaKind.FLEET, label="2027")
        with site.start(broker=lines(site, broker)) as server:
            one = born(site, server, broker, "SN-1")
            with connected([one]):
                assert ca.states() | {OLD: "active", NEW: "new"} == ca.states()
                for _ in range(2):
                    ca("stage", NEW)
                    assert until(lambda: NEW in _broker(ca))
                    ca("withdraw", NEW)
                    assert until(lambda: NEW not in _broker(ca))
                ca("stage", NEW)
                ca("status", NEW, "--watch")
                ca("activate", NEW)
                assert issuer_of(born(site, server, broker, _serial())).endswith("2027")
                ca("activate", OLD)
                assert issuer_of(born(site, server, broker, _serial())).endswith("2025")
                assert "neither expired nor revoked: ldevid of dev-sn-" in ca("retire", NEW, status=73).err
                for each in store_of(site).authorities.page_leaves(_sha256(site, NEW), at=site.pki.now):
                    reason = RevocationReason.SUPERSEDED
                    site.store.revoke_certificate(each.sha256, reason=reason, at=site.pki.now, by="alice")
                ca("retire", NEW)
                assert until(lambda: NEW not in _broker(ca))
                assert (
                    f"{NEW} is retired; to activate one, it must be staged or superseded"
                    in ca("activate", NEW, status=73).err
                )
                ca("restore", NEW)
                assert ca.states()[NEW] == "superseded"
                assert until(lambda: NEW in _broker(ca))
                version = ca.told("status", NEW)["version"]
                assert version == 7
                assert until(lambda: store_of(site).authorities.trust_of(one.device.device_id) == version)
                said = ca("status", NEW).out
                assert "activate by local:" in said
                assert "quorum 100 %, 0 did not know it" in said


def _serial() -> str:
    return f"SN-{time.monotonic_ns()}"


def _sha256(site: Installation, name: str) -> str:
    return next(one.sha256 for one in store_of(site).authorities.list_authorities() if one.name == name)


def _broker(ca: Ca) -> list[str]:
    """The names of the CAs by which the broker goes, as it last said."""
    known = {one["sha256"]: one["name"] for one in ca.told("list")}
    names = [known[one] for one in known if not _missing(ca, known[one])]
    return [name for name in names if name.startswith(("fleet", "infra"))]


def _missing(ca: Ca, name: str) -> bool:
    return any(one["missing"] for one in ca.told("status", name)["brokers"])


def _server_name(site: Installation) -> str:
    return f"{socket.gethostname()} 127.0.0.1:{site.port}"
