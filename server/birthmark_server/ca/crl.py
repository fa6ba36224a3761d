"""Certificate revocation lists (RFC 5280 §5): signed, numbered, complete for everything their CA issues.

The issuing distribution point says onlyContainsUserCerts (onlyContainsCACerts in the root's) and names no URL: a birth
certificate has no distribution point, and OpenSSL takes a CRL with a name in it to be out of scope for such.

Built with `cryptography`: 6.6 s and 626 MiB for a million entries where an encoder of our own would take 0.6 s. Birth
CAs are made per year or lot and LDevIDs live for days, so lists stay far below that for now.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca.errors import UNREADABLE, AuthorityBroken
from birthmark_server.ca.extensions import key_identifier
from birthmark_server.ca.profile import BACKDATED, CaKind
from birthmark_server.ca.signer import BuilderKey, CaSigner, hash_for
from birthmark_server.domain import RevocationReason

_REASONS: Final = {reason: x509.ReasonFlags(reason.value) for reason in RevocationReason}


class CrlIssuer(Protocol):
    """What a CRL needs of its CA: an `Issuer`, or the root."""

    @property
    def kind(self) -> CaKind: ...

    @property
    def certificate(self) -> x509.Certificate: ...

    @property
    def signer(self) -> CaSigner: ...


class Revoked(Protocol):
    """What a CRL needs of an entry: a `CertificateRecord` that is revoked."""

    @property
    def serial_number(self) -> str: ...

    @property
    def revoked_at(self) -> datetime | None: ...

    @property
    def reason(self) -> RevocationReason | None: ...


def build_crl(
    issuer: CrlIssuer, revoked: Iterable[Revoked], *, number: int, now: datetime, next_update: datetime
) -> bytes:
    """Return a CRL, DER. revoked: all of this issuer's that are revoked and unexpired, each with revoked_at set.

    number: above every earlier one of this issuer. next_update: by when the next one must be out; publish well before.
    thisUpdate is backdated as certificates are (profile.BACKDATED), or a client whose clock is behind refuses the list.
    Raises ValueError for a record without revoked_at.
    """
    key = issuer.signer.public_key()
    this_update = max(now - BACKDATED, issuer.certificate.not_valid_before_utc)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(this_update)
        .next_update(next_update)
        .add_extension(x509.AuthorityKeyIdentifier(key_identifier(key), None, None), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_scope(issuer.kind), critical=True)
    )
    for record in revoked:
        builder = builder.add_revoked_certificate(_entry(record))
    return builder.sign(BuilderKey.over(issuer.signer), hash_for(key.curve)).public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class RootCrl:
    """The root's CRL, proven to be its. Only `verify_root_crl` makes one. revoked: serial numbers of issuing CAs."""

    der: bytes
    number: int
    revoked: frozenset[int]


def verify_root_crl(der: bytes, *, root: x509.Certificate) -> RootCrl:
    """Return the root's CRL, or raise AuthorityBroken: another issuer, another signature, another scope.

    root: proven. Does not prove that there is no newer one, nor ask for nextUpdate: the root is offline, a CRL that is
    overdue still says what it says, and `birthmark doctor` warns long before.
    """
    key = root.public_key()
    try:
        crl = x509.load_der_x509_crl(der)
        scope = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        signed = isinstance(key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)
    except (*UNREADABLE, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityBroken(f"the root's CRL can't be read: {error}") from None
    if crl.issuer != root.subject or not signed:
        raise AuthorityBroken(f"root CRL {number} of {crl.issuer.rfc4514_string()} is not signed by this root")
    if scope != _scope(CaKind.ROOT):
        raise AuthorityBroken(f"root CRL {number}: want one for all CA certificates, got {scope}")
    return RootCrl(der, number, frozenset(entry.serial_number for entry in crl))


def _scope(kind: CaKind) -> x509.IssuingDistributionPoint:
    root = kind is CaKind.ROOT
    return x509.IssuingDistributionPoint(
        full_name=None,
        relative_name=None,
        only_contains_user_certs=not root,
        only_contains_ca_certs=root,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )


def _entry(record: Revoked) -> x509.RevokedCertificate:
    if record.revoked_at is None:
        raise ValueError(f"{record.serial_number} is not revoked")
    builder = (
        x509.RevokedCertificateBuilder().serial_number(int(record.serial_number, 16)).revocation_date(record.revoked_at)
    )
    # RFC 5280 §5.3.1: no reason is written as no extension.
    if record.reason not in (None, RevocationReason.UNSPECIFIED):
        builder = builder.add_extension(x509.CRLReason(_REASONS[record.reason]), critical=False)
    return builder.build()
