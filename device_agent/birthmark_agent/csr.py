"""PKCS #10 requests (RFC 2986), written byte by byte and signed by a key that stays in the TPM.

`cryptography`'s builder can't carry an attribute whose value is a SEQUENCE, and id-aa-attestation is one; so the few
DER forms that a request needs are written here (X.690 §8, definite lengths), and the tests read them back with
`cryptography`, `openssl req` and asn1 rules that nobody here wrote.

Rules: the names in a renewal are the certificate's own bytes, never parsed and written again (RFC 7030 §4.2.2 wants
them the same). The signature is ecdsa-with-SHA256 (RFC 5758 §3.2): every key of a device is P-256.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Protocol

from birthmark_wire import est
from birthmark_wire.enrollment import Attestation

_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_INTEGER: Final = 0x02
_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_OBJECT_IDENTIFIER: Final = 0x06
_PRINTABLE_STRING: Final = 0x13
_ATTRIBUTES: Final = 0xA0
_GENERAL_NAME_URI: Final = 0x86

_ECDSA_WITH_SHA256: Final = "1.2.840.10045.4.3.2"
_EXTENSION_REQUEST: Final = "1.2.840.113549.1.9.14"
_SUBJECT_ALT_NAME: Final = "2.5.29.17"
_COMMON_NAME: Final = "2.5.4.3"
_SERIAL_NUMBER: Final = "2.5.4.5"


class RequestKey(Protocol):
    """A P-256 key that can sign a request: tpm.device.TpmKey, or a fake in tests."""

    @property
    def spki(self) -> bytes:
        """Its SubjectPublicKeyInfo, DER."""

    def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
        """Return the DER ECDSA-Sig-Value over a digest made by the hash of that name ("sha256")."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a request asks to be called. subject: a Name, DER. subject_alt_name: GeneralNames, DER; empty without."""

    subject: bytes
    subject_alt_name: bytes


@dataclass(frozen=True, slots=True)
class KeyEvidence:
    """A TPM2_Certify about the new key: the AK's statement, and the key's TPMT_PUBLIC."""

    statement: Attestation
    public: bytes


def birth_names(serial: str) -> Names:
    """Return the names of a birth request: serialNumber alone. The CA writes the IDevID's names from its records."""
    return Names(_name(_SERIAL_NUMBER, serial), b"")


def device_names(device_id: str, uri: str = "") -> Names:
    """Return the names of a first operational request: CN = device id, and the SPIFFE URI where it is known."""
    uri_name = _sequence(_tlv(_GENERAL_NAME_URI, uri.encode("ascii"))) if uri else b""
    return Names(_name(_COMMON_NAME, device_id), uri_name)


def build_request(key: RequestKey, names: Names, evidence: KeyEvidence | None = None) -> bytes:
    """Return a CertificationRequest, DER, with proof of possession by `key` and, if given, the TPM's evidence.

    Raises whatever `key.sign_digest` raises; asks for exactly one signature.
    """
    attributes = []
    if names.subject_alt_name:
        extension = _sequence(_oid(_SUBJECT_ALT_NAME), _tlv(_OCTET_STRING, names.subject_alt_name))
        attributes.append(_attribute(_EXTENSION_REQUEST, _sequence(extension)))
    if evidence is not None:
        attributes.append(_attribute(est.ID_AA_ATTESTATION, attestation_bundle(evidence)))
    information = _sequence(
        _tlv(_INTEGER, b"\x00"), names.subject, key.spki, _tlv(_ATTRIBUTES, b"".join(sorted(attributes)))
    )
    signature = key.sign_digest(hashlib.sha256(information).digest(), "sha256")
    return _sequence(information, _sequence(_oid(_ECDSA_WITH_SHA256)), _tlv(_BIT_STRING, b"\x00" + signature))


def attestation_bundle(evidence: KeyEvidence) -> bytes:
    """Return the AttestationBundle of birthmark_wire.est, DER, with one tcg-attest-tpm-certify statement."""
    statement = _sequence(
        _tlv(_OCTET_STRING, evidence.statement.attest),
        _tlv(_OCTET_STRING, evidence.statement.signature),
        _tlv(_OCTET_STRING, evidence.public),
    )
    return _sequence(_sequence(_sequence(_oid(est.TCG_ATTEST_TPM_CERTIFY), statement)))


def _attribute(oid: str, value: bytes) -> bytes:
    return _sequence(_oid(oid), _tlv(_SET, value))


def _name(attribute: str, value: str) -> bytes:
    """Return a Name of one RDN with one PrintableString: what birthmark_wire.ids lets through fits that alphabet."""
    return _sequence(_tlv(_SET, _sequence(_oid(attribute), _tlv(_PRINTABLE_STRING, value.encode("ascii")))))


def _sequence(*parts: bytes) -> bytes:
    return _tlv(_SEQUENCE, b"".join(parts))


def _tlv(tag: int, value: bytes) -> bytes:
    """Return tag, definite length in its shortest form, and value (X.690 §8.1.3, §10.1)."""
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + value


def _oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER (X.690 §8.19)."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    return _tlv(_OBJECT_IDENTIFIER, b"".join(_base128(arc) for arc in (first * 40 + second, *rest)))


def _base128(arc: int) -> bytes:
    septets = [arc & 0x7F]
    while arc := arc >> 7:
        septets.append(0x80 | arc & 0x7F)
    return bytes(reversed(septets))
