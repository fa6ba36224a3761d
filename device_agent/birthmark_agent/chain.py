"""The path from a certificate that we were given up to a root that this device pins."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_agent.errors import UnusableAnswer

_MAX_PATH: Final = 5


@dataclass(frozen=True, slots=True)
class Path:
    """certificates: leaf first, without the root. root: the pinned one that signed the last of them."""

    certificates: tuple[x509.Certificate, ...]
    root: x509.Certificate


def verify_chain(
    pool: Iterable[x509.Certificate], *, spki: bytes, anchors: Sequence[x509.Certificate]
) -> tuple[bytes, ...]:
    """Return the chain from the certificate that carries `spki` up to, without, one of `anchors`: DER, leaf first.

    Behind it come the links of the pool, if any: certificates that another root's key made for that root's name and
    key (RFC 4210 §4.4). A peer that knows the other root alone gets here by them. Proves nothing about a link. For the
    rest, and what it raises, see find_path.
    """
    certificates = list(pool)
    path = find_path(certificates, spki=spki, anchors=anchors)
    links = [one for one in dict.fromkeys(certificates) if _links(one, path)]
    return tuple(one.public_bytes(Encoding.DER) for one in (*path.certificates, *links)[:_MAX_PATH])


def find_path(certificates: Sequence[x509.Certificate], *, spki: bytes, anchors: Sequence[x509.Certificate]) -> Path:
    """Return the shortest path from the certificate that carries `spki` to one of `anchors`.

    Each certificate names the next as its issuer and is signed by it: roots that follow each other have one name, and
    keys tell them apart. Does not check validity times (the clock may be wrong), nor names and extensions: the issuer
    is trusted for those. Raises UnusableAnswer.
    """
    leaf = _leaf(certificates, spki)
    paths: deque[tuple[x509.Certificate, ...]] = deque([(leaf,)])
    seen = {leaf}
    while paths:
        path = paths.popleft()
        root = next((anchor for anchor in anchors if _issued(path[-1], anchor)), None)
        if root is not None:
            return Path(path, root)
        if len(path) < _MAX_PATH:
            above = [ca for ca in dict.fromkeys(certificates) if ca not in seen and _issued(path[-1], ca)]
            seen.update(above)
            paths.extend((*path, ca) for ca in above)
    names = " or ".join(dict.fromkeys(_title(anchor) for anchor in anchors))
    raise UnusableAnswer(f"no path from {_title(leaf)} to the pinned root {names}")


def _leaf(certificates: Sequence[x509.Certificate], spki: bytes) -> x509.Certificate:
    for certificate in certificates:
        if _spki(certificate) == spki:
            return certificate
    raise UnusableAnswer("none of the certificates in the answer carries our key")


def _links(certificate: x509.Certificate, path: Path) -> bool:
    """Return whether it is for the name and key of the path's root, by a key that is not on the path."""
    root = path.root
    same = certificate.subject == root.subject and _spki(certificate) == _spki(root)
    return same and not any(_issued(certificate, known) for known in (root, *path.certificates))


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _title(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string())
