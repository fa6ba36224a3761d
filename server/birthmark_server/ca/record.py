"""From a certificate to the row that remembers it."""

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from birthmark_server.ca.issuer import Issuer, to_der
from birthmark_server.domain import CertificateProfile, CertificateRecord


def to_record(
    certificate: x509.Certificate,
    *,
    issuer: Issuer,
    profile: CertificateProfile,
    issued_at: datetime,
    device_id: str = "",
) -> CertificateRecord:
    """Return the record of a certificate that `issuer` just issued. device_id: empty for the infrastructure's own."""
    return CertificateRecord(
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        issuer_sha256=issuer.sha256,
        serial_number=f"{certificate.serial_number:x}",
        profile=profile,
        device_id=device_id,
        subject=certificate.subject.rfc4514_string(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        der=to_der(certificate),
        issued_at=issued_at,
    )
