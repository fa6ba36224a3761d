"""A certificate with the fields of an EK certificate that name a TPM, self-signed: for tests that only read names."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding


def ek_certificate(*, manufacturer: str, key_id: bytes, serial_number: int) -> bytes:
    """Return DER. manufacturer: as in `id:49465800`; empty to leave the directoryName's attribute out."""
    key = ec.generate_private_key(ec.SECP256R1())
    oid = x509.ObjectIdentifier("2.23.133.2.1" if manufacturer else "2.23.133.2.2")
    tpm = x509.DirectoryName(x509.Name([x509.NameAttribute(oid, manufacturer or "id:1")]))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "TPM vendor")])
    builder = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(serial_number)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2046, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([tpm]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier(key_id, None, None), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
