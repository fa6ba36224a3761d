"""The floor under every figure: the cryptography of one enrollment, and nothing else, on this machine, now.

Each operation is what the server must do whatever its code looks like; its CPU is the median of many runs in one
thread. The handshake is OpenSSL's own through `ssl` and memory BIOs, mutual, TLS 1.3, P-256, the server's half only.
"""

import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode
from cryptography.x509.oid import NameOID

_SHA256 = hashes.SHA256()
_ECDSA = ec.ECDSA(_SHA256)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the floor: how often an enrollment needs it, and its CPU in microseconds."""

    name: str
    times: int
    cpu_us: float


Floor = tuple[Operation, ...]


def enrollment_floor(*, runs: int = 300) -> Floor:
    """Measure every cryptographic operation of one attested enrollment of a device with a P-256 EK."""
    key = ec.generate_private_key(ec.SECP256R1())
    message = b"m" * 145  # a TPMS_ATTEST of a Certify
    signature = key.sign(message, _ECDSA)
    public = key.public_key()
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")]))
        .sign(key, _SHA256)
        .public_bytes(serialization.Encoding.DER)
    )

    def verify() -> None:
        public.verify(signature, message, _ECDSA)

    def verify_csr() -> None:
        if not x509.load_der_x509_csr(csr).is_signature_valid:
            raise AssertionError("the CSR's own signature failed")

    return (
        Operation("verify the EK certificate (P-256)", 1, _cpu_us(verify, runs)),
        Operation("MakeCredential for a P-256 EK", 1, _cpu_us(lambda: _make_credential(public), runs)),
        Operation("verify the AK's Certify (P-256)", 1, _cpu_us(verify, runs)),
        Operation("parse and verify the CSR (P-256)", 1, _cpu_us(verify_csr, runs)),
        Operation("build and sign the certificate (P-256)", 1, _cpu_us(lambda: _certificate(key), runs)),
        Operation("mutual TLS 1.3 handshake, server's half", 1, handshake_us(runs=runs)),
    )


def handshake_us(*, runs: int = 300) -> float:
    """Return the server's CPU of one bare mutual TLS 1.3 handshake, in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        server, client = _contexts(Path(folder))
    return statistics.median(_one_handshake(server, client) for _ in range(runs))


def _one_handshake(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> float:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname="localhost")
    spent_ns = 0
    begun = time.thread_time_ns()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    spent_ns += time.thread_time_ns() - begun
    _step(client)
    for _ in range(2):
        begun = time.thread_time_ns()
        _step(server)
        spent_ns += time.thread_time_ns() - begun
        _step(client)
    if server.version() != "TLSv1.3" or not server.getpeercert(binary_form=True):
        raise AssertionError("the bare handshake did not complete")
    return spent_ns / 1000


def _step(side: ssl.SSLObject) -> None:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return


def _contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = folder / "both.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + _certificate(key).public_bytes(serialization.Encoding.PEM)
    )
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.num_tickets = 0
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(pem)
        context.load_verify_locations(pem)
        context.verify_mode = ssl.CERT_REQUIRED
    return server, client


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, _SHA256)
    )


def _make_credential(ek: ec.EllipticCurvePublicKey) -> None:
    """The primitives of TPM 2.0 Part 1 annex C.6 and §24, in their order, without the marshalling."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    shared = ephemeral.exchange(ec.ECDH(), ek)
    seed = ConcatKDFHash(_SHA256, 32, b"IDENTITY\0" + bytes(64)).derive(shared)
    storage = _kdfa(seed, b"STORAGE", 16)
    encryptor = Cipher(algorithms.AES(storage), CFB(bytes(16))).encryptor()
    encrypted = encryptor.update(bytes(34)) + encryptor.finalize()
    integrity = hmac.HMAC(_kdfa(seed, b"INTEGRITY", 32), _SHA256)
    integrity.update(encrypted)
    integrity.finalize()


def _kdfa(key: bytes, label: bytes, length: int) -> bytes:
    return KBKDFHMAC(_SHA256, Mode.CounterMode, length, 4, 4, CounterLocation.BeforeFixed, label, b"", None).derive(key)


def _cpu_us(operation: Callable[[], object], runs: int) -> float:
    operation()
    spent: list[int] = []
    for _ in range(runs):
        begun = time.thread_time_ns()
        operation()
        spent.append(time.thread_time_ns() - begun)
    return statistics.median(spent) / 1000
