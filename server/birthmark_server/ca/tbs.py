"""The to-be-signed bytes of a leaf certificate (RFC 5280 §4.1).

What all certificates of one profile and issuer share is encoded once, by `cryptography`: issuer, organization, the
constant extensions. What differs is put between: a serial number, two times, a name, a key, its identifier, and the
alternative names: half the work of `cryptography`'s builder (ADR 0072). lint.py reads every result back
with `cryptography`'s parser, which knows nothing of this file, and a test holds the bytes against the builder's.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from birthmark_server.ca.der import extension, integer, object_identifier, octet_string, sequence, time, tlv
from birthmark_server.ca.profile import CRITICAL

_V3: Final = tlv(0xA0, integer(2))
_SET: Final = 0x31
_EXTENSIONS: Final = 0xA3
_UTF8, _PRINTABLE = 0x0C, 0x13
_STRING: Final = {NameOID.ORGANIZATION_NAME: _UTF8, NameOID.COMMON_NAME: _UTF8, NameOID.SERIAL_NUMBER: _PRINTABLE}
"""How an attribute of a subject is encoded: serialNumber has no choice (X.520 §6.2.9), RFC 5280 wants UTF8String."""


class TbsEncoder:
    """Encodes the certificates of one profile and issuer. Thread-safe: nothing in it changes."""

    __slots__ = ("_extensions", "_issuer", "_organization", "_signature", "_subject")

    def __init__(
        self,
        *,
        signature: bytes,
        issuer: x509.Name,
        organization: str,
        subject: x509.ObjectIdentifier,
        constants: Iterable[x509.ExtensionType],
    ) -> None:
        """signature: AlgorithmIdentifier, DER. subject: the attribute that follows O. constants: in their order."""
        self._signature = signature
        self._issuer = issuer.public_bytes()
        self._organization = _relative_name(NameOID.ORGANIZATION_NAME, organization)
        self._subject = subject
        self._extensions = b"".join(_encoded(value.oid, value.public_bytes()) for value in constants)

    def encode(
        self,
        *,
        serial_number: int,
        not_before: datetime,
        not_after: datetime,
        name: str,
        spki: bytes,
        key_id: bytes,
        alt_name: Sequence[x509.GeneralName],
    ) -> bytes:
        """Return a TBSCertificate. not_before, not_after: aware UTC, to the second. spki: DER. alt_name: may be empty.

        Checks nothing: profile and namespace were asked before, and lint.py reads what comes of it.
        """
        extensions = [self._extensions, _encoded(ExtensionOID.SUBJECT_KEY_IDENTIFIER, octet_string(key_id))]
        if alt_name:
            value = x509.SubjectAlternativeName(alt_name).public_bytes()
            extensions.append(_encoded(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, value))
        return sequence(
            _V3,
            integer(serial_number),
            self._signature,
            self._issuer,
            sequence(time(not_before), time(not_after)),
            sequence(self._organization, _relative_name(self._subject, name)),
            spki,
            tlv(_EXTENSIONS, sequence(*extensions)),
        )


def _relative_name(attribute: x509.ObjectIdentifier, value: str) -> bytes:
    """Return one RelativeDistinguishedName of one attribute."""
    string = tlv(_STRING[attribute], value.encode())
    return tlv(_SET, sequence(object_identifier(attribute.dotted_string), string))


def _encoded(oid: x509.ObjectIdentifier, value: bytes) -> bytes:
    return extension(oid.dotted_string, value, critical=CRITICAL[oid])
