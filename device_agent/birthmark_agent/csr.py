"""PKCS #10 requests (RFC 2986), written byte by byte and signed by a key that stays in the TPM.

`cryptography`'s builder can't carry an attribute whose value is a SEQUENCE, and id-aa-attestation is one; the tests
read the requests back with `cryptography`, `openssl req` and declared ASN.1.

Rules: the names of a renewal are the certificate's (RFC 7030 §4.2.2). The signature is ecdsa-with-SHA256 (RFC 5758
§3.2): every key of a device is P-256.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Protocol

from birthmark_agent.der import (
    BIT_STRING,
    CONTEXT_0,
    INTEGER,
    OCTET_STRING,
    PRINTABLE_STRING,
    SET,
    oid,
    sequence,
    tlv,
)
from birthmark_wire import est
from birthmark_wire.enrollment import Attestation

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
    uri_name = sequence(tlv(_GENERAL_NAME_URI, uri.encode("ascii"))) if uri else b""
    return Names(_name(_COMMON_NAME, device_id), uri_name)


def build_request(key: RequestKey, names: Names, evidence: KeyEvidence | None = None) -> bytes:
    """Return a CertificationRequest, DER, with proof of possession by `key` and, if given, the TPM's evidence.

    Raises whatever `key.sign_digest` raises; asks for exactly one signature.
    """
    attributes = []
    if names.subject_alt_name:
        extension = sequence(oid(_SUBJECT_ALT_NAME), tlv(OCTET_STRING, names.subject_alt_name))
        attributes.append(_attribute(_EXTENSION_REQUEST, sequence(extension)))
    if evidence is not None:
        attributes.append(_attribute(est.ID_AA_ATTESTATION, attestation_bundle(evidence)))
    information = sequence(tlv(INTEGER, b"\x00"), names.subject, key.spki, tlv(CONTEXT_0, b"".join(sorted(attributes))))
    signature = key.sign_digest(hashlib.sha256(information).digest(), "sha256")
    return sequence(information, sequence(oid(_ECDSA_WITH_SHA256)), tlv(BIT_STRING, b"\x00" + signature))


def attestation_bundle(evidence: KeyEvidence) -> bytes:
    """Return the AttestationBundle of birthmark_wire.est, DER, with one tcg-attest-tpm-certify statement."""
    statement = sequence(
        tlv(OCTET_STRING, evidence.statement.attest),
        tlv(OCTET_STRING, evidence.statement.signature),
        tlv(OCTET_STRING, evidence.public),
    )
    return sequence(sequence(sequence(oid(est.TCG_ATTEST_TPM_CERTIFY), statement)))


def _attribute(kind: str, value: bytes) -> bytes:
    return sequence(oid(kind), tlv(SET, value))


def _name(attribute: str, value: str) -> bytes:
    """Return a Name of one RDN with one PrintableString: what birthmark_wire.ids lets through fits that alphabet."""
    return sequence(tlv(SET, sequence(oid(attribute), tlv(PRINTABLE_STRING, value.encode("ascii")))))
