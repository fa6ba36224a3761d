"""What a TPM signs over: the qualifying data that ties one attestation to one exchange.

Every field is preceded by its length (4 bytes, big-endian), so bytes can't be moved from one field into the next
without changing the digest. The digest is SHA-256: 32 bytes fit the 34 that a SHA-256-only TPM takes as
qualifyingData.
"""

import hashlib
from typing import Final

from birthmark_wire import PROTOCOL

ENROLLMENT_LABEL: Final = b"birthmark enrollment"
RENEWAL_LABEL: Final = b"birthmark renewal"


def digest_fields(*fields: bytes) -> bytes:
    """Return SHA-256 over the fields, each preceded by its length in 4 big-endian bytes."""
    digest = hashlib.sha256()
    for field in fields:
        digest.update(len(field).to_bytes(4, "big"))
        digest.update(field)
    return digest.digest()


def enrollment_binding(
    *,
    enrollment_id: str,
    nonce: bytes,
    secret: bytes,
    ek_sha256: bytes,
    ak_name: bytes,
    key_name: bytes,
    serial: str,
    model: str,
    batch: str,
    csr_sha256: bytes,
    anchor_sha256: bytes,
    server_name: str,
) -> bytes:
    """Return Q, the qualifyingData of an enrollment's Certify (and Quote): 32 bytes.

    secret: what ActivateCredential gave. ek_sha256: SHA-256 of the EK's SubjectPublicKeyInfo. ak_name, key_name: TPM
    Names (nameAlg and digest). serial, model, batch: as the challenge stated them, batch empty without one.
    csr_sha256: of the PKCS #10 request, DER. anchor_sha256: of the root certificate that the device pins, DER.
    server_name: the DNS name that the device connected to.
    """
    return digest_fields(
        ENROLLMENT_LABEL,
        PROTOCOL.encode(),
        enrollment_id.encode(),
        nonce,
        secret,
        ek_sha256,
        ak_name,
        key_name,
        serial.encode(),
        model.encode(),
        batch.encode(),
        csr_sha256,
        anchor_sha256,
        server_name.encode(),
    )


def renewal_binding(
    *,
    nonce: bytes,
    device_id: str,
    client_certificate_sha256: bytes,
    spki: bytes,
    subject: bytes,
    subject_alt_name: bytes,
    job_id: str,
) -> bytes:
    """Return Q, the qualifyingData of the Certify that travels in a renewal's CSR: 32 bytes.

    nonce: from `/.well-known/est/nonce`. client_certificate_sha256: of the TLS client certificate, DER. spki: the new
    key's SubjectPublicKeyInfo, DER. subject: the CSR's Name, DER. subject_alt_name: the value of the CSR's
    SubjectAltName extension (its GeneralNames, DER), empty without one. job_id: empty when the device acts by itself.
    """
    return digest_fields(
        RENEWAL_LABEL,
        PROTOCOL.encode(),
        nonce,
        device_id.encode(),
        client_certificate_sha256,
        spki,
        subject,
        subject_alt_name,
        job_id.encode(),
    )
