"""Object identifiers that appear in our certificates.

Ours hang below one arc that needs no registration and whose numbers every verifier can read: Microsoft's arc for
generated identifiers, followed by a random UUID cut into seven small numbers. The obvious 2.25.UUID (ITU-T X.667) has a
number of 128 bits where RFC 5280 appendix B promises 28: Go refuses such a certificate, GnuTLS can't read its key
purposes, pkilint can't lint it (docs/adr/0010-object-identifiers.md). The UUID was drawn once for this project; every
installation shares it, because the roles mean the same everywhere. A number in here is never used again.
"""

import re
from typing import Final

from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID

_UUID: Final = "d6926261-a029-40fc-9031-bb05a90f1125"


def _arc(uuid: str) -> str:
    """Return the identifier that Microsoft's generator makes of a UUID: numbers of 16 bits, the last two of 24."""
    parts = re.fullmatch("(.{4})(.{4})(.{4})(.{4})(.{4})(.{6})(.{6})", uuid.replace("-", ""))
    if parts is None:
        raise ValueError(f"want a UUID, got {uuid!r}")
    return ".".join(["1.2.840.113556.1.8000.2554", *(str(int(part, 16)) for part in parts.groups())])


BIRTHMARK_ARC: Final = _arc(_UUID)

# Key purposes (BIRTHMARK_ARC.1): each infrastructure role has one of its own.
KP_SERVER: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.1.1")
KP_BROKER: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.1.2")
KP_CONTROL: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.1.3")
KP_STATION: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.1.4")
KP_OPERATOR: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.1.5")
KP_COMMAND: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.1.6")
KP_DENY_LIST: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.1.7")

# Certificate policies (BIRTHMARK_ARC.2): what we did before we issued.
CP_IDEVID: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.2.1")
CP_LDEVID: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.2.2")
CP_LDEVID_SOFTWARE: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.2.3")
CP_INFRASTRUCTURE: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.2.4")

# Certificate policies (BIRTHMARK_ARC.2) again: what an operator may do. One certificate has at most one of them.
CP_VIEWER: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.2.5")
CP_FACTORY: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.2.6")
CP_FLEET_OPERATOR: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.2.7")
CP_SECURITY_OFFICER: Final = ObjectIdentifier(f"{BIRTHMARK_ARC}.2.8")

ANY_POLICY: Final = ObjectIdentifier("2.5.29.32.0")
"""anyPolicy, RFC 5280 §4.2.1.4. Only links between roots have it."""

# TCG OID Registry: the CA verified that the key resides in a TPM, and that it can't leave it (fixedTPM).
TCG_VERIFIED_TPM_RESIDENCY: Final = ObjectIdentifier("2.23.133.11.1.1")
TCG_VERIFIED_TPM_FIXED: Final = ObjectIdentifier("2.23.133.11.1.2")

# TCG OID Registry: a hardware module that is a TPM 2.0, and who made it.
TCG_TPM20: Final = ObjectIdentifier("2.23.133.1.2")
TCG_TPM_MANUFACTURER: Final = ObjectIdentifier("2.23.133.2.1")

ON_HARDWARE_MODULE_NAME: Final = ObjectIdentifier("1.3.6.1.5.5.7.8.4")
"""id-on-hardwareModuleName, RFC 4108 §5."""

SERVER_AUTH: Final = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH: Final = ExtendedKeyUsageOID.CLIENT_AUTH
OCSP_SIGNING: Final = ExtendedKeyUsageOID.OCSP_SIGNING

# OCSP (RFC 6960 §4.2.1, §4.4).
OCSP_BASIC: Final = ObjectIdentifier("1.3.6.1.5.5.7.48.1.1")
OCSP_NONCE: Final = ObjectIdentifier("1.3.6.1.5.5.7.48.1.2")
OCSP_EXTENDED_REVOKE: Final = ObjectIdentifier("1.3.6.1.5.5.7.48.1.9")
