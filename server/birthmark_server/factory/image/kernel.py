"""The boot file: kernel, initial RAM file system and command line in one PE program (a unified kernel image).

Signed, it is all that Secure Boot needs to know: the command line names the root's hash, and who changes either has
another file, that the firmware refuses. Unsigned it boots where Secure Boot is off. The format is systemd-stub(7)'s.
"""

import hashlib
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from birthmark_server.factory.image.arch import Arch
from birthmark_server.factory.image.errors import ImageFailed
from birthmark_server.factory.image.spec import Signing
from birthmark_server.factory.image.tools import run

_ALIGN: Final = 0x1000
_CHECKSUM: Final = 64
_CERTIFICATES: Final = 4
_PE32_PLUS: Final = 0x20B


@dataclass(frozen=True, slots=True)
class BootParts:
    """What a boot file is made of."""

    kernel: bytes
    initramfs: bytes
    cmdline: str
    os_release: bytes


def build(parts: BootParts, *, stub: Path, arch: Arch, work: Path) -> bytes:
    """Return the boot file, unsigned. stub: systemd's, for `arch`."""
    place = _end_of_sections(stub.read_bytes())
    sections: list[str | Path] = []
    for name, data in (
        (".osrel", parts.os_release),
        (".cmdline", parts.cmdline.encode("ascii")),
        (".initrd", parts.initramfs),
        (".linux", parts.kernel),
    ):
        file = work / name.removeprefix(".")
        file.write_bytes(data)
        place += -place % _ALIGN
        sections += ["--add-section", f"{name}={file}", "--change-section-vma", f"{name}={place:#x}"]
        place += len(data)
    out = work / "boot.efi"
    run([arch.objcopy, *sections, stub, out])
    return _timeless(out.read_bytes())


def sign(boot: bytes, signing: Signing, *, at: datetime, work: Path) -> bytes:
    """Return the boot file with a signature (Authenticode) by our key, which says that it was made at `at`: the same
    file, the same signature."""
    unsigned, signed = work / "unsigned.efi", work / "signed.efi"
    unsigned.write_bytes(boot)
    sbsign: list[str | Path] = [
        "sbsign",
        "--key",
        signing.key,
        "--cert",
        signing.certificate,
        "--output",
        signed,
        unsigned,
    ]
    run(["faketime", "-f", f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", *sbsign])
    run(["sbverify", "--cert", signing.certificate, signed])
    return signed.read_bytes()


def authenticode_sha256(pe: bytes) -> str:
    """Return the hash by which the firmware knows a PE program, hex: what is signed, what db or dbx may list, and what
    is measured into PCR 4. Signed or not makes no difference to it.

    Source: Microsoft, Windows Authenticode Portable Executable Signature Format, "Calculating the PE Image Hash".
    """
    optional = _optional_header(pe)
    (magic,) = struct.unpack_from("<H", pe, optional)
    if magic != _PE32_PLUS:
        raise ImageFailed(f"want a PE32+ program, got optional header {magic:#x}")
    checksum = optional + _CHECKSUM
    directory = optional + 112 + 8 * _CERTIFICATES
    address, size = struct.unpack_from("<II", pe, directory)
    end = address if address else len(pe)
    digest = hashlib.sha256(pe[:checksum])
    digest.update(pe[checksum + 4 : directory])
    digest.update(pe[directory + 8 : end])
    digest.update(pe[end + size :])
    if not address:
        digest.update(bytes(-len(pe) % 8))  # as a signer pads it
    return digest.hexdigest()


def _timeless(pe: bytes) -> bytes:
    """Clear the time of the linking and the checksum over it; UEFI reads neither."""
    data = bytearray(pe)
    struct.pack_into("<I", data, _header(pe) + 8, 0)
    struct.pack_into("<I", data, _optional_header(pe) + _CHECKSUM, 0)
    return bytes(data)


def sections(pe: bytes) -> dict[str, bytes]:
    """Return what is in the sections of a PE program, by name: `.linux`, `.initrd`, `.cmdline`, `.osrel`."""
    found = {}
    for name, size, _, raw_size, at in _section_table(pe):
        found[name] = pe[at : at + min(size, raw_size)]
    return found


def _end_of_sections(pe: bytes) -> int:
    """Return the first address behind all sections of a PE program, absolute, as objcopy has it."""
    (base,) = struct.unpack_from("<Q", pe, _optional_header(pe) + 24)
    return int(base + max(address + size for _, size, address, _, _ in _section_table(pe)))


def _section_table(pe: bytes) -> list[tuple[str, int, int, int, int]]:
    """Return name, size, address, size in the file and place in the file of each. Source: PE format, section table."""
    header = _header(pe)
    (count,) = struct.unpack_from("<H", pe, header + 6)
    (optional_size,) = struct.unpack_from("<H", pe, header + 20)
    table = _optional_header(pe) + optional_size
    rows = [struct.unpack_from("<8sIIII", pe, table + 40 * number) for number in range(count)]
    return [(name.rstrip(b"\0").decode("ascii"), *numbers) for name, *numbers in rows]


def _header(pe: bytes) -> int:
    if pe[:2] != b"MZ":
        raise ImageFailed("want a PE program")
    (header,) = struct.unpack_from("<I", pe, 0x3C)
    if pe[header : header + 4] != b"PE\0\0":
        raise ImageFailed("want a PE program")
    return int(header)


def _optional_header(pe: bytes) -> int:
    return _header(pe) + 24
