"""What clients nobody here wrote make of our OCSP answers and CRLs: openssl, and GnuTLS's ocsptool and certtool."""

import http.client
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from birthmark_server.domain import CertificateProfile, RevocationReason
from support.pki import Leaf
from support.server import Installation, Server, now

pytestmark = pytest.mark.parts


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Installation.create(tmp_path_factory.mktemp("ocsp")) as site:
        crl = f'[crl]\nlisten = "127.0.0.1:{site.crl_port}"\n[limits]\nrequests_per_s = 10000.0\nburst = 10000\n'
        with site.start(extra=crl) as running:
            yield running


@pytest.fixture(scope="module")
def leaves(server: Server) -> dict[str, Leaf]:
    """One that is good, one that is revoked, and one that was signed and is not on record."""
    site = server.site
    made = {name: site.infra(CertificateProfile.STATION, name) for name in ("good", "revoked")}
    made["unrecorded"] = site.pki.infra(CertificateProfile.STATION, "unrecorded")
    reason = RevocationReason.KEY_COMPROMISE
    site.store.revoke_certificate(made["revoked"].record.sha256, reason=reason, at=now(), by="alice")
    return made


def pem(path: Path, *certificates: x509.Certificate) -> str:
    path.write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates))
    return str(path)


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def url(server: Server) -> str:
    return f"http://localhost:{server.site.crl_port}/pki/ocsp"


SAYS = {"good": ": good", "revoked": ": revoked", "unrecorded": ": revoked"}


@pytest.mark.parametrize("name", SAYS)
@pytest.mark.parametrize("options", [(), ("-no_nonce",), ("-sha256",)])
def test_openssl_believes_the_answers(
    server: Server, leaves: dict[str, Leaf], tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    authority = server.site.pki.authority
    root, issuer = (
        pem(tmp_path / "root.pem", authority.root.certificate),
        pem(tmp_path / "ca.pem", authority.infra.certificate),
    )
    leaf = pem(tmp_path / "leaf.pem", leaves[name].certificate)
    command = ("openssl", "ocsp", "-issuer", issuer, "-url", url(server), "-CAfile", root, "-verify_other", issuer)
    said = run(*command, *options, "-cert", leaf)
    assert "Response verify OK" in said
    assert f"{leaf}{SAYS[name]}" in said
    assert "WARNING: no nonce" not in said or "-no_nonce" in options
    assert ("keyCompromise" in said) == (name == "revoked")


@pytest.mark.parametrize("name", SAYS)
def test_ocsptool_believes_the_answers(server: Server, leaves: dict[str, Leaf], tmp_path: Path, name: str) -> None:
    authority = server.site.pki.authority
    issuer = pem(tmp_path / "ca.pem", authority.infra.certificate)
    said = run(
        "ocsptool", f"--ask={url(server)}", "--load-cert", pem(tmp_path / "leaf.pem", leaves[name].certificate),
        "--load-issuer", issuer, "--load-trust", issuer, "--nonce",
    )  # fmt: skip
    assert "Verifying OCSP Response: Success" in said, said
    assert f"Certificate Status:{' '}{SAYS[name].removeprefix(': ')}" in said.replace(":  ", ": ")


def test_openssl_asks_for_a_device_by_its_birth_certificate(server: Server, tmp_path: Path) -> None:
    site = server.site
    identity = server.enroll(site.listed_device("SN-77"))
    authority = site.pki.authority
    root, issuer = (
        pem(tmp_path / "root.pem", authority.root.certificate),
        pem(tmp_path / "ca.pem", authority.birth.certificate),
    )
    command = ("openssl", "ocsp", "-issuer", issuer, "-url", url(server), "-CAfile", root, "-verify_other", issuer)
    leaf = pem(tmp_path / "leaf.pem", identity.certificate)
    assert f"{leaf}: good" in run(*command, "-cert", leaf)


def test_a_get_through_the_wire_reaches_the_responder_as_it_was_sent(server: Server, leaves: dict[str, Leaf]) -> None:
    infra = server.site.pki.authority.infra.certificate
    request = ocsp.OCSPRequestBuilder().add_certificate(leaves["good"].certificate, infra, hashes.SHA1())
    text = b64encode(request.build().public_bytes(Encoding.DER)).decode()
    for path in (text, text.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"), text.replace("/", "%2f")):
        with urllib.request.urlopen(f"{url(server)}/{path}", timeout=10) as answer:
            assert answer.headers["Content-Type"] == "application/ocsp-response"
            status = ocsp.load_der_ocsp_response(answer.read()).certificate_status
            assert status is ocsp.OCSPCertStatus.GOOD


def test_gnutls_obeys_a_crl_with_our_issuing_distribution_point(
    server: Server, leaves: dict[str, Leaf], tmp_path: Path
) -> None:
    authority = server.site.pki.authority
    base = f"http://localhost:{server.site.crl_port}/pki/crl"
    crls = tmp_path / "crls.pem"
    text = b""
    for name in (authority.infra.name, "root"):
        with urllib.request.urlopen(f"{base}/{name}.crl", timeout=10) as answer:
            text += x509.load_der_x509_crl(answer.read()).public_bytes(Encoding.PEM)
    crls.write_bytes(text)
    trust = pem(tmp_path / "trust.pem", authority.root.certificate, authority.infra.certificate)
    for name in ("good", "revoked"):
        leaf = pem(tmp_path / f"{name}.pem", leaves[name].certificate)
        said = run("certtool", "--verify", "--load-ca-certificate", trust, "--load-crl", str(crls), "--infile", leaf)
        assert ("revoked" in said.replace(str(tmp_path), "")) == (name == "revoked"), said


def test_the_short_way_and_the_long_way_say_the_same(server: Server, leaves: dict[str, Leaf]) -> None:
    """A header that is not plain sends a request the long way; whatever follows on its connection goes there too."""
    infra = server.site.pki.authority.infra.certificate
    request = ocsp.OCSPRequestBuilder().add_certificate(leaves["good"].certificate, infra, hashes.SHA384()).build()
    body, plain = request.public_bytes(Encoding.DER), {"Content-Type": "application/ocsp-request"}
    answers = [asked(server, body, plain)]  # which has it signed
    before = server.log.count("path=/pki/ocsp ")
    connection = http.client.HTTPConnection("localhost", server.site.crl_port, timeout=10)
    for headers in (plain, plain, plain | {"X-Long": "way"}, plain):
        answers += [asked(server, body, headers, connection)]
    connection.close()
    assert len(set(answers)) == 1
    assert server.log.count("path=/pki/ocsp ") - before == 2  # the short way leaves no line in the log


def asked(
    server: Server, body: bytes, headers: dict[str, str], on: http.client.HTTPConnection | None = None
) -> tuple[object, ...]:
    connection = on or http.client.HTTPConnection("localhost", server.site.crl_port, timeout=10)
    connection.request("POST", "/pki/ocsp", body, headers)
    answer = connection.getresponse()
    said = answer.status, answer.headers["Content-Type"], answer.headers["Cache-Control"], answer.read()
    if on is None:
        connection.close()
    return said


def test_a_connection_that_went_the_short_way_and_is_idle_is_closed(tmp_path: Path) -> None:
    with Installation.create(tmp_path) as site:
        leaf = site.infra(CertificateProfile.STATION, "line-1")
        infra = site.pki.authority.infra.certificate
        request = ocsp.OCSPRequestBuilder().add_certificate(leaf.certificate, infra, hashes.SHA256()).build()
        body, headers = request.public_bytes(Encoding.DER), {"Content-Type": "application/ocsp-request"}
        limits = f'[limits]\nidle_timeout_s = 1.0\n[crl]\nlisten = "127.0.0.1:{site.crl_port}"\n'
        with site.start(extra=limits):
            urllib.request.urlopen(  # which has it signed
                urllib.request.Request(f"http://localhost:{site.crl_port}/pki/ocsp", body, headers), timeout=10
            ).read()
            connection = http.client.HTTPConnection("localhost", site.crl_port, timeout=10)
            connection.request("POST", "/pki/ocsp", body, headers)
            assert connection.getresponse().read()
            began = time.monotonic()
            assert connection.sock.recv(1) == b""
            assert 0.5 < time.monotonic() - began < 20
            connection.close()
