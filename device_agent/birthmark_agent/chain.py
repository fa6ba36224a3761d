"""The path from a certificate that we were given up to the root that this device pins."""

from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_agent.errors import UnusableAnswer

_MAX_PATH: Final = 5


def verify_chain(pool: Iterable[x509.Certificate], *, spki: bytes, anchor: x509.Certificate) -> tuple[bytes, ...]:
    """Return the chain from the certificate that carries `spki` up to, without, `anchor`: DER, leaf first.

    Each certificate names the next as its issuer and is signed by it. Does not check validity times (the clock may be
    wrong), nor names and extensions: the issuer is trusted for those. Raises UnusableAnswer.
    """
    certificates = list(pool)
    chain = [_leaf(certificates, spki)]
    while not _issued(chain[-1], anchor):
        above = next((ca for ca in certificates if ca not in chain and _issued(chain[-1], ca)), None)
        if above is None or len(chain) == _MAX_PATH:
            raise UnusableAnswer(f"no path from {_title(chain[0])} to the pinned root {_title(anchor)}")
        chain.append(above)
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)


def _leaf(certificates: list[x509.Certificate], spki: bytes) -> x509.Certificate:
    for certificate in certificates:
        if certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == spki:
            return certificate
    raise UnusableAnswer("none of the certificates in the answer carries our key")


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _title(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string())
