"""TLS 1.3 KeyUpdate messages (RFC 8446 §4.6.3), as many as one likes: no TLS library sends them so eagerly."""

import ssl
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SUITE = "TLS_AES_256_GCM_SHA384"
NOT_REQUESTED, REQUESTED = 0, 1


def key_update_records(tls: ssl.SSLObject | ssl.SSLSocket, keylog: Path, *, request: int) -> Iterator[bytes]:
    """Yield records that a client may send in place of its first application data, each a KeyUpdate under new keys.

    keylog: the context's keylog_filename, with this one connection in it. request: whether the peer is to update, too.
    """
    suite = tls.cipher()
    assert suite is not None
    assert suite[0] == SUITE
    (secret,) = (
        bytes.fromhex(line.split()[2])
        for line in keylog.read_text().splitlines()
        if line.startswith("CLIENT_TRAFFIC_SECRET_0")
    )
    message = bytes((24, 0, 0, 1, request)) + b"\x16"  # key_update, and the content type: handshake
    head = b"\x17\x03\x03" + (len(message) + 16).to_bytes(2, "big")
    while True:
        key, nonce = _expand(secret, "key", 32), _expand(secret, "iv", 12)  # of sequence number 0
        yield head + AESGCM(key).encrypt(nonce, message, head)
        secret = _expand(secret, "traffic upd", SHA384.digest_size)


def _expand(secret: bytes, label: str, length: int) -> bytes:
    full = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes((len(full),)) + full + b"\0"
    return HKDFExpand(SHA384(), length, info).derive(secret)
