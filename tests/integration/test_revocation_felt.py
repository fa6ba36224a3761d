"""The server beside a real broker: it keeps the lease, and what is revoked is off the broker at once."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from birthmark_server import settings as settings_file
from birthmark_server.broker.denyfile import DenyFile
from birthmark_server.cut_off import cut_off
from birthmark_server.domain import CertificateProfile
from birthmark_server.settings import Settings
from support.mosquitto import Broker, running_broker
from support.mqtt_client import Client, connected
from support.pki import Leaf
from support.server import Installation

pytestmark = pytest.mark.parts


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Installation]:
    with Installation.create(tmp_path) as made:
        yield made


@pytest.fixture
def broker(site: Installation) -> Iterator[Broker]:
    chain, key = site.pki.broker().write(site.folder, "broker")
    authority = site.pki.authority
    with running_broker(
        site.folder / "mosquitto",
        certificate=chain,
        key=key,
        roots=[authority.root.certificate],
        fleet=[authority.fleet.certificate],
        infra=[authority.infra.certificate],
        trust_domain=authority.namespace.trust_domain,
        signer=site.pki.deny_signer(),
        lease_s=900,
    ) as running:
        yield running


def broker_lines(site: Installation, broker: Broker) -> str:
    """The [broker] table of a server beside `broker`."""
    control, control_key = site.infra(CertificateProfile.CONTROL, "srv-control").write(site.folder, "control")
    signer, signer_key = site.infra(CertificateProfile.DENY_LIST, "srv-deny-list").write(site.folder, "deny-list")
    return f"""
port = {broker.port}
control = true
control_certificate = "{control}"
control_key = "{control_key}"
deny_file = "{broker.deny.path}"
deny_certificate = "{signer}"
deny_key = "{signer_key}"
"""


def settings_of(site: Installation, broker: Broker) -> Settings:
    return settings_file.load(site.settings(broker=broker_lines(site, broker)))


def context_of(site: Installation, leaf: Leaf) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(site.pki.root_pem))
    context.load_cert_chain(*leaf.write(site.folder, "device"))
    return context


def test_a_server_that_comes_back_after_an_hour_opens_the_broker_again(site: Installation, broker: Broker) -> None:
    context = context_of(site, site.pki.device("device-1"))
    hour_ago = DenyFile(broker.deny.path, signer=broker.deny.signer, clock=lambda: time.time() - 3600)
    hour_ago.renew()
    broker.wait_log("lease of deny list version 2 is over")
    refused = Client(broker.port, context, "device-1").connect()
    assert refused.refused
    refused.close()
    with site.start(broker=broker_lines(site, broker)) as server:
        broker.wait_log("the lease runs", timeout_s=30)
        with connected(broker.port, context, "device-1") as device:
            assert device.up
        assert 'event="deny lease renewed"' in server.log


def test_a_server_without_its_deny_file_writes_it_from_the_database(site: Installation, broker: Broker) -> None:
    broker.deny.path.unlink()
    with site.start(broker=broker_lines(site, broker)) as server:
        broker.wait_log("deny list version [0-9]{13} in force", timeout_s=30)
        assert 'event="deny list written anew"' in server.log


@pytest.mark.alone
def test_what_is_revoked_is_cut_at_once(site: Installation, broker: Broker) -> None:
    leaf = site.pki.device("device-2")
    context = context_of(site, leaf)
    settings = settings_of(site, broker)
    with connected(broker.port, context, "device-2") as device:
        began = time.monotonic()
        cut_off(settings, [leaf.record])
        assert device.wait_end()
        assert time.monotonic() - began < 0.5
    assert broker.deny.read().serials == {leaf.record.serial_number}
    again = Client(broker.port, context, "device-2").connect()
    assert again.refused
    again.close()
    broker.wait_log("refused connect: reason=serial-denied id=device-2")
    assert "birthmark gate: cut: reason=serial-denied id=device-2" in broker.log()


def test_a_broker_that_is_down_learns_of_a_revocation_before_it_lets_anybody_in(
    site: Installation, broker: Broker
) -> None:
    leaf = site.pki.device("device-3")
    context = context_of(site, leaf)
    broker.stop()
    cut_off(settings_of(site, broker), [leaf.record])
    broker.start()
    refused = Client(broker.port, context, "device-3").connect()
    assert refused.refused
    refused.close()
    broker.wait_log("refused connect: reason=serial-denied id=device-3")
