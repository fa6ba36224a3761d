"""Firmware images for tests, signed by imgtool, MCUboot's own tool, with a key of the test's.

signer = ImageSigner.create(folder)
signer.zephyr(folder / "1.2.0.bin", version="1.2.0")      # boots
signer.sign(b"any program", folder / "any.bin")           # has a right hash and signature, and boots nothing
"""

import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from support.mcu_bootloader import LOAD_ADDRESS, SLOT_BYTES, bootloader

_HEADER_BYTES = 0x200


@dataclass(frozen=True, slots=True)
class ImageSigner:
    """Who signs firmware. private, public: PEM files."""

    private: Path
    public: Path

    @classmethod
    def create(cls, folder: Path, name: str = "image") -> "ImageSigner":
        """Make a P-256 key."""
        key = ec.generate_private_key(ec.SECP256R1())
        private, public = folder / f"{name}.key", folder / f"{name}.pem"
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return cls(private, public)

    def sign(self, program: bytes, image: Path, *, version: str = "1.2.0", more: tuple[str, ...] = ()) -> Path:
        """Write a signed image and return its path. more: options of imgtool's."""
        plain = image.with_suffix(".plain")
        plain.write_bytes(program)
        imgtool = [str(Path(sys.executable).with_name("imgtool")), "sign", "--key", str(self.private)]
        imgtool += ["--align", "4", "--version", version, "--header-size", f"{_HEADER_BYTES:#x}", "--pad-header"]
        imgtool += ["--slot-size", f"{SLOT_BYTES:#x}", "--load-addr", f"{LOAD_ADDRESS:#x}", *more]
        done = subprocess.run([*imgtool, str(plain), str(image)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return image

    def zephyr(self, image: Path, *, version: str = "1.2.0") -> Path:
        """Zephyr's SMP server sample, signed by this key: firmware that boots, and that nobody here wrote."""
        theirs = bootloader().zephyr.read_bytes()
        header_bytes, _protected, program_bytes = struct.unpack_from("<HHI", theirs, 8)
        return self.sign(theirs[header_bytes : header_bytes + program_bytes], image, version=version)
