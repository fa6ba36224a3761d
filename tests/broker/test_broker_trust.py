"""A root is replaced under a Mosquitto that runs: who gets in by which chain, and what the control makes of a gate that
can't follow."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.broker.control import MosquittoControl, await_issuers
from birthmark_server.broker.errors import BrokerUnavailable
from birthmark_server.broker.link import BrokerLink
from birthmark_server.broker.trust_files import IssuersInForce, TrustSet, fingerprint
from support.broker_pki import BrokerPki, Ca, Leaf
from support.gate_site import Site

pytestmark = pytest.mark.parts


def ignore(device_id: str, leaf: str, payload: bytes, at: datetime) -> None:
    """Hear a message, and do nothing."""


@pytest.fixture
def control(site: Site) -> Iterator[MosquittoControl]:
    """A control over a link of its own."""
    link = BrokerLink(
        host="localhost",
        port=site.broker.port,
        client_id="srv-control",
        context=site.pki.client_context(site.pki.control()),
        on_message=ignore,
    )
    link.start()
    assert link.wait_live(10)
    yield MosquittoControl(link=link, deny_file=site.broker.deny)
    link.stop()


def with_link(leaf: Leaf, old: Ca, new: Ca) -> Leaf:
    """Return the leaf with NewWithOld behind its chain."""
    chain = leaf.chain.with_suffix(".linked.pem")
    chain.write_bytes(leaf.chain.read_bytes() + old.link(new).public_bytes(Encoding.PEM))
    return replace(leaf, chain=chain)


def test_a_device_below_a_new_root_gets_in_by_its_link_where_mosquitto_knows_the_old_root_alone(
    site: Site, control: MosquittoControl
) -> None:
    pki, old, new = site.pki, site.pki.root, Ca.make("Test Root")
    fleet = Ca.make("Test Fleet CA", parent=new)  # the names are the same: keys tell them apart
    bare = pki.device("dev-1", ca=fleet)
    linked = with_link(bare, old, new)
    assert site.client(linked, "dev-1").connect().refused  # before: TLS lets it pass, the gate does not
    site.broker.wait_log("refused connect: reason=unknown-issuer id=dev-1 ")
    seen = control.update_trust(
        roots=[new.certificate, old.certificate],
        fleet=[fleet.certificate, pki.fleet.certificate],
        infra=[pki.infra.certificate],
        links=[old.link(new), new.link(old)],
    )
    assert fingerprint(fleet.certificate) in seen.fleet
    assert site.client(bare, "dev-1").connect().refused  # Mosquitto has not read its cafile again
    with site.connected(linked, "dev-1") as device:
        assert device.up
    with site.connected(pki.device("dev-2"), "dev-2") as device:
        assert device.up
    site.broker.stop()
    site.broker.start()
    for leaf in (bare, linked):
        with site.connected(leaf, "dev-1") as device:
            assert device.up
    with site.connected(pki.device("dev-2"), "dev-2") as device:
        assert device.up


def test_a_link_that_the_old_root_did_not_sign_opens_nothing(site: Site, control: MosquittoControl) -> None:
    pki, new, stranger = site.pki, Ca.make("Test Root"), Ca.make("Test Root")
    fleet = Ca.make("Test Fleet CA", parent=new)
    control.update_trust(
        roots=[new.certificate, pki.root.certificate],
        fleet=[fleet.certificate, pki.fleet.certificate],
        infra=[pki.infra.certificate],
    )
    for signer in (stranger, pki.fleet):
        forged = with_link(pki.device("dev-1", ca=fleet), signer, new)
        assert site.client(forged, "dev-1").connect().refused


def test_a_gate_that_can_not_read_its_files_is_named(site: Site, control: MosquittoControl) -> None:
    path = site.broker.settings.folder / "fleet-ca.pem"
    before, good = control.issuers(), path.read_bytes()
    path.write_text("garbage")
    site.broker.wait_log("the CA certificates in force stay")
    seen = control.issuers()
    assert seen == IssuersInForce(before.fleet, before.infra, stale=True)
    with pytest.raises(BrokerUnavailable, match="its log says why"):
        await_issuers(control._link, before, timeout_s=0.3)
    path.write_bytes(good)
    assert await_issuers(control._link, before) == before


def test_what_would_not_change_is_not_written_again(pki: BrokerPki, tmp_path: Path) -> None:
    given = TrustSet.checked(roots=[pki.root.certificate], fleet=[pki.fleet.certificate], infra=[pki.infra.certificate])
    given.install(tmp_path)
    files = {path: path.stat().st_ino for path in tmp_path.glob("*.pem")}
    given.install(tmp_path)
    assert {path: path.stat().st_ino for path in tmp_path.glob("*.pem")} == files
    assert {path.name for path in files} == {"ca-bundle.pem", "fleet-ca.pem", "infra-ca.pem"}
