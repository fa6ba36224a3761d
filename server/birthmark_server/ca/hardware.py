"""The HardwareModuleName of a birth certificate (RFC 4108 §5): which TPM it is, byte for byte.

    HardwareModuleName ::= SEQUENCE { hwType OBJECT IDENTIFIER, hwSerialNum OCTET STRING }

hwType is 2.23.133.1.2, a TPM 2.0, and hwSerialNum one of the two forms that go with it (TCG, TPM 2.0 Keys for Device
Identity and Attestation, "hardwareModuleName"):

1. with an EK certificate, ASCII text: the TPM manufacturer's id as eight hexadecimal digits, ':', the EK certificate's
   authority key identifier, ':', its serial number, the last two as lower-case hexadecimal, the serial number without
   leading zeros;
2. without one, the digest of the EK: the 32 octets of SHA-256 over its SubjectPublicKeyInfo, as in the manifest.

An EK certificate that lacks any part of the first form (no authority key identifier, or a certificate so odd that
`cryptography` can't read it) is treated as absent: the digest names the TPM as well.
"""

import re
from typing import Final

from cryptography import x509

from birthmark_server.ca import oids
from birthmark_server.ca.der import object_identifier, octet_string, sequence
from birthmark_server.ca.errors import UNREADABLE

_HW_TYPE: Final = object_identifier(oids.TCG_TPM20.dotted_string)
_MANUFACTURER: Final = re.compile(r"(?:id:)?([0-9A-Fa-f]{8})", re.ASCII)


def hardware_serial(*, ek_sha256: str, ek_certificate: bytes | None) -> bytes:
    """Return the contents of hwSerialNum.

    ek_sha256: hex, over the EK's SubjectPublicKeyInfo. ek_certificate: DER, already verified; None without one.
    """
    if ek_certificate is not None and (serial := _from_certificate(ek_certificate)) is not None:
        return serial
    return bytes.fromhex(ek_sha256)


def hardware_module_name(serial: bytes) -> x509.OtherName:
    """Return the subject alternative name of a TPM 2.0 with this hwSerialNum."""
    return x509.OtherName(oids.ON_HARDWARE_MODULE_NAME, sequence(_HW_TYPE, octet_string(serial)))


def _from_certificate(der: bytes) -> bytes | None:
    try:
        certificate = x509.load_der_x509_certificate(der)
        key_id = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        serial_number = certificate.serial_number
    except UNREADABLE:
        return None
    manufacturer = _manufacturer(names)
    if key_id is None or manufacturer is None:
        return None
    return f"{manufacturer}:{key_id.hex()}:{serial_number:x}".encode("ascii")


def _manufacturer(names: x509.SubjectAlternativeName) -> str | None:
    """The TPM manufacturer's id: in an EK certificate it is an attribute of a directoryName, `id:49465800`."""
    for name in names.get_values_for_type(x509.DirectoryName):
        for attribute in name.get_attributes_for_oid(oids.TCG_TPM_MANUFACTURER):
            if isinstance(attribute.value, str) and (match := _MANUFACTURER.fullmatch(attribute.value)):
                return match[1].upper()
    return None
