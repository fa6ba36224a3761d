"""HAProxy before the server, configured by the guide itself: which certificate reaches the server, and which not."""

import base64
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from birthmark_server.domain import CertificateProfile, RevocationReason
from birthmark_wire.enrollment import ENROLLMENTS_PATH, JSON_MIME
from birthmark_wire.est import BASE_PATH
from support.front import running_front
from support.pki import Leaf
from support.server import Identity, Installation, Server, now, sha256_hex
from support.software_tpm import SoftwareTpm

pytestmark = pytest.mark.parts

NONCE = f"{BASE_PATH}/nonce"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as its clients see it through HAProxy."""
    folder = tmp_path_factory.mktemp("front")
    (folder / "site").mkdir()
    socket = folder / "s"
    with (
        Installation.create(folder / "site") as site,
        site.start(extra=f'[front]\nlisten = "{socket}"\n[limits]\nrequests_per_s = 10000\nburst = 10000\n') as server,
        running_front(folder, site, socket=socket) as running,
    ):
        yield replace(server, port=running.port)


@pytest.fixture(scope="module")
def device(front: Server) -> tuple[SoftwareTpm, Identity]:
    """A device with its LDevID, fetched through the front."""
    return _device(front, "SN-FRONT")


def _device(front: Server, serial: str) -> tuple[SoftwareTpm, Identity]:
    tpm = front.site.listed_device(serial)
    return tpm, front.first_ldevid(tpm, front.enroll(tpm), f"dev-{serial.lower()}")


def _client_cert(der: bytes) -> str:
    return f":{base64.b64encode(der).decode()}:"


def test_a_device_renews_through_the_front(front: Server, device: tuple[SoftwareTpm, Identity]) -> None:
    tpm, ldevid = device
    renewed = front.renew(tpm, ldevid, "dev-sn-front")
    assert renewed.certificate.subject == ldevid.certificate.subject


@pytest.mark.parametrize("name", ["Client-Cert", "client-cert", "CLIENT-CERT"])
def test_a_certificate_that_a_client_only_claims_is_stripped(
    front: Server, device: tuple[SoftwareTpm, Identity], name: str
) -> None:
    with front.connect() as client:
        client.connection.request("GET", NONCE, headers={name: _client_cert(device[1].der)})
        response = client.connection.getresponse()
        body = response.read()
    assert (response.status, b"none was sent" in body) == (403, True)


def test_a_claim_beside_a_certificate_does_not_count(front: Server, device: tuple[SoftwareTpm, Identity]) -> None:
    operator = front.site.infra(CertificateProfile.OPERATOR, "op-alice")
    with front.connect(operator) as client:
        client.connection.putrequest("GET", NONCE)
        for _ in range(2):  # one might be replaced and the other forgotten
            client.connection.putheader("Client-Cert", _client_cert(device[1].der))
        client.connection.putheader("Client-Cert-Chain", _client_cert(device[1].der))
        client.connection.putheader("Accept", "application/problem+json")
        client.connection.endheaders()
        response = client.connection.getresponse()
        assert (response.status, b"certificate-misused" in response.read()) == (403, True)


def test_strangers_are_told_apart_by_the_address_that_the_front_saw(front: Server) -> None:
    """What a client claims of its address is replaced: it can neither hide in another's name nor spend its limits."""
    body = front.site.listed_device("SN-CROWD").enroll_request(server_name="localhost").encode()
    with front.connect() as client:
        for n in range(9):
            claimed = f"203.0.113.{n}"
            reply = client.ask("POST", ENROLLMENTS_PATH, body, content_type=JSON_MIME, x_forwarded_for=claimed)
    assert (reply.status, reply.code) == (429, "too-many-pending")
    assert front.site.store.list_refusals(code="not-expected") == []
    with front.connect() as client:
        assert client.begin(front.site.tpm()).code == "not-expected"
    assert front.site.store.list_refusals(code="not-expected")[0].source == "127.0.0.1"


def test_each_request_carries_the_certificate_of_its_own_connection(front: Server) -> None:
    """HAProxy sends requests of different devices over one connection to the server."""
    devices = [_device(front, f"SN-SHARED-{number}") for number in range(3)]
    with front.connect(devices[0][1]) as one, front.connect(devices[1][1]) as two, front.connect() as nobody:
        for _ in range(3):
            assert one.ask("GET", NONCE).status == 200
            assert nobody.ask("GET", NONCE).status == 403
            assert two.ask("GET", NONCE).status == 200
    nonce_of_another = b""
    with front.connect(devices[2][1]) as client:
        nonce_of_another = client.nonce()
    tpm, ldevid = devices[0]
    _, reply = front.est(tpm, ldevid, "dev-sn-shared-0", ldevid.names, "simplereenroll", with_nonce=nonce_of_another)
    assert (reply.status, reply.code) == (403, "attest-binding")


def test_a_revoked_certificate_is_refused_at_each_request(front: Server) -> None:
    _, ldevid = _device(front, "SN-REVOKED")
    with front.connect(ldevid) as client:
        assert client.ask("GET", NONCE).status == 200
        front.site.store.revoke_certificate(
            sha256_hex(ldevid.der), reason=RevocationReason.KEY_COMPROMISE, at=now(), by="alice"
        )
        reply = client.ask("GET", NONCE, accept="application/problem+json")
    assert (reply.status, reply.code) == (403, "certificate-revoked")


def test_an_expired_certificate_does_not_get_past_the_handshake(front: Server) -> None:
    expired = front.site.pki.device("dev-sn-front", lifetime=timedelta(days=1), now=now() - timedelta(days=3))
    with pytest.raises(ssl.SSLError, match="expired"):
        front.ask("GET", NONCE, by=expired)


def test_a_certificate_of_other_cas_does_not_get_past_the_handshake(front: Server, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError, match="unknown ca"):
        front.ask("GET", NONCE, by=_of_strangers(tmp_path))


def _of_strangers(folder: Path) -> Leaf:
    from support.pki import make_pki

    return make_pki(folder / "ca").device("dev-sn-front")
