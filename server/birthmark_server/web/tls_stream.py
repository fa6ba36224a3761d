"""The server's side of TLS between two buffers: what came goes in, what is to be sent comes out. No I/O.

OpenSSL has to be fed, and not left alone with a socket: it reads on until it finds application data, and a peer that
sends nothing but KeyUpdates would keep it, and so every other connection, for as long as it likes. Of what is no
application data a peer may send a little in all, then it is refused (ADR 0037).
"""

import contextlib
import ssl
from typing import Final

RECORD_BYTES: Final = 16_384
"""OpenSSL hands out one record at a time, and a record holds no more."""

RECORD_OVERHEAD_BYTES: Final = 64
"""More than a record of application data takes beside its data: 22 bytes in TLS 1.3, 29 in TLS 1.2."""

MOST_OTHER_BYTES: Final = 32_768
"""What a peer may send that is not application data, or not yet: a record that has come in part is up to 16,645."""


class TlsStream:
    """One connection's TLS. After each call, `to_send` has what the peer is to get, an alert included."""

    __slots__ = ("_incoming", "_other_bytes", "_outgoing", "tls")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._other_bytes = 0

    def to_send(self) -> bytes:
        """Return what has not been returned yet."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def shake_hands(self, data: bytes) -> bool:
        """Go on with the handshake; return whether it is complete. Raise ssl.SSLError where it fails."""
        self._incoming.write(data)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypt(self, data: bytes) -> tuple[bytes, bool]:
        """Return the application data in `data`, and whether the peer has said goodbye.

        Raises ssl.SSLError for a broken record, ConnectionAbortedError if too much came that is no application data.
        """
        self._incoming.write(data)
        pieces, ended = [], False
        try:
            while piece := self.tls.read(RECORD_BYTES):
                pieces.append(piece)
            ended = True
        except ssl.SSLWantReadError:
            pass
        plain = b"".join(pieces)
        other_bytes = self._other_bytes + len(data) - len(plain) - RECORD_OVERHEAD_BYTES * len(pieces)
        self._other_bytes = max(0, other_bytes)
        if other_bytes > MOST_OTHER_BYTES:
            raise ConnectionAbortedError("the peer sends records without end, and no data in them")
        return plain, ended

    def encrypt(self, data: bytes | bytearray | memoryview) -> None:
        """Have `data` sent. Raise ssl.SSLError where nothing can be sent any more."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.tls.write(rest) :]

    def say_goodbye(self) -> None:
        """Have a close_notify sent, if a peer can still read one."""
        with contextlib.suppress(ssl.SSLError):  # that the peer has not said the same yet is one of them
            self.tls.unwrap()
