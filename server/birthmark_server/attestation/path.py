"""The path from an EK certificate to the root of a TPM vendor.

Candidate paths are found by name alone, then checked from the root downward: a signature is verified only under a key
that is already trusted, so forged intermediates cost an attacker more than us. Nothing is ever fetched: intermediates
come with the device or stand in the trust store, and an intermediate is never an end of a path.

Rules for every CA: CA:TRUE, keyCertSign, within its path length and dates, no extended key usage other than for EKs,
no name constraints, no critical extension that is not listed in `_CA_EXTENSIONS`.
Source: RFC 5280 §6.1, without policies (any policy will do) and revocation (docs/attestation.md says why).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from birthmark_server.attestation import certificate as x509
from birthmark_server.attestation.certificate import Certificate, describe_name
from birthmark_server.attestation.errors import (
    ChainAlgorithm,
    ChainDates,
    ChainNameConstraints,
    ChainNotCa,
    ChainPathLength,
    ChainSignature,
    CriticalExtension,
    EkUntrusted,
)
from birthmark_server.attestation.keys import check_ca_key
from birthmark_server.attestation.vendor import Vendor
from birthmark_server.errors import Refused

MAX_INTERMEDIATES: Final = 4
MAX_CANDIDATES: Final = 16

TCG_EK_CERTIFICATE: Final = "2.23.133.8.1"
_ANY_EXTENDED_KEY_USAGE: Final = "2.5.29.37.0"
_KEY_CERT_SIGN: Final = 5

_CA_EXTENSIONS: Final = frozenset(
    (x509.BASIC_CONSTRAINTS, x509.KEY_USAGE, x509.EXTENDED_KEY_USAGE, x509.CERTIFICATE_POLICIES)
)
"""What may be critical in a CA certificate: the first three are checked, and no policy is required of anybody."""

_RSA: Final = "RSA"
_ECDSA: Final = "ECDSA"
_ALGORITHMS: Final[dict[str, tuple[str, hashes.HashAlgorithm]]] = {
    "1.2.840.113549.1.1.5": (_RSA, hashes.SHA1()),  # noqa: S303  # a stated policy, per vendor: Vendor.allow_sha1
    "1.2.840.113549.1.1.11": (_RSA, hashes.SHA256()),
    "1.2.840.113549.1.1.12": (_RSA, hashes.SHA384()),
    "1.2.840.113549.1.1.13": (_RSA, hashes.SHA512()),
    "1.2.840.10045.4.3.2": (_ECDSA, hashes.SHA256()),
    "1.2.840.10045.4.3.3": (_ECDSA, hashes.SHA384()),
    "1.2.840.10045.4.3.4": (_ECDSA, hashes.SHA512()),
}


@dataclass(frozen=True, slots=True)
class Anchor:
    """A root that the operator trusts, and what its vendor's entry says it may vouch for."""

    certificate: Certificate
    vendor: Vendor


@dataclass(frozen=True, slots=True)
class TrustPath:
    """A path that holds. intermediates: from the EK certificate's issuer upward, without the anchor."""

    anchor: Anchor
    intermediates: tuple[Certificate, ...]


class Roots(Protocol):
    """What path building asks of a trust store: see roots.TrustStore."""

    def anchors_named(self, subject: bytes) -> tuple[Anchor, ...]:
        """Return the trusted roots of that subject (a Name, DER)."""

    def intermediates_named(self, subject: bytes) -> tuple[Certificate, ...]:
        """Return the intermediates of that subject which the operator keeps. They are not trusted."""

    def check_link(self, child: Certificate, issuer: Certificate) -> None:
        """Do as `check_link`; may remember what held."""


def find_path(leaf: Certificate, *, shown: Iterable[Certificate], roots: Roots, now: datetime) -> TrustPath:
    """Return the first path from `leaf` to a trusted root that holds at `now`.

    shown: the intermediates that came with the device. Raises EkUntrusted if no path leads to a root, or else the
    reason for which the first path did not hold.
    """
    failure: Refused | None = None
    for anchor, intermediates in _candidates(leaf, tuple(shown), roots):
        try:
            _check_path(leaf, intermediates, anchor, roots, now)
        except Refused as error:
            failure = failure or error
        else:
            return TrustPath(anchor, intermediates)
    raise failure or EkUntrusted(f"no path to a trusted root from a certificate by {describe_name(leaf.issuer)}")


def _candidates(
    leaf: Certificate, shown: tuple[Certificate, ...], roots: Roots
) -> Iterator[tuple[Anchor, tuple[Certificate, ...]]]:
    """Yield anchors with the intermediates that lead there by name, shortest first, MAX_CANDIDATES at most."""
    open_ends: list[tuple[Certificate, ...]] = [()]
    for _ in range(MAX_CANDIDATES):
        if not open_ends:
            return
        climbed = open_ends.pop(0)
        wanted = (climbed[-1] if climbed else leaf).issuer
        for anchor in roots.anchors_named(wanted):
            yield anchor, climbed
        if len(climbed) < MAX_INTERMEDIATES:
            named = (*roots.intermediates_named(wanted), *(ca for ca in shown if ca.subject == wanted))
            open_ends += [(*climbed, ca) for ca in dict.fromkeys(named) if ca not in climbed]


def _check_path(
    leaf: Certificate, intermediates: tuple[Certificate, ...], anchor: Anchor, roots: Roots, now: datetime
) -> None:
    downward = (anchor.certificate, *reversed(intermediates), leaf)
    for depth, (issuer, child) in enumerate(pairwise(downward)):
        below = len(intermediates) - depth
        if issuer.path_length is not None and below > issuer.path_length:
            raise ChainPathLength(f"{issuer.title} allows {issuer.path_length} CAs below itself, got {below}")
        check_dates(issuer, now=now)
        if isinstance(_algorithm(child)[1], hashes.SHA1) and not anchor.vendor.allow_sha1:
            raise ChainAlgorithm(f"{child.title} is signed with SHA-1, {anchor.vendor.name} refuses it")
        roots.check_link(child, issuer)


def check_dates(ca: Certificate, *, now: datetime) -> None:
    """Refuse a CA that is not valid at `now`. Raises ChainDates."""
    if not ca.not_before <= now <= ca.not_after:
        raise ChainDates(f"{ca.title} is valid from {ca.not_before:%Y-%m-%d} to {ca.not_after:%Y-%m-%d}")


def check_link(child: Certificate, issuer: Certificate) -> None:
    """Check that `issuer` is a CA for endorsement keys and signed `child`, whatever the day and the path's rest."""
    check_ca(issuer)
    check_signature(child, issuer)


def check_ca(ca: Certificate) -> None:
    """Refuse what may not issue EK certificates, or CAs that do."""
    if not ca.is_ca or ca.may(_KEY_CERT_SIGN) is False:
        raise ChainNotCa(f"{ca.title} is not a CA certificate")
    if ca.purposes is not None and not ca.purposes & {TCG_EK_CERTIFICATE, _ANY_EXTENDED_KEY_USAGE}:
        raise ChainNotCa(f"{ca.title} may not issue endorsement keys: its extended key usage is {sorted(ca.purposes)}")
    if ca.extension(x509.NAME_CONSTRAINTS) is not None:
        raise ChainNameConstraints(f"{ca.title} has name constraints")
    refuse_critical(ca, _CA_EXTENSIONS)
    check_ca_key(ca.key, "CA key")


def check_signature(child: Certificate, issuer: Certificate) -> None:
    """Check the child's signature with the issuer's key, over the child's original bytes.

    Raises ChainAlgorithm, ChainSignature. SHA-1 passes here; `find_path` refuses it where the vendor's entry does.
    """
    kind, algorithm = _algorithm(child)
    try:
        if kind == _RSA and isinstance(issuer.key, rsa.RSAPublicKey):
            issuer.key.verify(child.signature, child.tbs, padding.PKCS1v15(), algorithm)
        elif kind == _ECDSA and isinstance(issuer.key, ec.EllipticCurvePublicKey):
            issuer.key.verify(child.signature, child.tbs, ec.ECDSA(algorithm))
        else:
            raise ChainSignature(f"an {kind} signature can't be by the key of {issuer.title}")
    except InvalidSignature:
        raise ChainSignature(f"not signed by {issuer.title}") from None


def refuse_critical(certificate: Certificate, evaluated: frozenset[str]) -> None:
    """Refuse a critical extension that is not among those that the caller evaluates."""
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in evaluated:
            raise CriticalExtension(f"critical extension {extension.oid} in {certificate.title}")


def _algorithm(child: Certificate) -> tuple[str, hashes.HashAlgorithm]:
    algorithm = _ALGORITHMS.get(child.signature_algorithm)
    if algorithm is None:
        raise ChainAlgorithm(f"signature algorithm {child.signature_algorithm} is not accepted")
    return algorithm
