"""Accepting connections: from clients themselves, or through a TCP load balancer that says who they are."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Final

from birthmark_server.web.proxy_protocol import Fronts, HeaderReader, Peer

log = logging.getLogger("birthmark.tls")

ACCEPT_AT_ONCE: Final = 32
"""Connections taken in one turn of the loop, so that those which are open get theirs."""

ACCEPT_PAUSE_S: Final = 1.0


class Acceptor:
    """Accepts on `sockets` until `close`, and has each connection served.

    serve: given a connection, non-blocking, and its client's address and port; closes it unless it raises OSError, for
    a peer that has left already. fronts: who has to send a PROXY header first, within `timeout_s`.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        loop: asyncio.AbstractEventLoop,
        serve: Callable[[socket.socket, Peer], None],
        fronts: Fronts,
        timeout_s: float,
    ) -> None:
        """sockets: bound and listening; closed by `close`."""
        self._sockets = sockets
        self._loop = loop
        self._serve = serve
        self._fronts = fronts
        self._timeout_s = timeout_s
        self._readers: set[HeaderReader] = set()
        for sock in sockets:
            sock.setblocking(False)
            self._listen(sock)

    def close(self) -> None:
        """Accept no more, and hang up on who has not said yet for whom it comes."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        for reader in self._readers:
            reader.cancel()
            reader.sock.close()
        self._readers.clear()

    def _listen(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:  # not closed meanwhile
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            try:
                sock, _address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of files or memory: others may free some
                log.error("can't accept", extra={"fields": {"reason": error.strerror or str(error)}})
                self._loop.remove_reader(listening)
                self._loop.call_later(ACCEPT_PAUSE_S, self._listen, listening)
                return
            try:
                sock.setblocking(False)
                self._take(sock, sock.getpeername())
            except OSError:  # the peer has left already
                sock.close()

    def _take(self, sock: socket.socket, peer: Peer) -> None:
        if not self._fronts.believe(str(peer[0])):
            self._serve(sock, peer)
            return
        self._readers.add(
            HeaderReader(sock, loop=self._loop, timeout_s=self._timeout_s, then=self._told, failed=self._not_told)
        )

    def _told(self, reader: HeaderReader, sock: socket.socket, peer: Peer) -> None:
        self._readers.discard(reader)
        try:
            self._serve(sock, peer)
        except OSError:
            sock.close()

    def _not_told(self, reader: HeaderReader, sock: socket.socket, reason: str) -> None:
        self._readers.discard(reader)
        if reason:  # none: it left without a word, as a health check does that only knocks
            log.warning("front refused", extra={"fields": {"reason": reason}})
        sock.close()
