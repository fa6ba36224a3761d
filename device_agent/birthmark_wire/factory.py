"""What passes between a device and the station that makes it, before the device is anybody.

    ProvisionRecord   device.json: what the station writes onto a device's data partition when it flashes it
    DeviceIdentity    what `birthmark-agent identify` says of the device's TPM, and of its keys

Both are JSON; octets are unpadded base64url, TPM structures as in birthmark_wire.enrollment. A device with a console
says its identity there, in one line behind IDENTITY_MARK, then what becomes of it, in one line of JSON behind
STATE_MARK each; and it waits for the line GO before it asks the server for anything. LOCK ends its factory mode.

Neither proves anything: the proof is the enrollment's. What a station has seen, it signs (birthmark_server.factory).
"""

from dataclasses import dataclass
from typing import Final

from birthmark_wire import ids
from birthmark_wire.encoding import b64, read_json, write_json
from birthmark_wire.enrollment import MAX_CERTIFICATE_BYTES, MAX_EK_CERTIFICATES, MAX_PUBLIC_BYTES
from birthmark_wire.errors import DecodeError

PROVISION_FILE: Final = "device.json"
IDENTITY_MARK: Final = "BIRTHMARK-IDENTITY "
STATE_MARK: Final = "BIRTHMARK-STATE "
GO: Final = "BIRTHMARK-GO"
LOCK: Final = "BIRTHMARK-LOCK"
_FORMAT: Final = "birthmark-factory/1"


@dataclass(frozen=True, slots=True)
class ProvisionRecord:
    """What a device is to be. hold: at its first boot it says who it is on its console, and waits for GO."""

    serial: str
    model: str
    workorder: str
    station: str
    hold: bool = False

    def encode(self) -> bytes:
        """Return the JSON file."""
        return write_json(
            {
                "format": _FORMAT,
                "serial": self.serial,
                "model": self.model,
                "workorder": self.workorder,
                "station": self.station,
                "hold": self.hold,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "ProvisionRecord":
        """Read the JSON file or raise DecodeError."""
        message = read_json(data)
        _check_format(message.text("format"))
        record = cls(
            serial=ids.printable_name(message.text("serial"), field="serial"),
            model=ids.printable_name(message.text("model"), field="model"),
            workorder=ids.printable_name(message.text("workorder"), field="workorder"),
            station=ids.printable_name(message.text("station"), field="station"),
            hold=message.boolean("hold"),
        )
        message.done()
        return record


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """Who a device says it is.

    ek_certificates: all in its TPM's NV, DER. ek_public, ak_public: TPMT_PUBLIC. csr: PKCS #10 (DER) of its birth key,
    signed by it. firmware: what it runs, as `birthmark-agent/0.1.0` or `firmware/1.2.0`. mac: lower-case hex pairs with
    colons; empty where it has none.
    """

    ek_certificates: tuple[bytes, ...]
    ek_public: bytes
    ak_public: bytes
    csr: bytes
    firmware: str
    mac: str = ""

    def encode(self) -> bytes:
        """Return it as one line of JSON."""
        return write_json(
            {
                "format": _FORMAT,
                "ek_certificates": [b64(der) for der in self.ek_certificates],
                "ek_public": b64(self.ek_public),
                "ak_public": b64(self.ak_public),
                "csr": b64(self.csr),
                "firmware": self.firmware,
                "mac": self.mac,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "DeviceIdentity":
        """Read the JSON or raise DecodeError."""
        message = read_json(data)
        _check_format(message.text("format"))
        identity = cls(
            ek_certificates=message.octets_list(
                "ek_certificates", most=MAX_EK_CERTIFICATES, high=MAX_CERTIFICATE_BYTES
            ),
            ek_public=message.octets("ek_public", high=MAX_PUBLIC_BYTES),
            ak_public=message.octets("ak_public", high=MAX_PUBLIC_BYTES),
            csr=message.octets("csr", high=4096),
            firmware=message.text("firmware", max_chars=64),
            mac=message.text("mac", max_chars=17),
        )
        message.done()
        return identity


def _check_format(seen: str) -> None:
    if seen != _FORMAT:
        raise DecodeError(f"want {_FORMAT!r}, got {seen[:80]!r}", field="format")
