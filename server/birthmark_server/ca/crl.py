"""Certificate revocation lists (RFC 5280 §5): signed, numbered, complete for everything their CA issues.

The issuing distribution point says onlyContainsUserCerts (onlyContainsCACerts in the root's) and names no URL: a birth
certificate has no distribution point, and OpenSSL takes a CRL with a name in it to be out of scope for such.

A list may have a million entries, so it is encoded here, entry by entry as the store gives them (ADR 0073): what
`cryptography`'s builder writes, byte for byte, for a tenth of its time and a quarter of its memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_server.ca import der
from birthmark_server.ca.errors import UNREADABLE, AuthorityBroken
from birthmark_server.ca.extensions import key_identifier
from birthmark_server.ca.profile import BACKDATED, CaKind
from birthmark_server.ca.signer import CaSigner, algorithm_for
from birthmark_server.domain import RevocationReason, RevokedEntry

_V2: Final = der.integer(1)
_EXTENSIONS: Final = 0xA0
_ENUMERATED: Final = 0x0A
REASON_CODE: Final = {
    RevocationReason.KEY_COMPROMISE: 1,
    RevocationReason.AFFILIATION_CHANGED: 3,
    RevocationReason.SUPERSEDED: 4,
    RevocationReason.CESSATION_OF_OPERATION: 5,
    RevocationReason.PRIVILEGE_WITHDRAWN: 9,
}
"""CRLReason (RFC 5280 §5.3.1). Unspecified is not here: it is written as no extension."""
_USUAL: Final = 32
"""Digits of a serial number of ours."""
_MOST_OCTETS: Final = 20
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTES: Final = tuple(b"%02d%02d" % divmod(minute, 60) for minute in range(24 * 60))
_SECONDS: Final = tuple(b"%02dZ" % second for second in range(60))
_INTEGER: Final = tuple(der.header(0x02, size) for size in range(_MOST_OCTETS + 1))
_SEQUENCE: Final = tuple(der.header(0x30, size) for size in range(22 + 17 + 14 + 1))
"""Heads of an entry by its size: a serial number, a GeneralizedTime, a reason."""


class CrlIssuer(Protocol):
    """What a CRL needs of its CA: an `Issuer`, or the root."""

    @property
    def kind(self) -> CaKind: ...

    @property
    def certificate(self) -> x509.Certificate: ...

    @property
    def signer(self) -> CaSigner: ...


def build_crl(
    issuer: CrlIssuer, revoked: Iterable[RevokedEntry], *, number: int, now: datetime, next_update: datetime
) -> bytes:
    """Return a CRL, DER. revoked: all of this issuer's that are revoked and unexpired, read one after the other.

    number: above every earlier one of this issuer. now, next_update: aware UTC, to the second. next_update: by when the
    next one must be out; publish well before. thisUpdate is backdated as certificates are (profile.BACKDATED), or a
    client whose clock is behind refuses the list. Raises ValueError for a serial number or a reason that is none.
    """
    key = issuer.signer.public_key()
    algorithm = algorithm_for(key.curve)
    entries = _entries(revoked)
    tbs = _join(
        _V2,
        algorithm,
        issuer.certificate.subject.public_bytes(),
        der.time(max(now - BACKDATED, issuer.certificate.not_valid_before_utc)),
        der.time(next_update),
        *((der.header(0x30, len(entries)), entries) if entries else ()),  # RFC 5280 §5.1.2.6: none is no list at all
        der.tlv(_EXTENSIONS, der.sequence(*_extensions(issuer.kind, key_identifier(key), number))),
    )
    del entries  # a third of the memory of a long list
    return _join(tbs, algorithm, der.bit_string(issuer.signer.sign(tbs)))


def _join(*parts: bytes | bytearray) -> bytes:
    """Return the parts as a SEQUENCE, copied once."""
    return b"".join((der.header(0x30, sum(map(len, parts))), *parts))


def _extensions(kind: CaKind, key_id: bytes, number: int) -> Iterable[bytes]:
    for value, critical in (
        (x509.AuthorityKeyIdentifier(key_id, None, None), False),
        (x509.CRLNumber(number), False),
        (_scope(kind), True),
    ):
        yield der.extension(value.oid.dotted_string, value.public_bytes(), critical=critical)


def _entries(revoked: Iterable[RevokedEntry]) -> bytearray:
    """Return the entries, one after the other. A million times: tables and concatenation, no calls but fromhex."""
    encoded = bytearray()
    tails = {reason.value: _tail(reason) for reason in RevocationReason}
    days: dict[int, bytes] = {}
    from_hex = bytes.fromhex
    for serial_number, at_us, reason in revoked:
        minute, second = divmod(at_us // 1_000_000, 60)
        day, minute = divmod(minute, 1440)
        try:
            serial = from_hex(serial_number) if len(serial_number) == _USUAL else b""
            if not b"\x01" <= serial < b"\x80":  # not as we make them: odd, negative, or padded
                serial = _octets(serial_number)
            date = days.get(day) or days.setdefault(day, _date(day))
            entry = _INTEGER[len(serial)] + serial + date + _MINUTES[minute] + _SECONDS[second] + tails[reason]
        except (KeyError, ValueError, OverflowError) as error:
            raise ValueError(f"revoked certificate {serial_number!r}, reason {reason!r}: {error}") from None
        encoded += _SEQUENCE[len(entry)] + entry
    return encoded


def _octets(serial_number: str) -> bytes:
    """Return the contents of an INTEGER that is positive and at most 20 octets long (RFC 5280 §4.1.2.2)."""
    number = int(serial_number, 16)
    return number.to_bytes(min(number.bit_length() // 8 + 1, _MOST_OCTETS), "big")


def _date(day: int) -> bytes:
    """Return the identifier, the length and the date of a Time of that day (since 1970): hhmmssZ is to follow."""
    return der.time(_EPOCH + timedelta(days=day))[: -len("hhmmssZ")]


def _tail(reason: RevocationReason) -> bytes:
    code = REASON_CODE.get(reason)
    if code is None:
        return b""
    value = der.tlv(_ENUMERATED, bytes((code,)))
    return der.sequence(der.extension(x509.CRLReason.oid.dotted_string, value))


@dataclass(frozen=True, slots=True)
class RootCrl:
    """The root's CRL, proven to be its. Only `verify_root_crl` makes one. revoked: serial numbers of issuing CAs."""

    der: bytes
    number: int
    revoked: frozenset[int]


def verify_root_crl(crl_der: bytes, *, root: x509.Certificate) -> RootCrl:
    """Return the root's CRL, or raise AuthorityBroken: another issuer, another signature, another scope.

    root: proven. Does not prove that there is no newer one, nor ask for nextUpdate: the root is offline, a CRL that is
    overdue still says what it says, and `birthmark doctor` warns long before.
    """
    key = root.public_key()
    try:
        crl = x509.load_der_x509_crl(crl_der)
        scope = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        signed = isinstance(key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)
    except (*UNREADABLE, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityBroken(f"the root's CRL can't be read: {error}") from None
    if crl.issuer != root.subject or not signed:
        raise AuthorityBroken(f"root CRL {number} of {crl.issuer.rfc4514_string()} is not signed by this root")
    if scope != _scope(CaKind.ROOT):
        raise AuthorityBroken(f"root CRL {number}: want one for all CA certificates, got {scope}")
    return RootCrl(crl_der, number, frozenset(entry.serial_number for entry in crl))


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
