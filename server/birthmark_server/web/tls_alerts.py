"""asyncio's TLS server, made to say why it hangs up.

When a handshake fails, OpenSSL leaves an alert ("unknown ca", "certificate expired", ...) in the outgoing buffer.
asyncio's `SSLProtocol._on_handshake_complete` (3.11 to 3.14) aborts the transport with the alert still in there, and
the peer sees a bare disconnect. A device in the field then can't tell a wrong certificate from a cut cable.

`TlsProtocol` flushes the alert, then closes in an orderly way: it shuts its own side down and reads what the peer
still sends (in TLS 1.3 a client may have sent its request already) until the peer closes, because closing a socket with
unread bytes sends a reset, which would take the alert with it. It is a subclass put in place per listener; asyncio
itself is not patched. It stands on private names of asyncio: where one is missing, `tls_protocol_class()` gives the
plain class back, and what is lost is the alert, never a check.
"""

import asyncio
import asyncio.sslproto
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

DRAIN_TIMEOUT_S: Final = 1.0
DRAIN_BYTES: Final = 262_144

_PRIVATE_NAMES: Final = (
    "_handshake_timeout_handle",
    "_on_handshake_complete",
    "_process_outgoing",
    "_set_state",
    "_wakeup_waiter",
)
_PRIVATE_ATTRIBUTES: Final = {
    "SSLProtocol": ("_app_transport", "_loop", "_sslobj", "_transport"),
    "_SSLProtocolTransport": ("_closed",),
}
"""By class: what its `__init__` sets, so that only its code can tell whether it is there."""


class Observer(Protocol):
    """What a listener wants to know of its connections, and may decide. address: of the peer, without its port."""

    def opened(self, address: str) -> bool:
        """Return whether to serve this connection; called before a byte of TLS is read."""

    def closed(self, address: str) -> None:
        """A connection that was let in is gone."""

    def agreed(self, address: str, tls: ssl.SSLObject) -> bool:
        """A handshake is complete; return whether to go on with this connection."""

    def failed(self, address: str, error: ssl.SSLError) -> None:
        """A handshake failed."""


def peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the IP address at the other end, empty where it has none (a Unix socket)."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


class TlsProtocol(asyncio.sslproto.SSLProtocol):
    """One server-side TLS connection, between a TCP transport and an HTTP protocol."""

    max_size = 32_768  # each connection holds a buffer of this size: requests here are small

    observer: Observer | None = None
    _address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, unless the observer does not let the peer in."""
        if self.observer is not None:
            self._address = peer_address(transport)
            if not self.observer.opened(self._address):
                self.observer = None
                private: Any = self
                private._transport = transport
                private._app_transport._closed = True
                transport.abort()  # type: ignore[attr-defined]  # a selector's transport
                return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, and tell the observer."""
        super().connection_lost(exc)
        self._tell_closed()

    def _tell_closed(self) -> None:
        if self.observer is not None:
            self.observer.closed(self._address)
            self.observer = None

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        private: Any = self  # what follows is asyncio's private side, which has no types
        transport = private._transport
        observer = self.observer
        if handshake_exc is None and observer is not None and not observer.agreed(self._address, private._sslobj):
            handshake_exc = ConnectionAbortedError("not this session")  # an OSError: asyncio is quiet about it
        if not isinstance(handshake_exc, ssl.SSLError) or transport is None:
            super()._on_handshake_complete(handshake_exc)
            return
        private._handshake_timeout_handle.cancel()
        private._handshake_timeout_handle = None
        private._set_state(asyncio.sslproto.SSLProtocolState.UNWRAPPED)
        private._process_outgoing()  # the alert
        private._wakeup_waiter(handshake_exc)
        private._app_transport._closed = True  # or its __del__ warns of a transport left open
        transport.set_protocol(_Drain(transport, private._loop, self._tell_closed))
        if transport.can_write_eof():
            transport.write_eof()
        if self.observer is not None:
            self.observer.failed(self._address, handshake_exc)


class _Drain(asyncio.Protocol):
    """Reads and forgets until the peer closes, has sent too much, or has taken too long."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, closed: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._closed = closed
        self._left = DRAIN_BYTES
        self._timer = loop.call_later(DRAIN_TIMEOUT_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._timer.cancel()
        self._closed()


def tls_protocol_class() -> type[asyncio.sslproto.SSLProtocol]:
    """Return TlsProtocol, or asyncio's own class on a Python whose asyncio it does not fit."""
    plain = asyncio.sslproto.SSLProtocol
    named = all(hasattr(plain, name) for name in _PRIVATE_NAMES)
    fits = named and all(_sets(class_name, attributes) for class_name, attributes in _PRIVATE_ATTRIBUTES.items())
    return TlsProtocol if fits else plain


def _sets(class_name: str, attributes: Sequence[str]) -> bool:
    """Return whether asyncio's class of that name makes all these attributes."""
    code = getattr(getattr(getattr(asyncio.sslproto, class_name, None), "__init__", None), "__code__", None)
    return code is not None and set(attributes) <= set(code.co_names)
