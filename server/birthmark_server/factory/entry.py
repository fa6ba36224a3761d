"""A manifest entry that a station signs: this TPM is the unit with this serial number of this work order.

A JWS (birthmark_wire.jws) of the type below, signed with the station's key, its chain in the header. The server takes
it by POST /v1/workorders/{id}/entries, at once or days later, and expects the device from then on; the device's own
proof comes after. Octets are unpadded base64url; ek_sha256 and spki_sha256 are over SubjectPublicKeyInfo (DER), hex.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from birthmark_wire import ids
from birthmark_wire.encoding import b64, read_json, write_json
from birthmark_wire.enrollment import MAX_CERTIFICATE_BYTES, MAX_EK_CERTIFICATES
from birthmark_wire.errors import DecodeError
from birthmark_wire.time import read_time, write_time

ENTRY_TYPE: Final = "birthmark-entry+jws"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a station has seen of one device. operator: who was at the station; made_at: UTC, whole seconds.

    ek_certificates: DER, as the TPM gave them. ak_sha256: of its TPMT_PUBLIC, hex. csr: of its birth key, DER.
    image_sha256: of what was flashed. mac: empty where it has none.
    """

    workorder: str
    serial: str
    model: str
    ek_sha256: str
    ek_certificates: tuple[bytes, ...]
    ak_sha256: str
    csr: bytes
    image_sha256: str
    firmware: str
    mac: str
    operator: str
    made_at: datetime

    def encode(self) -> bytes:
        """Return the JWS's payload."""
        return write_json(
            {
                "workorder": self.workorder,
                "serial": self.serial,
                "model": self.model,
                "ek_sha256": self.ek_sha256,
                "ek_certificates": [b64(der) for der in self.ek_certificates],
                "ak_sha256": self.ak_sha256,
                "csr": b64(self.csr),
                "image_sha256": self.image_sha256,
                "firmware": self.firmware,
                "mac": self.mac,
                "operator": self.operator,
                "made_at": write_time(self.made_at),
            }
        )

    @classmethod
    def decode(cls, payload: bytes) -> "Entry":
        """Read the payload of a JWS whose signature the caller has checked, or raise DecodeError."""
        message = read_json(payload)
        entry = cls(
            workorder=ids.printable_name(message.text("workorder"), field="workorder"),
            serial=ids.printable_name(message.text("serial"), field="serial"),
            model=ids.printable_name(message.text("model"), field="model"),
            ek_sha256=_hash(message.text("ek_sha256"), field="ek_sha256"),
            ek_certificates=message.octets_list(
                "ek_certificates", most=MAX_EK_CERTIFICATES, high=MAX_CERTIFICATE_BYTES
            ),
            ak_sha256=_hash(message.text("ak_sha256"), field="ak_sha256"),
            csr=message.octets("csr", high=4096),
            image_sha256=_hash(message.text("image_sha256"), field="image_sha256"),
            firmware=message.text("firmware", max_chars=64),
            mac=_mac(message.text("mac", max_chars=17)),
            operator=message.text("operator", max_chars=128),
            made_at=read_time(message.text("made_at"), field="made_at"),
        )
        message.done()
        return entry


def _hash(text: str, *, field: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise DecodeError(f"want 64 lower-case hex digits, got {text[:80]!r}", field=field)
    return text


def _mac(text: str) -> str:
    if text and not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", text):
        raise DecodeError(f"want six lower-case hex pairs with colons, got {text!r}", field="mac")
    return text
