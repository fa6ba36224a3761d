"""Is this a firmware image of ours? MCUboot's image format, and ECDSA P-256 by the key that firmware is signed with.

    header (32 bytes, padded) | program | protected TLVs | TLVs: SHA-256, hash of the signer's key, signature

A board's firmware checks all of this itself before it lets an image boot; MCUboot's serial recovery, by which an empty
board is flashed, takes anything with the right hash. So the station looks first. `imgtool sign --key KEY.pem` makes
such an image, `imgtool getpub --key KEY.pem --encoding pem` the key that this module wants (docs/factory.md).

Source: MCUboot, docs/design.md "Image format", boot/bootutil/include/bootutil/image.h.
"""

import hashlib
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from birthmark_server.factory.smp.errors import (
    ImageDowngrade,
    ImageRefused,
    ImageTampered,
    ImageTooLarge,
    ImageTruncated,
    ImageWrongKey,
)

SLOT_BYTES: Final = 0x80000
"""A slot of the reference board (mps2-an385 with upstream MCUboot)."""

_HEADER: Final = struct.Struct("<IIHHIIBBHII")
_MAGIC: Final = 0x96F3B83D
_TLV_INFO: Final = struct.Struct("<HH")
_TLV_MAGIC: Final = 0x6907
_PROTECTED_MAGIC: Final = 0x6908
_TLV_KEY_HASH: Final = 0x01
_TLV_SHA256: Final = 0x10
_TLV_ECDSA: Final = 0x22


@dataclass(frozen=True, order=True, slots=True)
class Version:
    """As MCUboot compares them."""

    major: int
    minor: int
    revision: int
    build: int = 0

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Read `1.2.0`, `1.2.0+3` (imgtool) or `1.2.0.3` (SMP). Raise ValueError."""
        if not (found := re.fullmatch(r"(\d+)\.(\d+)\.(\d+)(?:[.+](\d+))?", text)):
            raise ValueError(f"want a version such as 1.2.0, got {text[:40]!r}")
        return cls(*(int(part or 0) for part in found.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.revision}" + (f"+{self.build}" if self.build else "")


@dataclass(frozen=True, slots=True)
class FirmwareImage:
    """An image that carries a signature by the key it was checked with; only read_image() makes one.

    digest: what MCUboot calls the image's hash (of header, program and protected TLVs, 32 bytes); a board names its
    slots by it. sha256: of the whole file, hex.
    """

    version: Version
    digest: bytes
    sha256: str
    data: bytes

    def check_not_below(self, version: Version) -> None:
        """Raise ImageDowngrade if a board with `version` would go back."""
        if self.version < version:
            raise ImageDowngrade(f"the image is {self.version}, the board has {version}")


def read_image_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Read the public key of the firmware's signer, PEM, P-256. Raise ImageRefused."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ImageRefused(f"{path}: no public key in PEM: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ImageRefused(f"{path}: want a P-256 key, got another kind")
    return key


def read_image(path: Path, *, key: ec.EllipticCurvePublicKey, slot_bytes: int = SLOT_BYTES) -> FirmwareImage:
    """Read a signed image and check all that can be checked without the board. Raise ImageRefused, or a kind of it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageRefused(f"{path}: can't be read: {error.strerror}") from None
    return check_image(data, key=key, slot_bytes=slot_bytes, name=path.name)


def check_image(data: bytes, *, key: ec.EllipticCurvePublicKey, slot_bytes: int, name: str) -> FirmwareImage:
    """Return the image that `data` is. name: of the file, for messages. Raise ImageRefused, or a kind of it."""
    if len(data) > slot_bytes:
        raise ImageTooLarge(f"{name}: {len(data)} bytes, the board's slot has {slot_bytes}")
    if len(data) < _HEADER.size:
        raise ImageTruncated(f"{name}: {len(data)} bytes, not even a header")
    magic, _load, header_bytes, protected_bytes, program_bytes, _flags, *version, _pad = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ImageTruncated(f"{name}: no MCUboot image: it begins with {magic:#010x}, want {_MAGIC:#010x}")
    hashed = header_bytes + program_bytes
    if protected_bytes:
        _protected, hashed = _read_tlvs(data, hashed, _PROTECTED_MAGIC, name)
        if hashed != header_bytes + program_bytes + protected_bytes:
            raise ImageTampered(f"{name}: its header and its protected TLVs disagree on their size")
    tlvs, end = _read_tlvs(data, hashed, _TLV_MAGIC, name)
    if end != len(data):
        raise ImageTampered(f"{name}: {len(data) - end} bytes behind its end, which nobody signed")
    digest = hashlib.sha256(data[:hashed]).digest()
    if tlvs.get(_TLV_SHA256) != digest:
        said = tlvs.get(_TLV_SHA256, b"").hex() or "nothing"
        raise ImageTampered(f"{name}: its SHA-256 is {digest.hex()}, it says {said}")
    _check_signature(tlvs, digest, key, name)
    return FirmwareImage(Version(*version), digest, hashlib.sha256(data).hexdigest(), data)


def _read_tlvs(data: bytes, at: int, wanted_magic: int, name: str) -> tuple[dict[int, bytes], int]:
    """Return the TLV area at `at`, by type, and where it ends."""
    if len(data) < at + _TLV_INFO.size:
        raise ImageTruncated(f"{name}: {len(data)} bytes, its header promises more than {at}")
    magic, size = _TLV_INFO.unpack_from(data, at)
    if magic != wanted_magic:
        raise ImageTampered(f"{name}: want {wanted_magic:#06x} behind the program, got {magic:#06x}")
    end = at + size
    if len(data) < end:
        raise ImageTruncated(f"{name}: {len(data)} bytes, its signature ends at {end}")
    at += _TLV_INFO.size
    found: dict[int, bytes] = {}
    while at < end:
        if end - at < _TLV_INFO.size:
            raise ImageTampered(f"{name}: {end - at} bytes that are no TLV")
        kind, length = _TLV_INFO.unpack_from(data, at)
        at += _TLV_INFO.size
        if end - at < length or kind in found:
            raise ImageTampered(f"{name}: a TLV {kind:#04x} of {length} bytes, twice or longer than what is left")
        found[kind] = data[at : at + length]
        at += length
    return found, end


def _check_signature(tlvs: dict[int, bytes], digest: bytes, key: ec.EllipticCurvePublicKey, name: str) -> None:
    if (signature := tlvs.get(_TLV_ECDSA)) is None:
        raise ImageWrongKey(f"{name}: it carries no ECDSA signature")
    ours = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    if (signer := tlvs.get(_TLV_KEY_HASH)) != ours:
        raise ImageWrongKey(f"{name}: signed by the key {(signer or b'').hex()[:16]}, want {ours.hex()[:16]}")
    try:
        key.verify(signature, digest, ec.ECDSA(Prehashed(SHA256())))
    except InvalidSignature:
        raise ImageTampered(f"{name}: the signature is not of this image") from None
