"""image_key.py KEY: the P-256 key of a PEM file as C, for image_key.h: its public half alone."""

import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)


def main() -> None:
    """Print the header."""
    pem = Path(sys.argv[1]).read_bytes()
    key = load_pem_public_key(pem) if b"PUBLIC KEY" in pem else load_pem_private_key(pem, None).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        sys.exit(f"{sys.argv[1]}: want a P-256 key")
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    octets = ", ".join(f"0x{octet:02x}" for octet in point)
    sys.stdout.write("/* Made by image_key.py: the key that signs our images. */\n#include <stdint.h>\n")
    sys.stdout.write(f"static const uint8_t image_key[{len(point)}] = {{{octets}}};\n")


if __name__ == "__main__":
    main()
