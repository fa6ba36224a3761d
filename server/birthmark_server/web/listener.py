"""Connections that speak HTTP: aiohttp's low-level protocol, told when to end and how to word what is not HTTP."""

import asyncio
import fcntl
import itertools
import logging
import secrets
import struct
import termios
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from birthmark_server.errors import BirthmarkError, Malformed
from birthmark_server.web import tls_transport
from birthmark_server.web.doors import Answer
from birthmark_server.web.problems import answer_for
from birthmark_server.web.shortcut import Shortcut
from birthmark_server.web.tls_transport import Observer

log = logging.getLogger("birthmark.web")

LINGER_S = 1.0
"""How long a connection is read on after an answer that came before the end of its request."""


class Listener:
    """Makes one HTTP protocol per connection; `loop.create_server` calls it. At the end it lets them finish."""

    def __init__(
        self,
        handle: Callable[[web.BaseRequest], Awaitable[web.Response]],
        *,
        idle_timeout_s: float,
        request_ids: Iterator[str],
        shortcut: Shortcut | None = None,
    ) -> None:
        self._server = web.Server(self._counted)
        self._shortcut = shortcut
        self._handle = handle
        self._idle_timeout_s = idle_timeout_s
        self._request_ids = request_ids
        self._in_work = 0
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    def __call__(self, observer: Observer | None = None, address: str = "") -> RequestHandler:
        """Return the protocol of one connection. observer: decides about it, where no TLS layer below asks one.
        address: the client's, where it is not the socket's peer."""
        return _Connection(
            self._server,
            request_ids=self._request_ids,
            observer=observer,
            address=address,
            shortcut=self._shortcut,
            idle_timeout_s=self._idle_timeout_s,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._idle_timeout_s,
            access_log=None,
            lingering_time=LINGER_S,
            tcp_keepalive=False,
            auto_decompress=False,
        )

    async def shutdown(self, grace_s: float) -> None:
        """Let requests that have begun finish for `grace_s`, then close every connection.

        aiohttp's own shutdown stops reading at once, and with it the requests whose body is still on its way.
        """
        self._stopping = True
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("requests cut off", extra={"fields": {"count": self._in_work}})
        self._server.pre_shutdown()
        await self._server.shutdown(LINGER_S)

    async def _counted(self, request: web.BaseRequest) -> web.Response:
        self._in_work += 1
        self._idle.clear()
        try:
            response = await self._handle(request)
        finally:
            self._in_work -= 1
            if not self._in_work:
                self._idle.set()
        if self._stopping:
            response.force_close()
        return response


class _Connection(RequestHandler):
    """aiohttp's HTTP protocol, held to the listener's limits, with problem documents for what is not HTTP."""

    __slots__ = (
        "_address",
        "_heard",
        "_held",
        "_look_again",
        "_observer",
        "_refused",
        "_request_ids",
        "_shortcut",
        "_timeout_s",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        request_ids: Iterator[str],
        observer: Observer | None,
        address: str,
        shortcut: Shortcut | None,
        idle_timeout_s: float,
        **settings: Any,
    ) -> None:
        super().__init__(manager, **settings)
        self._shortcut = shortcut
        self._timeout_s = idle_timeout_s
        self._held = b""
        self._heard = 0.0
        self._request_ids = request_ids
        self._observer = observer
        self._address = address
        self._refused = False
        self._look_again: asyncio.TimerHandle | None = None

    @property
    def client_address(self) -> str:
        """The client's address; empty on a Unix socket, and below TLS, which knows it."""
        return self._address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read, unless the observer does not let the peer in."""
        if self._observer is not None:
            peer = transport.get_extra_info("peername")
            if not self._address and isinstance(peer, tuple):  # a Unix socket has none
                self._address = str(peer[0])
            if not self._observer.opened(self._address):
                self._refused = True
                transport.abort()  # type: ignore[attr-defined]  # a selector's transport
                return
            self._hang_up_if_stalled(transport, 0)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Answer the short way as long as that goes; from the first request on that does not, aiohttp has it all."""
        if self._shortcut is not None and self.transport is not None:
            begun, self._held = self._held, b""
            data = begun + data
            answered = self._shortcut(data, self._address)
            if isinstance(answered, bytes):
                self._keep_time()
                self.transport.write(answered)
                return
            if answered is not None:
                if not begun:  # one that trickles in has no more time than one that does not
                    self._keep_time()
                self._held = data
                return
            self._shortcut = None
        super().data_received(data)

    def _keep_time(self) -> None:
        """Close what went the short way and has been idle for too long: aiohttp has not heard of it."""
        loop = asyncio.get_running_loop()
        if not self._heard:
            loop.call_later(self._timeout_s, self._look_if_idle)
        self._heard = loop.time()

    def _look_if_idle(self) -> None:
        if self._shortcut is None or self.transport is None:
            return
        left = self._heard + self._timeout_s - asyncio.get_running_loop().time()
        if left > 0:
            asyncio.get_running_loop().call_later(left, self._look_if_idle)
        else:
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, and tell the observer. One that was not let in never began."""
        if self._refused:
            return
        super().connection_lost(exc)
        if self._look_again is not None:
            self._look_again.cancel()
        if self._observer is not None:
            self._observer.closed(self._address)

    def _hang_up_if_stalled(self, transport: Any, before: int) -> None:
        """Cut off a peer that has taken nothing since the last look: asyncio's transports wait for ever, even closed.
        Ours sees to that itself. before: what was unsent or not acknowledged then, in bytes."""
        unsent = transport.get_write_buffer_size()
        if unsent:
            unsent += _unacknowledged(transport.get_extra_info("socket"))
            if unsent == before:
                transport.abort()
                return
        self._look_again = self._loop.call_later(
            tls_transport.STALL_TIMEOUT_S, self._hang_up_if_stalled, transport, unsent
        )

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp could not parse."""
        request_id = next(self._request_ids)
        fields = {"request": request_id, "status": status, "detail": message or ""}
        error: BirthmarkError = Malformed("this is not HTTP/1.1 as we read it")
        if status >= 500:
            log.error("failed", exc_info=exc, extra={"fields": fields})
            error = BirthmarkError()
        else:
            log.info("request", extra={"fields": fields})
        response = to_response(answer_for(error, request_id=request_id), request_id)
        response.force_close()
        return response


def address_of(request: web.BaseRequest) -> str:
    """Return the client's address where no TLS layer lies between: as a load balancer told it, or the peer's."""
    connection = request.protocol
    return connection.client_address if isinstance(connection, _Connection) else ""


def _unacknowledged(sock: Any) -> int:
    """Return how much the kernel still holds of what was sent (SIOCOUTQ): a slow peer's progress shows here first."""
    (length,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))
    return int(length)


def to_response(answer: Answer, request_id: str) -> web.Response:
    """Turn an Answer into aiohttp's response."""
    headers = CIMultiDict(answer.headers)
    headers["Content-Type"] = answer.media_type
    headers["X-Request-Id"] = request_id
    headers.setdefault("Cache-Control", "no-store")
    return web.Response(body=answer.body, status=answer.status, headers=headers)


def make_request_ids() -> Iterator[str]:
    """Return an endless iterator of ids that no other process gives out."""
    prefix = secrets.token_hex(4)
    return (f"{prefix}-{number:x}" for number in itertools.count(1))
