"""`/v1/time`: what time it is, signed, for devices that have no clock (birthmark_wire.time).

The signature is by the key of the server's certificate, over the device's own nonce: the answer is good for this
question alone. The certificate travels with it, so that it holds behind a TLS front too, which shows another one.
Public: a device that does not know the time can't judge anything else yet.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from birthmark_server.domain import Caller
from birthmark_server.errors import Misconfigured
from birthmark_server.web.doors import PUBLIC, Answer, Call, Route
from birthmark_server.web.enroll import require_media_type
from birthmark_wire.enrollment import JSON_MIME
from birthmark_wire.time import MAX_SIGNER_CHAIN, TIME_PATH, TimeAnswer, TimeQuestion, time_binding


@dataclass(frozen=True, slots=True)
class TimeSigner:
    """The server's certificate with its CAs, and the links from older roots, without the root itself, DER; its key."""

    chain: tuple[bytes, ...]
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def load(cls, certificate: Path, key: Path, passphrase: bytes | None) -> "TimeSigner | None":
        """Read the listener's files; None where the key is not an elliptic-curve key. Raise Misconfigured."""
        try:
            private = load_pem_private_key(key.read_bytes(), passphrase)
        except (OSError, ValueError, TypeError) as error:
            raise Misconfigured(f"can't use the server's key {key}: {error}") from None
        try:
            certificates = x509.load_pem_x509_certificates(certificate.read_bytes())
        except (OSError, ValueError) as error:
            raise Misconfigured(f"can't use the server's certificate {certificate}: {error}") from None
        if certificates[0].public_key() != private.public_key():
            raise Misconfigured(f"the key {key} is not that of the certificate {certificate}")
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            return None
        chain = [one.public_bytes(Encoding.DER) for one in certificates if not _is_root(one)]
        if not 1 <= len(chain) <= MAX_SIGNER_CHAIN:
            raise Misconfigured(f"{certificate}: want 1 to {MAX_SIGNER_CHAIN} certificates, got {len(chain)}")
        return cls(tuple(chain), private)

    def sign(self, nonce: bytes, at: datetime) -> TimeAnswer:
        """Say what time it is to who asked with this nonce. at: fractions of a second are cut off."""
        at = at.replace(microsecond=0)
        binding = time_binding(nonce=nonce, signer_sha256=hashlib.sha256(self.chain[0]).digest(), at=at)
        return TimeAnswer(at, self.chain, self.key.sign(binding, ec.ECDSA(SHA256())))


def _is_root(certificate: x509.Certificate) -> bool:
    """Whether its own key signed it. A link between two roots bears one name twice, and another key's signature."""
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def time_routes(signer: TimeSigner | None, *, now: Callable[[], datetime]) -> list[Route]:
    """Return the route; none without a signer."""
    if signer is None:
        return []

    def tell(call: Call, _caller: Caller) -> Answer:
        require_media_type(call, JSON_MIME)
        question = TimeQuestion.decode(call.body)
        return Answer(200, signer.sign(question.nonce, now()).encode(), JSON_MIME)

    return [Route("POST", TIME_PATH, PUBLIC, tell)]
