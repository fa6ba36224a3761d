"""Certificates that are DER but for one rule, as some vendors write them: taken apart, changed, signed again."""

from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_server.attestation import der
from support.tpm_vendor import Ca


def tlv(tag: int, *parts: bytes) -> bytes:
    """Write one element."""
    value = b"".join(parts)
    length = len(value)
    size = b"" if length < 128 else length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size) if size else length)) + size + value


def rewritten(certificate: bytes, change: Callable[[bytes], bytes], key: ec.EllipticCurvePrivateKey) -> bytes:
    """Change the members of the signed part and sign it again."""
    tbs, algorithm, _ = der.sequence(certificate)
    changed = tlv(der.SEQUENCE, change(tbs.value))
    signature = key.sign(changed, ec.ECDSA(hashes.SHA256()))
    return tlv(der.SEQUENCE, changed, algorithm.encoded, tlv(der.BIT_STRING, b"\0", signature))


def replacing(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Replace bytes that must be there, by as many."""

    def change(data: bytes) -> bytes:
        assert old in data
        assert len(old) == len(new)
        return data.replace(old, new)

    return change


def unsorted_root() -> Ca:
    """Make a root as Nuvoton's: its Name has one RDN of several attributes, out of order."""
    attributes = [
        x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "TW"),
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Odd"),
    ]
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.RelativeDistinguishedName(attributes)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
    builder = builder.not_valid_after(datetime(2050, 1, 1, tzinfo=UTC))
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    sorted_root = builder.sign(key, hashes.SHA256())
    return Ca(sorted_root, key)


def swap_attributes(name: bytes) -> bytes:
    """Return the Name with the two attributes of its one RDN in the other order."""
    (rdn,) = der.sequence(name)
    first, second = der.members_of(rdn, der.SET)
    return tlv(der.SEQUENCE, tlv(der.SET, second.encoded, first.encoded))
