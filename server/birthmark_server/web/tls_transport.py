"""A TLS connection as an asyncio transport.

asyncio's own TLS server drops OpenSSL's outgoing buffer when a handshake fails, and with it the alert that says why:
the peer sees a bare disconnect, and a device in the field can't tell a wrong certificate from a cut cable. Here the
alert is sent (ADR 0035).

A connection's end is orderly: this side is shut down, then what the peer still sends is read and forgotten until it
closes too, has sent too much, or has taken too long. Closing a socket with unread bytes would send a reset, which takes
the last answer or the alert with it; a TLS 1.3 client that is refused has often sent its request already.

    HANDSHAKE -> OPEN -> FLUSHING -> DRAINING -> CLOSED      a failed handshake drains too; `abort` closes at once
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final, Protocol

from birthmark_server.web.tls_stream import TlsStream

READ_BYTES: Final = 16_384
"""What is read of one connection before the others have their turn: of the smallest KeyUpdates 600, some 6 ms."""

HIGH_WATER_BYTES: Final = 65_536
"""With more than this unsent, the protocol is asked to pause."""

STALL_TIMEOUT_S: Final = 30.0
"""How long a peer may take none of an answer that it has asked for."""

FLUSH_TIMEOUT_S: Final = 10.0
"""How long a peer may take to read the last answer."""

DRAIN_TIMEOUT_S: Final = 1.0
DRAIN_BYTES: Final = 262_144


class Observer(Protocol):
    """What a listener wants to know of its connections, and may decide. address: of the peer, without its port."""

    def opened(self, address: str) -> bool:
        """Return whether to serve this connection; called before a byte of it is read."""

    def closed(self, address: str) -> None:
        """A connection that was let in is gone."""


class TlsObserver(Observer, Protocol):
    """An Observer who hears of handshakes too."""

    def agreed(self, address: str, tls: ssl.SSLObject) -> bool:
        """A handshake is complete; return whether to go on with this connection."""

    def failed(self, address: str, error: ssl.SSLError) -> None:
        """A handshake failed."""


class Stage(Enum):
    """Where a connection stands."""

    HANDSHAKE = auto()
    OPEN = auto()
    FLUSHING = auto()
    DRAINING = auto()
    CLOSED = auto()


class TlsTransport(asyncio.Transport):
    """The server's side of one TLS connection. Its protocol hears of it when the handshake is complete."""

    __slots__ = (
        "_address",
        "_drained",
        "_fd",
        "_gone",
        "_loop",
        "_observer",
        "_paused",
        "_protocol",
        "_sock",
        "_stage",
        "_stream",
        "_timer",
        "_unsent",
    )

    def __init__(
        self,
        sock: socket.socket,
        *,
        peer: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: ssl.SSLContext,
        protocol: asyncio.Protocol,
        observer: TlsObserver,
        handshake_timeout_s: float,
        gone: Callable[["TlsTransport"], None],
    ) -> None:
        """Begin the handshake. sock: connected, non-blocking, and the transport's own unless this raises.
        peer: the client's address and port, which the socket's peer may only relay.

        observer: its `opened` let the connection in. gone: called once, when the socket is closed.
        Raises OSError where the peer has left already.
        """
        self._stream = TlsStream(context)
        super().__init__({"peername": peer, "socket": sock, "ssl_object": self._stream.tls, "sslcontext": context})
        self._sock = sock
        self._fd = sock.fileno()
        self._loop = loop
        self._protocol = protocol
        self._observer = observer
        self._address = str(peer[0])
        self._gone = gone
        self._stage = Stage.HANDSHAKE
        self._unsent = bytearray()
        self._paused = False
        self._drained = 0
        self._timer = loop.call_later(handshake_timeout_s, self.abort)
        loop.add_reader(self._fd, self._shake_hands)

    @property
    def stage(self) -> Stage:
        """Where this connection stands."""
        return self._stage

    # -- what a protocol may ask (asyncio.Transport)

    def is_closing(self) -> bool:
        """Return whether nothing can be written any more."""
        return self._stage is not Stage.OPEN

    def get_write_buffer_size(self) -> int:
        """Return how many bytes, encrypted, the socket has not taken yet."""
        return len(self._unsent)

    def pause_reading(self) -> None:
        """Leave what comes in the socket."""
        if self._stage is Stage.OPEN:
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Read again."""
        if self._stage is Stage.OPEN:
            self._loop.add_reader(self._fd, self._read)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, at once as far as the socket takes it. After the end it is forgotten, as asyncio's transports do."""
        if self._stage is not Stage.OPEN:
            return
        try:
            self._stream.encrypt(data)
        except ssl.SSLError as error:
            self._close(error)
            return
        self._send()
        if len(self._unsent) > HIGH_WATER_BYTES and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """Send what is unsent, then end the connection in an orderly way."""
        if self._stage is Stage.HANDSHAKE:
            self.abort()
        elif self._stage is Stage.OPEN:
            self._loop.remove_reader(self._fd)
            self._stage = Stage.FLUSHING
            self._set_timer(FLUSH_TIMEOUT_S)
            self._stream.say_goodbye()
            self._send()
            self._end_if_all_is_sent()

    def abort(self) -> None:
        """End the connection now, whatever is unsent."""
        self._close(None)

    # -- what the socket brings

    def _receive(self) -> bytes | None:
        """Return a portion of what has come, empty at the peer's end; None where nothing has, or all is over."""
        try:
            return self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            self._close(error)
            return None

    def _shake_hands(self) -> None:
        data = self._receive()
        if data is None:
            return
        if not data:  # the peer left: nobody to tell, nothing to note
            self._close(None)
            return
        try:
            complete = self._stream.shake_hands(data)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            self._close(error)
        except ssl.SSLError as error:
            self._observer.failed(self._address, error)
            self._send()  # the alert
            self._drain()
        else:
            self._send()
            if complete and self._stage is Stage.HANDSHAKE:  # still: what OpenSSL had to say found the peer
                self._open()

    def _open(self) -> None:
        if not self._observer.agreed(self._address, self._stream.tls):
            self.abort()
            return
        self._stage = Stage.OPEN
        self._timer.cancel()
        if self._unsent:
            self._set_timer(STALL_TIMEOUT_S)
        self._loop.add_reader(self._fd, self._read)
        self._protocol.connection_made(self)
        self._deliver(b"")  # what came with the end of the handshake

    def _read(self) -> None:
        data = self._receive()
        if data:
            self._deliver(data)
        elif data is not None:
            self._tell(b"", ended=True)

    def _deliver(self, data: bytes) -> None:
        """Decrypt and give it to the protocol."""
        if self._stage is not Stage.OPEN:
            return
        try:
            plain, ended = self._stream.decrypt(data)
        except OSError as error:
            self._send()  # the alert
            self._close(error)
            return
        self._send()  # OpenSSL's part in a KeyUpdate
        self._tell(plain, ended=ended)

    def _tell(self, data: bytes, *, ended: bool) -> None:
        """Give the protocol `data`, and hang up if the peer has."""
        try:
            if data and self._stage is Stage.OPEN:
                self._protocol.data_received(data)
            if ended and self._stage is Stage.OPEN:
                self._protocol.eof_received()
                self.close()
        except Exception:  # a bug above us, which the loop logs; one connection is what it costs
            self.abort()
            raise

    # -- what the socket takes

    def _send(self) -> None:
        """Send what the stream has for the peer, as far as the socket takes it, the rest as soon as it can."""
        data = self._stream.to_send()
        if not data or self._stage is Stage.CLOSED:
            return
        waiting = bool(self._unsent)
        self._unsent += data
        if waiting:
            return
        self._send_some()
        if self._unsent:
            self._loop.add_writer(self._fd, self._send_rest)
            if self._stage is Stage.OPEN:
                self._set_timer(STALL_TIMEOUT_S)

    def _send_some(self) -> None:
        """Send once; with a peer that is gone, nothing is unsent."""
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._close(error)

    def _send_rest(self) -> None:
        before = len(self._unsent)
        self._send_some()
        if self._stage is Stage.OPEN and len(self._unsent) < before:
            self._set_timer(STALL_TIMEOUT_S)
        if self._unsent or self._stage is Stage.CLOSED:
            return
        self._loop.remove_writer(self._fd)
        if self._stage is Stage.OPEN:
            self._timer.cancel()
        if self._paused:
            self._paused = False
            self._protocol.resume_writing()
        self._end_if_all_is_sent()

    # -- the end

    def _end_if_all_is_sent(self) -> None:
        if self._stage is Stage.FLUSHING and not self._unsent:
            self._loop.call_soon(self._protocol.connection_lost, None)
            self._drain()

    def _drain(self) -> None:
        """Say that nothing more will come, and wait for the peer to say so."""
        if self._stage is Stage.CLOSED:
            return
        self._stage = Stage.DRAINING
        self._unsent.clear()
        self._loop.remove_writer(self._fd)
        self._set_timer(DRAIN_TIMEOUT_S)
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._close(error)
            return
        self._loop.add_reader(self._fd, self._forget)
        self._forget()

    def _forget(self) -> None:
        """Read what is left, and drop it."""
        try:
            length = len(self._sock.recv(READ_BYTES))
        except BlockingIOError:
            return
        except OSError:
            length = 0
        self._drained += length
        if not length or self._drained > DRAIN_BYTES:
            self._close(None)

    def _close(self, error: OSError | None) -> None:
        if self._stage is Stage.CLOSED:
            return
        if self._stage in (Stage.OPEN, Stage.FLUSHING):
            self._loop.call_soon(self._protocol.connection_lost, error)
        self._stage = Stage.CLOSED
        self._unsent.clear()
        self._timer.cancel()
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()
        self._observer.closed(self._address)
        self._gone(self)

    def _set_timer(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.abort)
