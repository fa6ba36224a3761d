"""Opening the doors of `birthmark serve`: HTTPS, plain HTTP for what is public and signed, the TLS front's socket.

What stands behind them is made in app.py; here are files, sockets and TLS. Whatever is wrong is said in one sentence
before anything listens there. All that is opened is closed by the stack that is passed in: listeners first, then
connections, whose requests get their time to finish.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from birthmark_server.ca import passphrase
from birthmark_server.ca.authority import Authority
from birthmark_server.errors import Misconfigured
from birthmark_server.meters import Meters
from birthmark_server.settings import Settings
from birthmark_server.tracing import NO_TRACE, Tracer
from birthmark_server.web.accepting import Acceptor
from birthmark_server.web.api.openapi import openapi_route
from birthmark_server.web.app import OVER_TCP, OVER_TLS, THROUGH_FRONT, HttpShell
from birthmark_server.web.doors import DoorStore, Route, Router
from birthmark_server.web.limits import ConnectionLimit
from birthmark_server.web.listener import Listener
from birthmark_server.web.ocsp import OcspResponder
from birthmark_server.web.proxy_protocol import Fronts, Peer
from birthmark_server.web.time import TimeSigner, time_routes
from birthmark_server.web.tls import (
    ConnectionObserver,
    FreshContexts,
    TlsServer,
    listening_sockets,
    server_context,
)
from birthmark_server.web.workers import Workers


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running server listens, as HOST:PORT or a path; empty where it does not."""

    https: str
    crl: str = ""
    front: str = ""


class Doors:
    """Opens them, one after the other. Must be used on the running loop.

    stack: closes what is opened. authority: whose certificates clients may show.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: DoorStore,
        authority: Authority,
        workers: Workers,
        meters: Meters,
        now: Callable[[], datetime],
        stack: contextlib.AsyncExitStack,
        tracer: Tracer = NO_TRACE,
    ) -> None:
        self._settings = settings
        self._store = store
        self._authority = authority
        self._workers = workers
        self._meters = meters
        self._now = now
        self._stack = stack
        self._tracer = tracer
        self._fronts = Fronts(settings.server.proxy_protocol_from)

    async def open(self, routes: Sequence[Route], *, public: Sequence[Route], ocsp: OcspResponder) -> Addresses:
        """Open every door that the settings name. Raise Misconfigured.

        routes: of the HTTPS door, but the time's and the OpenAPI document's. public: of the plain HTTP door.
        ocsp: whose answers go the short way there.
        """
        settings, limits = self._settings, self._settings.limits
        key_passphrase = None
        if settings.server.key_passphrase:
            key_passphrase = passphrase.read(settings.server.key_passphrase)
        signer = TimeSigner.load(Path(settings.server.certificate), Path(settings.server.key), key_passphrase)
        routes = [*routes, *time_routes(signer, now=self._now)]
        devices = self._shell([*routes, openapi_route(routes)])
        https = self._open_https(devices, key_passphrase)
        crl: list[socket.socket] = []
        if settings.crl.listen:
            crl = listening_sockets(settings.crl.listen)
            plain = self._shell(public).listener(OVER_TCP, folder=ocsp.folder, kept=ocsp.kept)
            if self._fronts:
                self._listen_behind_fronts(plain, crl)
            else:
                await self._listen(plain, crl, limits.connections_per_source)
        if settings.front.listen:
            path, behind = Path(settings.front.listen), devices.listener(THROUGH_FRONT)
            # All its connections come from one peer: the front.
            await self._listen(behind, [unix_socket(path)], limits.connections)
        return Addresses(_address(https), _address(crl), settings.front.listen)

    def _shell(self, routes: Sequence[Route]) -> HttpShell:
        return HttpShell(
            router=Router(routes),
            store=self._store,
            issuers=lambda: self._authority.in_force.by_sha256,
            limits=self._settings.limits,
            workers=self._workers,
            meters=self._meters,
            now=self._now,
            tracer=self._tracer,
        )

    def _open_https(self, shell: HttpShell, key_passphrase: bytes | None) -> list[socket.socket]:
        server, limits = self._settings.server, self._settings.limits

        def context() -> ssl.SSLContext:
            return server_context(
                certificate=Path(server.certificate),
                key=Path(server.key),
                key_passphrase=key_passphrase,
                issuers=[issuer.certificate for issuer in self._authority.in_force.issuers],
                min_version=ssl.TLSVersion.TLSv1_2 if server.min_tls == "1.2" else ssl.TLSVersion.TLSv1_3,
            )

        contexts = FreshContexts(context, believed=lambda: self._authority.in_force)
        sockets, over_tls = listening_sockets(server.listen), shell.listener(OVER_TLS)
        door = TlsServer(
            sockets,
            loop=asyncio.get_running_loop(),
            contexts=contexts,
            protocol=over_tls,
            connections=self._connections(limits.connections_per_source),
            handshake_timeout_s=limits.handshake_timeout_s,
            meters=self._meters,
            fronts=self._fronts,
        )
        self._stack.push_async_callback(door.wait_closed)
        self._finish_at_the_end(over_tls)
        self._stack.callback(door.close)
        return sockets

    async def _listen(self, listener: Listener, sockets: list[socket.socket], most_per_source: int) -> None:
        self._finish_at_the_end(listener)
        limit = self._connections(most_per_source)
        for sock in sockets:
            server = await asyncio.get_running_loop().create_server(
                partial(listener, ConnectionObserver(limit, meters=self._meters)), sock=sock
            )
            self._stack.callback(server.close)

    def _listen_behind_fronts(self, listener: Listener, sockets: list[socket.socket]) -> None:
        """As _listen(), for plain HTTP whose clients may come through a TCP load balancer."""
        self._finish_at_the_end(listener)
        limits, loop = self._settings.limits, asyncio.get_running_loop()
        observer = ConnectionObserver(self._connections(limits.connections_per_source), meters=self._meters)
        starting: set[asyncio.Task[object]] = set()

        def serve(sock: socket.socket, peer: Peer) -> None:
            made = partial(listener, observer, str(peer[0]))
            task: asyncio.Task[object] = loop.create_task(loop.connect_accepted_socket(made, sock))
            starting.add(task)
            task.add_done_callback(starting.discard)

        acceptor = Acceptor(sockets, loop=loop, serve=serve, fronts=self._fronts, timeout_s=limits.handshake_timeout_s)
        self._stack.callback(acceptor.close)

    def _finish_at_the_end(self, listener: Listener) -> None:
        self._stack.push_async_callback(listener.shutdown, self._settings.server.shutdown_grace_s)

    def _connections(self, most_per_source: int) -> ConnectionLimit:
        """Each listener has a limit of its own: connections that fill one leave the others' places free."""
        return ConnectionLimit(most=self._settings.limits.connections, most_per_source=most_per_source)


def unix_socket(path: Path) -> socket.socket:
    """Bind a Unix socket (mode 0660) or raise Misconfigured. One that nobody listens on any more is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        sock.bind(str(path))
        path.chmod(0o660)
    except OSError as error:
        sock.close()
        raise Misconfigured(f"can't listen on {path}: {error.strerror or error}") from None
    return sock


def _address(sockets: list[socket.socket]) -> str:
    return ":".join(str(part) for part in sockets[0].getsockname()[:2]) if sockets else ""
