"""OCSP answers over HTTP: our responder beside `openssl ocsp`, asked by one client, the same certificates.

Each is a server of its own. What is counted is the server's processor time per answer, parsing, looking up, signing,
HTTP and all, and from it how many answers one core gives in a second: what others do on the machine is not in it.
Pre-signed: the certificates were asked for before. Signed: each request has a nonce, so each answer is made for it,
which is all that openssl can do. Connections are as the server lets them: openssl closes each one, ours are kept.

    PYTHONPATH=../tests python -m benchmark.ocsp      from scripts/, with .venv's Python
"""

import http.client
import json
import os
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp

from birthmark_server.ca.requests import InfraRequest
from birthmark_server.domain import CertificateProfile
from support.pki import Leaf
from support.ports import free_port
from support.server import Installation, Server

REQUESTS: Final = 2_000
CERTIFICATES: Final = 50
_MIME: Final = "application/ocsp-request"
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class OcspRate:
    """Answers per second of one core: pre-signed ones, ones signed for a nonce, and openssl's (always signed).

    over_openssl: how many pre-signed ones to one of openssl's; signed_over_openssl: the same of signed ones.
    """

    per_s: float
    signed_per_s: float
    openssl_per_s: float
    over_openssl: float
    signed_over_openssl: float


def measure_ocsp(requests: int = REQUESTS) -> OcspRate:
    """Ask both responders `requests` times each way. Raises AssertionError for an answer that is not `good`."""
    with tempfile.TemporaryDirectory() as name, Installation.create(Path(name)) as site:
        leaves = [site.infra(CertificateProfile.STATION, f"line-{number}") for number in range(CERTIFICATES)]
        issuer = site.pki.authority.infra.certificate
        plain = [_request(leaf, issuer, nonce=False) for leaf in leaves]
        fresh = [_request(leaves[number % CERTIFICATES], issuer, nonce=True) for number in range(requests)]
        limits = "[limits]\nrequests_per_s = 100000.0\nburst = 100000\n"
        with site.start(extra=f'[crl]\nlisten = "127.0.0.1:{site.crl_port}"\n{limits}') as server:
            _ask_ours(site, plain)  # which has them signed
            presigned = _per_core(server, lambda: _ask_ours(site, [plain[n % CERTIFICATES] for n in range(requests)]))
            signed = _per_core(server, lambda: _ask_ours(site, fresh))
        theirs = _openssl(site, leaves, fresh)
    return OcspRate(
        per_s=round(presigned),
        signed_per_s=round(signed),
        openssl_per_s=round(theirs),
        over_openssl=round(presigned / theirs, 2),
        signed_over_openssl=round(signed / theirs, 2),
    )


def _request(leaf: Leaf, issuer: x509.Certificate, *, nonce: bool) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf.certificate, issuer, hashes.SHA1())  # noqa: S303 - as clients do
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(secrets.token_bytes(16)), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _ask_ours(site: Installation, requests: Sequence[bytes]) -> int:
    """Ask one after the other on one connection; return how many were answered."""
    connection = http.client.HTTPConnection("localhost", site.crl_port, timeout=10)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for request in requests:
        connection.request("POST", "/pki/ocsp", request, {"Content-Type": _MIME})
        _require_good(connection.getresponse().read())
    connection.close()
    return len(requests)


def _require_good(answer: bytes) -> None:
    if ocsp.load_der_ocsp_response(answer).certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise AssertionError("want every certificate good")


def _per_core(server: Server, ask: Callable[[], int]) -> float:
    """Return answers per second of the server's processor time, which the kernel counts in ticks: one at least."""
    before = _cpu_s(server.process.pid)
    answered = ask()
    return answered / max(1 / _TICKS, _cpu_s(server.process.pid) - before)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _openssl(site: Installation, leaves: Sequence[Leaf], requests: Sequence[bytes]) -> float:
    """Have `openssl ocsp` answer, as a server, with a delegated signer as ours; return answers per processor second."""
    folder, infra, port = site.folder / "openssl", site.pki.authority.infra, free_port()
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    token = infra.prepare(InfraRequest(CertificateProfile.OCSP, key.public_key(), "srv-ocsp"), now=datetime.now(UTC))
    (folder / "signer.pem").write_bytes(infra.issue(token).public_bytes(Encoding.PEM))
    (folder / "signer.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "ca.pem").write_bytes(infra.certificate.public_bytes(Encoding.PEM))
    serials = (f"{leaf.certificate.serial_number:X}" for leaf in leaves)
    index = "".join(f"V\t491231235959Z\t\t{serial}\tunknown\t/CN={serial}\n" for serial in serials)
    (folder / "index.txt").write_text(index)
    command = ["openssl", "ocsp", "-index", "index.txt", "-port", str(port), "-CA", "ca.pem", "-rsigner", "signer.pem"]
    process = subprocess.Popen(
        [*command, "-rkey", "signer.key", "-nmin", "60", "-nrequest", str(len(requests))],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for request in requests:
            _ask_openssl(port, request)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    return len(requests) / (used.ru_utime + used.ru_stime)


def _ask_openssl(port: int, request: bytes) -> None:
    until = time.monotonic() + 10
    while True:
        connection = http.client.HTTPConnection("localhost", port, timeout=10)
        try:
            connection.request("POST", "/", request, {"Content-Type": _MIME})
            _require_good(connection.getresponse().read())
        except ConnectionRefusedError:  # it is still starting
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return
        finally:
            connection.close()


if __name__ == "__main__":
    print(json.dumps(asdict(measure_ocsp())))
