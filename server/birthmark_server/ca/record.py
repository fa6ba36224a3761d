"""From a certificate to the row that remembers it."""

from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

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
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
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
        spki_sha256=sha256(spki).hexdigest(),
    )


@lru_cache(maxsize=1024)  # a few stations ask for thousands of devices
def common_name(subject: str) -> str:
    """Return the CN in a record's subject: what a station, an operator or a broker is called."""
    return str(x509.Name.from_rfc4514_string(subject).get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
