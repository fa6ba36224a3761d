"""images.py FOLDER: images for the C tests, signed by imgtool; prints a header with the key and each image as an array.

good 1.2.0, newer 1.3.0, older 1.1.0, counted 1.3.0 with security counter 7, foreign 9.9.9 by another key,
unsigned 9.9.9, tampered 1.3.0 with one bit changed.
"""

import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

PROGRAM = bytes(range(256)) * 13 + b"odd"


def array(name: str, octets: bytes) -> str:
    """Return C."""
    return f"__attribute__((unused)) static const uint8_t {name}[{len(octets)}] = {{{','.join(map(str, octets))}}};\n"


def main() -> None:
    """Make them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ours", "theirs")}
    for name, key in keys.items():
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.key").write_bytes(pem)
    (folder / "program").write_bytes(PROGRAM)

    def sign(name: str, version: str, *more: str) -> bytes:
        made = folder / f"{name}.bin"
        imgtool = [str(Path(sys.executable).with_name("imgtool")), "sign", "--align", "4", "--version", version]
        imgtool += ["--header-size", "0x200", "--pad-header", "--slot-size", "0x80000", *more]
        subprocess.run([*imgtool, str(folder / "program"), str(made)], check=True, capture_output=True)
        return made.read_bytes()

    ours, theirs = ("--key", str(folder / "ours.key")), ("--key", str(folder / "theirs.key"))
    images = {
        "good": sign("good", "1.2.0", *ours),
        "newer": sign("newer", "1.3.0", *ours),
        "older": sign("older", "1.1.0", *ours),
        "counted": sign("counted", "1.3.0", *ours, "--security-counter", "7"),
        "foreign": sign("foreign", "9.9.9", *theirs),
        "unsigned_image": sign("unsigned", "9.9.9"),
    }
    tampered = bytearray(images["newer"])
    tampered[0x400] ^= 1
    point = keys["ours"].public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    sys.stdout.write("/* Made by test/images.py. */\n#include <stdint.h>\n" + array("test_key", point))
    sys.stdout.write("".join(array(name, octets) for name, octets in images.items()))
    sys.stdout.write(array("tampered", bytes(tampered)))


if __name__ == "__main__":
    main()
