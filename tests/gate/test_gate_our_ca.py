"""Every kind of certificate that our own CA issues, at the broker, with our own CRLs in force."""

import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from birthmark_server.ca.crl import build_crl
from birthmark_server.domain import CertificateProfile
from support.mosquitto import Broker, running_broker
from support.mqtt_client import Client
from support.pki import TRUST_DOMAIN, Leaf, Pki, make_pki

pytestmark = pytest.mark.parts


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def broker(ours: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("broker")
    certificate, key = ours.broker().write(folder, "broker")
    authority = ours.authority
    crls = tuple(
        build_crl(issuer, [], number=1, now=ours.now, next_update=ours.now + timedelta(days=7))
        for issuer in (authority.birth, authority.fleet, authority.infra)
    )
    with running_broker(
        folder / "mosquitto",
        certificate=certificate,
        key=key,
        roots=[authority.root.certificate],
        fleet=[authority.fleet.certificate],
        infra=[authority.infra.certificate],
        trust_domain=TRUST_DOMAIN,
        signer=ours.deny_signer(),
        crls=crls,
    ) as running:
        yield running


def attempt(ours: Pki, broker: Broker, leaf: Leaf, client_id: str, folder: Path) -> Client:
    """Connect with `leaf`."""
    context = ssl.create_default_context(cafile=str(ours.root_pem))
    context.load_cert_chain(*leaf.write(folder, "client"))
    return Client(broker.port, context, client_id).connect()


@pytest.mark.parametrize("tpm_backed", [True, False])
def test_a_device_is_let_in(ours: Pki, broker: Broker, tmp_path: Path, tpm_backed: bool) -> None:
    device_id = "device-1" if tpm_backed else "sw-device-1"
    client = attempt(ours, broker, ours.device(device_id, tpm_backed=tpm_backed), device_id, tmp_path)
    assert client.up
    assert client.subscribe(f"devices/{device_id}/down/#") == 1
    client.close()


def test_the_control_identity_is_let_in(ours: Pki, broker: Broker, tmp_path: Path) -> None:
    leaf = ours.infra(CertificateProfile.CONTROL, "srv-control")
    client = attempt(ours, broker, leaf, "srv-control", tmp_path)
    assert client.up
    assert client.subscribe("$share/birthmark/devices/+/up/#") == 1
    client.close()


def test_a_birth_certificate_is_refused_by_the_gate(ours: Pki, broker: Broker, tmp_path: Path) -> None:
    before = len(broker.log())
    client = attempt(ours, broker, ours.birth("SN-1"), "sn-1", tmp_path)
    assert client.refused
    broker.wait_log("refused connect: reason=unknown-issuer", after=before)
    client.close()


@pytest.mark.parametrize(
    ("profile", "name"), [(CertificateProfile.STATION, "line-1"), (CertificateProfile.OPERATOR, "alice")]
)
def test_other_clients_of_the_infrastructure_are_refused_by_the_gate(
    ours: Pki, broker: Broker, tmp_path: Path, profile: CertificateProfile, name: str
) -> None:
    before = len(broker.log())
    client = attempt(ours, broker, ours.infra(profile, name), name, tmp_path)
    assert client.refused
    assert f"id={name}" in broker.wait_log("refused connect: reason=not-control", after=before)
    client.close()


def test_servers_are_no_clients(ours: Pki, broker: Broker, tmp_path: Path) -> None:
    # Their key purpose is serverAuth, so TLS itself refuses them as clients.
    for leaf, name in ((ours.server(), "srv-server"), (ours.broker(), "srv-broker")):
        client = attempt(ours, broker, leaf, name, tmp_path)
        assert client.refused
        client.close()
