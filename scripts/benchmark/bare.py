"""The floor under every figure: the cryptography of one enrollment, and nothing else, on this machine, now.

Counted is what a server must compute whatever its code looks like: no encoding, no parsing, no check that is not
arithmetic. Keys come as points and are checked to be on their curve; keys of CAs are at hand. The TLS connection is
OpenSSL's own through `ssl` and memory BIOs, the server's half only, with the installation's own certificates; an
enrollment comes without a client certificate, so none is verified.

The device is one with a P-256 EK, whose certificate an issuer at hand has signed, without a quote.
"""

import ssl
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.pki import Pki

_SHA256 = hashes.SHA256()
_ECDSA = ec.ECDSA(_SHA256)

TBS_BYTES: Final = 700
"""A certificate without its signature, a CSR, or a TPMS_ATTEST: the first is the longest, and a hash costs little."""

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
    """A TLS 1.3 connection in memory, as an enrollment has it: handshake, two requests, two answers."""

    def __init__(self, pki: Pki) -> None:
        """Make both sides' contexts."""
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.num_tickets = 0
        self._server.verify_mode = ssl.CERT_OPTIONAL  # it asks, as the product's listener does
        with tempfile.TemporaryDirectory() as folder:
            self._server.load_cert_chain(*pki.server().write(Path(folder), "server"))
        self._client = ssl.create_default_context(cafile=str(pki.root_pem))
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
        if server.version() != "TLSv1.3" or not client.getpeercert(binary_form=True):
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
    public, message = key.public_key(), bytes(TBS_BYTES)
    signature = key.sign(message, _ECDSA)
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def load() -> None:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)

    def verify() -> None:
        public.verify(signature, message, _ECDSA)

    return (
        Operation("TLS 1.3 connection without a client certificate, server's half", 1, _mean(connection.run, runs)),
        Operation("load a P-256 key from its point: EK, AK, birth key", 3, _cpu_us(load, runs)),
        Operation("verify by P-256: EK certificate, AK's Certify, CSR", 3, _cpu_us(verify, runs)),
        Operation("MakeCredential for a P-256 EK", 1, _cpu_us(lambda: _make_credential(public), runs)),
        Operation("sign the certificate by P-256", 1, _cpu_us(lambda: key.sign(message, _ECDSA), runs)),
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


def _cpu_us(operation: Callable[[], object], runs: int) -> float:
    operation()
    begun = time.thread_time_ns()
    for _ in range(runs):
        operation()
    return (time.thread_time_ns() - begun) / runs / 1000
