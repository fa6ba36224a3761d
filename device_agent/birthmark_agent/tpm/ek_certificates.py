"""What vendors put into NV: EK certificates and their chains, with and without headers and padding. Pure.

Sources: TCG EK Credential Profile 2.5 §2.2.1.4, §2.2.1.5 and annex B (indices, chains); TCG PC Client Specific
Implementation Specification for Conventional BIOS (TCG_PCCLIENT_STORED_CERT, the header that some still write).
What a certificate says is not looked at here: that is the server's work.
"""

from typing import Final

CERTIFICATE_INDICES: Final = (
    0x01C00002,  # RSA 2048
    0x01C0000A,  # P-256
    *range(0x01C00012, 0x01C00020, 2),  # high range: RSA 2048, P-256, P-384, P-521, SM2, RSA 3072, RSA 4096
)

_STORED_CERTIFICATE: Final = b"\x10\x01\x00"
_FULL_CERTIFICATE: Final = b"\x10\x02"


def split_certificates(data: bytes) -> tuple[bytes, ...]:
    """Return the DER certificates in the contents of one or more NV indices; empty where there is none.

    Drops a stored-certificate header before, padding between and after, and a last one that is cut short.
    """
    found: list[bytes] = []
    position = 0
    while position < len(data):
        if data.startswith(_STORED_CERTIFICATE, position):
            position += 5  # the header's own length field is not needed: DER has one
            position += 2 if data.startswith(_FULL_CERTIFICATE, position) else 0
            continue
        size = _der_size(data, position)
        if not size:
            position += 1
            continue
        found.append(data[position : position + size])
        position += size
    return tuple(found)


def _der_size(data: bytes, position: int) -> int:
    """Return how long the SEQUENCE at `position` is; 0 if none that has a certificate's size begins and ends there."""
    if data[position : position + 2] != b"\x30\x82":
        return 0
    size = 4 + int.from_bytes(data[position + 2 : position + 4], "big")
    return size if 4 + 256 <= size <= len(data) - position else 0
