"""EST with clients that nobody here wrote: curl with openssl, and strongSwan's pki. Their transcripts are the proof.

Both work under the profile for keys without TPM evidence: an operator puts `sw-...` on record with its first
certificate, and from then on the device renews itself. strongSwan 5.9 speaks TLS 1.2, and its certificate parser does
not know name constraints on addresses: `min_tls = "1.2"` here, `enforce_critical = no` there (docs/protocol.md).
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_agent.csr import device_names
from birthmark_server.domain import RevocationReason
from birthmark_wire.est import BASE_PATH
from support.server import Clock, Installation, Server, now

pytestmark = pytest.mark.parts

STRONGSWAN_CONF = "libstrongswan { x509 { enforce_critical = no } }\n"


@pytest.fixture(scope="module")
def est_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Installation.create(tmp_path_factory.mktemp("est")) as site:
        crl = f'[crl]\nlisten = "127.0.0.1:{site.crl_port}"\n'
        with site.start(server='min_tls = "1.2"', extra=crl) as server:
            yield server


@dataclass
class Shell:
    """A folder in which foreign programs work, and where they find the server."""

    folder: Path
    server: Server

    def run(self, *command: str, fails: bool = False) -> str:
        """Run one program; return what it said."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | {"STRONGSWAN_CONF": str(self.folder / "strongswan.conf")},
            capture_output=True,
            timeout=60,
        )
        said = done.stdout.decode() + done.stderr.decode()
        assert (done.returncode != 0) == fails, f"{' '.join(command)}\n{said}"
        return said

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server.port}{BASE_PATH}"

    def curl(self, *arguments: str, operation: str) -> str:
        return self.run("curl", "-sS", "--cacert", "root.pem", *arguments, f"{self.url}/{operation}")

    def key_and_csr(self, name: str, *arguments: str) -> None:
        self.run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{name}.key")
        self.run("openssl", "req", "-new", "-key", f"{name}.key", *arguments, "-out", f"{name}.csr")
        self.run("openssl", "req", "-in", f"{name}.csr", "-outform", "DER", "-out", f"{name}.csr.der")

    def unpack(self, name: str) -> None:
        """NAME.p7.b64 -> NAME.pem, by openssl."""
        self.run("openssl", "base64", "-d", "-A", "-in", f"{name}.p7.b64", "-out", f"{name}.p7")
        self.run("openssl", "pkcs7", "-inform", "DER", "-in", f"{name}.p7", "-print_certs", "-out", f"{name}.pem")

    def strongswan_renews(self, *, fails: bool = False) -> str:
        """`pki --est` with first.pem and next.csr.der: strongSwan makes a simplereenroll of it."""
        infra = self.server.site.pki.authority.infra.certificate.public_bytes(Encoding.PEM)
        (self.folder / "infra.pem").write_bytes(infra)
        return self.run(
            "pki", "--est", "--url", f"https://localhost:{self.server.port}",
            "--cacert", "root.pem", "--cacert", "infra.pem",
            "--in", "next.csr.der", "--cert", "first.pem", "--key", "first.key", "--outform", "pem",
            fails=fails,
        )  # fmt: skip

    def operator_certifies(self, device_id: str, name: str) -> None:
        """What an operator does for a device without a TPM: NAME.csr.der -> NAME.pem."""
        csr = (self.folder / f"{name}.csr.der").read_bytes()
        with self.server.site.services(Clock()) as services:
            certificate = services.renewal.certify_software_device(device_id, csr, operator="alice")
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))


@pytest.fixture
def shell(est_server: Server, tmp_path: Path) -> Shell:
    (tmp_path / "root.pem").write_bytes(est_server.site.pki.root_pem.read_bytes())
    (tmp_path / "strongswan.conf").write_text(STRONGSWAN_CONF)
    return Shell(tmp_path, est_server)


SAME_NAMES = ("-subj", "/O=Example Devices/CN={0}", "-addext", "subjectAltName=URI:spiffe://fleet.example/device/{0}")


def same_names(device_id: str) -> tuple[str, ...]:
    return tuple(argument.format(device_id) for argument in SAME_NAMES)


# -- curl and openssl


def test_curl_fetches_the_cas_and_openssl_reads_them(shell: Shell) -> None:
    shell.curl("-o", "cas.p7.b64", operation="cacerts")
    assert b"\n" not in (shell.folder / "cas.p7.b64").read_bytes()  # one unbroken line
    shell.unpack("cas")
    listed = (shell.folder / "cas.pem").read_text()
    for title in ("Root CA", "Birth CA", "Fleet CA", "Infra CA"):
        assert f"CN = Example Devices {title}" in listed


def test_curl_fetches_csrattrs_and_openssl_reads_them(shell: Shell) -> None:
    shell.curl("-o", "attrs.b64", operation="csrattrs")
    shell.run("openssl", "base64", "-d", "-A", "-in", "attrs.b64", "-out", "attrs.der")
    parsed = shell.run("openssl", "asn1parse", "-inform", "DER", "-in", "attrs.der")
    for name in ("id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256", "1.2.840.113549.1.9.16.2.59"):
        assert name in parsed


@pytest.mark.parametrize("transfer", ["unbroken", "broken", "with a Content-Transfer-Encoding"])
def test_curl_renews_a_software_device(shell: Shell, transfer: str) -> None:
    device_id = f"sw-curl-{transfer.split()[0]}"
    shell.key_and_csr("first", "-subj", f"/CN={device_id}")
    shell.operator_certifies(device_id, "first")
    shell.key_and_csr("next", *same_names(device_id))
    unbroken = () if transfer == "broken" else ("-A",)
    shell.run("openssl", "base64", *unbroken, "-in", "next.csr.der", "-out", "body")
    header = ("-H", "Content-Transfer-Encoding: base64") if "with" in transfer else ()
    shell.curl(
        "--cert", "first.pem", "--key", "first.key", "-H", "Content-Type: application/pkcs10", *header,
        "--data-binary", "@body", "-D", "headers", "-o", "next.p7.b64", operation="simplereenroll",
    )  # fmt: skip
    headers = (shell.folder / "headers").read_text().lower()
    assert "content-type: application/pkcs7-mime; smime-type=certs-only" in headers
    assert "content-length:" in headers
    assert "chunked" not in headers
    shell.unpack("next")
    assert f"CN = {device_id}" in shell.run("openssl", "x509", "-in", "next.pem", "-noout", "-subject")
    shell.curl("-o", "cas.p7.b64", operation="cacerts")
    shell.unpack("cas")
    chain = ("-CAfile", "root.pem", "-untrusted", "cas.pem", "-x509_strict")
    assert "next.pem: OK" in shell.run("openssl", "verify", *chain, "next.pem")


def test_curl_carries_the_csr_of_a_device_with_a_tpm(shell: Shell) -> None:
    """simpleenroll with the birth certificate: the evidence is in the CSR, so any HTTP client can carry it."""
    tpm = shell.server.site.listed_device("SN-CURL")
    idevid = shell.server.enroll(tpm)
    idevid.write(shell.folder, "birth")
    with shell.server.connect(idevid) as client:
        nonce = client.nonce()
    csr = tpm.renewal_csr(
        tpm.new_operational_key(),
        device_names("dev-sn-curl"),
        nonce=nonce,
        device_id="dev-sn-curl",
        client_certificate=idevid.der,
    )
    (shell.folder / "op.csr.der").write_bytes(csr)
    shell.run("openssl", "req", "-inform", "DER", "-in", "op.csr.der", "-verify", "-noout")
    shell.run("openssl", "base64", "-in", "op.csr.der", "-out", "body")
    shell.curl(
        "--cert", "birth.pem", "--key", "birth.key", "-H", "Content-Type: application/pkcs10",
        "--data-binary", "@body", "-o", "op.p7.b64", operation="simpleenroll",
    )  # fmt: skip
    shell.unpack("op")
    assert "CN = dev-sn-curl" in shell.run("openssl", "x509", "-in", "op.pem", "-noout", "-subject")


def test_curl_is_told_in_plain_text_why_it_is_refused(shell: Shell) -> None:
    said = shell.curl("-X", "POST", "--data-binary", "x", "-w", " %{http_code}", operation="simplereenroll")
    assert "certificate-required" in said
    assert said.endswith("403")


def test_the_crl_is_found_where_the_certificate_says(shell: Shell) -> None:
    device_id = "sw-crl"
    shell.key_and_csr("first", "-subj", f"/CN={device_id}")
    shell.operator_certifies(device_id, "first")
    text = shell.run("openssl", "x509", "-in", "first.pem", "-noout", "-text")
    url = next(line.split("URI:")[1] for line in text.splitlines() if "URI:http" in line)
    shell.run("curl", "-sSf", "-D", "headers", "-o", "fleet.crl", url)
    headers = (shell.folder / "headers").read_text()
    assert "Content-Type: application/pkix-crl" in headers
    etag = next(
        line.split(": ")[1] for line in headers.splitlines() if line.startswith("Etag") or line.startswith("ETag")
    )
    again = shell.run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"If-None-Match: {etag}", url)
    assert again == "304"
    assert "max-age=" in headers
    assert "Last-Modified: " in headers
    issuer = shell.run("openssl", "crl", "-inform", "DER", "-in", "fleet.crl", "-noout", "-issuer", "-crlnumber")
    assert "Fleet CA" in issuer
    assert "crlNumber=" in issuer


# -- strongSwan


def test_strongswan_fetches_the_cas(shell: Shell) -> None:
    said = shell.run(
        "pki", "--estca", "--url", f"https://localhost:{shell.server.port}", "--cacert", "root.pem",
        "--caout", "ca.pem", "--outform", "pem",
    )  # fmt: skip
    assert "Root CA equals trusted TLS Root CA" in said
    assert said.count("Sub CA cert is trusted") == 3


def test_strongswan_renews_a_software_device_and_checks_our_crl_on_the_way(shell: Shell) -> None:
    shell.key_and_csr("first", "-subj", "/CN=sw-swan")
    shell.operator_certifies("sw-swan", "first")
    shell.key_and_csr("next", *same_names("sw-swan"))
    said = shell.strongswan_renews()
    assert "negotiated TLS 1.2 using suite TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" in said
    assert "certificate status is good" in said
    (shell.folder / "next.pem").write_text(said[said.index("-----BEGIN") : said.index("-----END") + 26])
    assert "CN = sw-swan" in shell.run("openssl", "x509", "-in", "next.pem", "-noout", "-subject")


def test_strongswan_is_refused_once_the_device_is_revoked(shell: Shell) -> None:
    shell.key_and_csr("first", "-subj", "/CN=sw-gone")
    shell.operator_certifies("sw-gone", "first")
    shell.server.site.store.revoke_device(
        "sw-gone", reason=RevocationReason.CESSATION_OF_OPERATION, at=now(), by="alice"
    )
    shell.key_and_csr("next", *same_names("sw-gone"))
    assert "HTTP 403" in shell.strongswan_renews(fails=True)


def test_every_answer_has_its_headers_where_strongswan_reads_them(est_server: Server) -> None:
    """In its first 1,024 bytes, with a Content-Length and no chunks; and the body in one unbroken line."""
    tpm = est_server.site.listed_device("SN-HEAD")
    ldevid = est_server.first_ldevid(tpm, est_server.enroll(tpm), "dev-sn-head")
    _, renewed = est_server.est(tpm, ldevid, "dev-sn-head", ldevid.names, "simplereenroll")
    _, refused = est_server.est(tpm, ldevid, "dev-sn-head", ldevid.names, "simpleenroll")
    replies = [
        renewed,
        refused,
        *(est_server.ask("GET", f"{BASE_PATH}/{name}") for name in ("cacerts", "csrattrs", "x")),
    ]
    assert [reply.status for reply in replies] == [200, 403, 200, 200, 404]
    for reply in replies:
        head = sum(len(f"{name}: {value}\r\n") for name, value in reply.headers.items())
        assert len("HTTP/1.1 403 Forbidden\r\n\r\n") + head < 1024 / 2  # half of it is for headers to come
        assert reply.headers["Content-Length"] == str(len(reply.body))
        assert "Transfer-Encoding" not in reply.headers
        assert reply.status != 200 or b"\n" not in reply.body.strip()
