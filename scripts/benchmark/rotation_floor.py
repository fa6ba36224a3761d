"""The bare cryptography of one rotation over MQTT at the server, item by item, on this machine, now.

Counted, as in bare.py: keys loaded from points and checked to be on the curve, signatures, request and certificate as
`cryptography` alone reads, verifies, builds and signs them, and the records of the server's TLS connection to the
broker, OpenSSL's own through `ssl`: seven messages with their acknowledgements. A handshake with the device is the
broker's. Not counted: hashes, random numbers, JSON, MQTT, SQL, and the deny list, which is signed once for many.
"""

import ssl
import tempfile
import time
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmark.bare import SIGNED_BYTES, Floor, Operation, certificate, cpu_us, request
from support.pki import Pki

UP: Final = (450, 250, 1800, 250)
"""The bytes of hello, ack, csr and active, as the broker delivers them."""
DOWN: Final = (3200, 250, 2400)
"""Of cmd, nonce and cert, as the server publishes them."""
_PUBACK: Final = 4
_ECDSA: Final = ec.ECDSA(hashes.SHA256())


class Records:
    """An established TLS 1.3 connection in memory, and a rotation's messages over it."""

    def __init__(self, pki: Pki) -> None:
        """Make both sides, and shake hands."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(*pki.broker().write(Path(folder), "broker"))
        to_broker, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._broker = context.wrap_bio(to_broker, to_server, server_side=True)
        self._server = ssl.create_default_context(cafile=str(pki.root_pem)).wrap_bio(
            to_server, to_broker, server_hostname="localhost"
        )
        for side in (self._server, self._broker, self._server, self._broker):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue

    def run(self) -> float:
        """Carry one rotation's messages; return the server's CPU, in microseconds."""
        for size in UP:
            self._broker.write(bytes(size))
        for _ in DOWN:
            self._broker.write(bytes(_PUBACK))
        begun = time.thread_time_ns()
        received = sum(len(self._server.read(16_384)) for _ in (*UP, *DOWN))
        for size in (*DOWN, *(_PUBACK for _ in UP)):
            self._server.write(bytes(size))
        spent_ns = time.thread_time_ns() - begun
        for _ in (*DOWN, *UP):
            self._broker.read(16_384)
        if received != sum(UP) + _PUBACK * len(DOWN):
            raise AssertionError("the bare connection did not carry what it was given")
        return spent_ns / 1000


def rotation_floor(pki: Pki, *, runs: int = 200) -> Floor:
    """Measure every cryptographic operation of one rotation: the mean of so many runs of each."""
    key = ec.generate_private_key(ec.SECP256R1())
    public, message = key.public_key(), bytes(SIGNED_BYTES)
    signature = key.sign(message, _ECDSA)
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    csr, records = request(key), Records(pki)

    def load() -> None:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)

    def verify_request() -> None:
        if not x509.load_der_x509_csr(csr).is_signature_valid:
            raise AssertionError("the request's own signature failed")

    records.run()
    return (
        Operation("sign the command (P-256)", 1, cpu_us(lambda: key.sign(message, _ECDSA), runs)),
        Operation("read and verify the CSR (P-256)", 1, cpu_us(verify_request, runs)),
        Operation("load a P-256 key from its point: AK, new key", 2, cpu_us(load, runs)),
        Operation(
            "verify the AK's Certify (P-256)", 1, cpu_us(lambda: public.verify(signature, message, _ECDSA), runs)
        ),
        Operation("build and sign the certificate (P-256)", 1, cpu_us(lambda: certificate(key), runs)),
        Operation("TLS records of the server's link", 1, sum(records.run() for _ in range(runs)) / runs),
    )
