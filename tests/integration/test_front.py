"""HAProxy and nginx before the server, configured by the guide itself: which certificate reaches it, and which not."""

import base64
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from socket import create_connection
from typing import get_args

import pytest

from birthmark_server.ca.authority import Authority
from birthmark_server.ca.profile import CaKind
from birthmark_server.domain import CertificateProfile, RevocationReason
from birthmark_wire.enrollment import ENROLLMENTS_PATH, JSON_MIME
from birthmark_wire.est import BASE_PATH
from support.front import Program, running_front
from support.pki import PASSPHRASE, Leaf, Pki, make_pki
from support.server import Identity, Installation, Server, now, sha256_hex
from support.software_tpm import SoftwareTpm

pytestmark = pytest.mark.parts

NONCE = f"{BASE_PATH}/nonce"


@dataclass(frozen=True)
class Arrangement:
    """An installation, the front before it, and what a device has of a Fleet CA that the root took back since."""

    site: Installation
    program: Program
    of_revoked_ca: Leaf


@pytest.fixture(scope="module", params=get_args(Program))
def arranged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrangement]:
    """The same for each front."""
    with Installation.create(tmp_path_factory.mktemp("site")) as site:
        site.pki.add(CaKind.FLEET, label="next")
        newest = _opened_again(site.pki)
        lost = newest.device("dev-lost")
        site.pki.revoke(newest.authority.fleet.name)
        site.pki = _opened_again(site.pki)
        assert site.pki.authority.fleet.name != newest.authority.fleet.name
        yield Arrangement(site, request.param, lost)


def _opened_again(pki: Pki) -> Pki:
    return replace(pki, authority=Authority.load(pki.folder, passphrase=PASSPHRASE, now=now()))


@pytest.fixture(scope="module")
def front(arranged: Arrangement, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as its clients see it through the front."""
    folder = tmp_path_factory.mktemp("front")
    socket, site = folder / "s", arranged.site
    limits = "[limits]\nrequests_per_s = 10000\nburst = 10000\n"
    with (
        site.start(extra=f'[front]\nlisten = "{socket}"\n{limits}') as server,
        running_front(folder, site, socket=socket, program=arranged.program) as running,
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
    """The front sends requests of different devices over one connection to the server."""
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


def test_no_session_is_resumed(front: Server, device: tuple[SoftwareTpm, Identity], tmp_path: Path) -> None:
    """It would carry a certificate past its expiry; and a ticket that opens nothing is work for nothing."""
    context = ssl.create_default_context(cafile=str(front.site.pki.root_pem))
    context.load_cert_chain(*device[1].write(tmp_path, "device"))
    session = None
    for _ in range(2):
        with (
            create_connection(("localhost", front.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as tls,
        ):
            tls.sendall(f"GET {NONCE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert tls.recv(12) == b"HTTP/1.1 200"  # by now a ticket would have come
            session = tls.session
            assert session is not None
            assert (session.has_ticket, tls.session_reused) == (False, False)


def test_an_expired_certificate_does_not_get_past_the_front(arranged: Arrangement, front: Server) -> None:
    expired = front.site.pki.device("dev-sn-front", lifetime=timedelta(days=1), now=now() - timedelta(days=3))
    _refused_by_the_front(arranged, front, expired, alert="expired")


def test_a_certificate_of_other_cas_does_not_get_past_the_front(
    arranged: Arrangement, front: Server, tmp_path: Path
) -> None:
    stranger = make_pki(tmp_path / "ca").device("dev-sn-front")
    _refused_by_the_front(arranged, front, stranger, alert="unknown ca")


def test_a_certificate_of_a_revoked_ca_does_not_get_past_the_front(arranged: Arrangement, front: Server) -> None:
    _refused_by_the_front(arranged, front, arranged.of_revoked_ca, alert="unknown ca")


def _refused_by_the_front(arranged: Arrangement, front: Server, by: Leaf, *, alert: str) -> None:
    """HAProxy says why in an alert; nginx finishes the handshake and answers each request itself."""
    if arranged.program == "haproxy":
        with pytest.raises(ssl.SSLError, match=alert):
            front.ask("GET", NONCE, by=by)
        return
    with front.connect(by) as client:
        reply = client.ask("GET", NONCE, accept="application/problem+json")
    assert (reply.status, reply.headers["Content-Type"]) == (400, "text/html")
    assert b"The SSL certificate error" in reply.body
