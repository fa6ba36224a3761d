"""Two slots for the operational identity, so that a rotation never stands on one leg.

    rotation:  write_spare(new) -> connect with it -> promote()          a power cut anywhere leaves a working identity
    boot:      for slot in candidates(): connect with it -> promote() if it was not the current one

Each slot is one file (key and chain together: no moment at which they differ); `current` names the one in use. Rules:
- The slot that a boot would try first is never overwritten.
- A file that does not parse counts as absent: the other slot is there for that.
- Whether key and certificate belong together is tls.py's to find out, by a handshake with itself.
"""

import binascii
import re
import ssl
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from birthmark_agent.certificate import CERTIFICATE, read_certificate
from birthmark_agent.errors import IdentityDamaged
from birthmark_agent.files import Files
from birthmark_wire.broker import BrokerEndpoint
from birthmark_wire.errors import DecodeError

NAMES: Final = ("a", "b")
_CURRENT: Final = "current"
_KEY: Final = re.compile(rb"-----BEGIN TSS2 PRIVATE KEY-----\n.*?-----END TSS2 PRIVATE KEY-----\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Operational:
    """What a renewal gave. chain: LDevID first, CAs without the root, DER. key_pem: `TSS2 PRIVATE KEY`. broker: where
    the server said that our broker is, None where it did not."""

    chain: tuple[bytes, ...]
    key_pem: bytes
    broker: BrokerEndpoint | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """chain: certificate first, then its CAs, DER. key_pem: `TSS2 PRIVATE KEY`. device_id: the certificate's one CN.
    spki: its key, DER. Times in UTC; serial_number in hex."""

    chain: tuple[bytes, ...]
    key_pem: bytes
    device_id: str
    spki: bytes
    not_before: datetime
    not_after: datetime
    serial_number: str

    @classmethod
    def of(cls, chain: tuple[bytes, ...], key_pem: bytes) -> "Identity":
        """Read what the certificate says of itself. Raise IdentityDamaged."""
        if not chain or not _KEY.fullmatch(key_pem):
            raise IdentityDamaged("want a chain of certificates and one TSS2 PRIVATE KEY")
        try:
            leaf = read_certificate(chain[0])
        except DecodeError as error:
            raise IdentityDamaged(f"the certificate can't be read: {error}") from None
        if len(leaf.common_names) != 1:
            raise IdentityDamaged(f"want exactly one CN, got {leaf.common_names}")
        return cls(
            chain=chain,
            key_pem=key_pem,
            device_id=leaf.common_names[0],
            spki=leaf.spki,
            not_before=leaf.not_before,
            not_after=leaf.not_after,
            serial_number=leaf.serial_number,
        )

    def encode(self) -> bytes:
        """Return the slot's file: openssl and curl can use it too."""
        return self.key_pem + "".join(ssl.DER_cert_to_PEM_cert(der) for der in self.chain).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Identity":
        """Read what encode() wrote. Raise IdentityDamaged."""
        try:
            key = _KEY.match(data)
            rest = data[key.end() if key else 0 :].decode("ascii")
            chain = tuple(ssl.PEM_cert_to_DER_cert(pem) for pem in CERTIFICATE.findall(rest))
        except (UnicodeDecodeError, binascii.Error, ValueError) as error:
            raise IdentityDamaged(f"want key and chain in PEM: {error}") from None
        identity = cls.of(chain, key.group() if key else b"")
        if identity.encode() != data:
            raise IdentityDamaged("want key and chain in PEM, and nothing else")
        return identity


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot that holds an identity. current: it was promoted last."""

    name: str
    identity: Identity
    current: bool


class Slots:
    """The two slots of one folder. Every method reads the disk: there is no state to lose."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def candidates(self) -> tuple[Slot, ...]:
        """Return what a boot should try, in this order: the current slot, then the other; newest first without one."""
        current = self._current()
        found = [Slot(name, held, name == current) for name in NAMES if (held := self._read(name))]
        return tuple(sorted(found, key=lambda slot: (slot.current, slot.identity.not_before), reverse=True))

    def best(self) -> Slot | None:
        """Return the first candidate: the identity in use."""
        return next(iter(self.candidates()), None)

    def write_spare(self, identity: Identity) -> Slot:
        """Keep a new identity beside the one in use, durably. It is not in use until promote(). Raise StorageFailed."""
        best = self.best()
        name = NAMES[0] if best is None or best.name != NAMES[0] else NAMES[1]
        self._files.write(name, identity.encode())
        return Slot(name, identity, current=False)

    def promote(self, slot: Slot) -> None:
        """Make a slot that has proven itself the current one, durably.

        Raise IdentityDamaged if it does not hold that identity any more; StorageFailed: then the old one is current.
        """
        if self._read(slot.name) != slot.identity:
            raise IdentityDamaged(f"slot {slot.name} does not hold that identity any more")
        self._files.write(_CURRENT, slot.name.encode() + b"\n")

    def clear(self) -> None:
        """Forget both: the device was born again, or belongs to another fleet."""
        for name in (_CURRENT, *NAMES):
            self._files.remove(name)

    def _current(self) -> str:
        return (self._files.read(_CURRENT) or b"").decode("ascii", "replace").strip()

    def _read(self, name: str) -> Identity | None:
        data = self._files.read(name)
        try:
            return None if data is None else Identity.decode(data)
        except IdentityDamaged:
            return None
