"""The floor under every figure: the cryptography of one enrollment, and nothing else, on this machine, now.

Counted is what the issue of this bench counts: a mutual TLS 1.3 handshake (though an enrollment comes without a client
certificate), the signatures, the credential, and request and certificate as `cryptography` alone reads and builds them.
Keys come as points and are checked to be on their curve; keys of CAs are at hand. TLS is OpenSSL's own through `ssl`
and memory BIOs, the server's half only, with the installation's own certificates and their chains.

The device is one with a P-256 EK, whose certificate an issuer at hand has signed, without a quote.
"""

import ssl
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Final

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from birthmark_server.ca.issuer import to_der
from support.pki import Pki

_SHA256 = hashes.SHA256()
_ECDSA = ec.ECDSA(_SHA256)

SIGNED_BYTES: Final = 400
"""An EK certificate without its signature, or a TPMS_ATTEST: a hash of either costs little."""

EXCHANGES: Final = ((1700, 500), (800, 2900))
"""The bytes of each request and its answer in an enrollment."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the floor: how often an enrollment needs it, and its CPU in microseconds."""

    name: str
    times: int
    cpu_us: float


Floor = tuple[Operation, ...]


class Connection:
    """A mutual TLS 1.3 connection in memory: handshake, then an enrollment's two requests and answers."""

    def __init__(self, pki: Pki) -> None:
        """Make both sides' contexts."""
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.num_tickets = 0
        self._server.verify_mode = ssl.CERT_REQUIRED
        # A chain ends at the issuing CA, as at the product's door: the root's P-384 is nobody's work here (ADR 0070).
        self._server.load_verify_locations(cadata=to_der(pki.authority.fleet.certificate))
        self._server.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self._client = ssl.create_default_context(cafile=str(pki.root_pem))
        with tempfile.TemporaryDirectory() as folder:
            self._server.load_cert_chain(*pki.server().write(Path(folder), "server"))
            self._client.load_cert_chain(*pki.device().write(Path(folder), "device"))
        self._client.minimum_version = ssl.TLSVersion.TLSv1_3

    def run(self) -> float:
        """Do both halves; return the server's CPU, in microseconds."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self._client.wrap_bio(to_client, to_server, server_hostname="localhost")
        begun = time.thread_time_ns()
        server = self._server.wrap_bio(to_server, to_client, server_side=True)
        spent_ns = time.thread_time_ns() - begun
        _step(client)
        for _ in range(2):
            begun = time.thread_time_ns()
            _step(server)
            spent_ns += time.thread_time_ns() - begun
            _step(client)
        if server.version() != "TLSv1.3" or not server.getpeercert(binary_form=True):
            raise AssertionError("the bare handshake did not complete")
        for request, answer in EXCHANGES:
            client.write(bytes(request))
            begun = time.thread_time_ns()
            received = server.read(request)
            server.write(bytes(answer))
            spent_ns += time.thread_time_ns() - begun
            if (len(received), len(client.read(answer))) != (request, answer):
                raise AssertionError("the bare connection did not carry what it was given")
        return spent_ns / 1000


def enrollment_floor(connection: Connection, *, runs: int = 50) -> Floor:
    """Measure every cryptographic operation of one attested enrollment: the mean of so many runs of each."""
    key = ec.generate_private_key(ec.SECP256R1())
    public, message = key.public_key(), bytes(SIGNED_BYTES)
    signature = key.sign(message, _ECDSA)
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def load() -> None:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)

    def verify() -> None:
        public.verify(signature, message, _ECDSA)

    csr = request(key)

    def verify_request() -> None:
        if not x509.load_der_x509_csr(csr).is_signature_valid:
            raise AssertionError("the request's own signature failed")

    return (
        Operation("mutual TLS 1.3 connection, server's half", 1, _mean(connection.run, runs)),
        Operation("load a P-256 key from its point: EK, AK, birth key", 3, cpu_us(load, runs)),
        Operation("verify by P-256: EK certificate, AK's Certify", 2, cpu_us(verify, runs)),
        Operation("MakeCredential for a P-256 EK", 1, cpu_us(lambda: _make_credential(public), runs)),
        Operation("read and verify the CSR (P-256)", 1, cpu_us(verify_request, runs)),
        Operation("build and sign the certificate (P-256)", 1, cpu_us(lambda: certificate(key), runs)),
    )


def mean(floors: Iterable[Floor]) -> Floor:
    """Return the mean of several measurements of the same operations."""
    return tuple(
        Operation(same[0].name, same[0].times, fmean(operation.cpu_us for operation in same))
        for same in zip(*floors, strict=True)
    )


def _step(side: ssl.SSLObject) -> None:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return


def request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a device's PKCS #10, DER."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, _SHA256).public_bytes(Encoding.DER)


def certificate(key: ec.EllipticCurvePrivateKey) -> None:
    """Build and sign a certificate with four extensions, by `cryptography`'s own builder."""
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")]), datetime.now(UTC)
    (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
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


def _mean(measured: Callable[[], float], runs: int) -> float:
    measured()
    return fmean(measured() for _ in range(runs))


def cpu_us(operation: Callable[[], object], runs: int) -> float:
    operation()
    begun = time.thread_time_ns()
    for _ in range(runs):
        operation()
    return (time.thread_time_ns() - begun) / runs / 1000
