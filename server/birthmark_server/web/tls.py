"""The TLS of the server's door.

TLS 1.3 (1.2 where the operator allows it, with suites that are named here), and no session tickets: a resumed session
carries a client certificate past its expiry and revocation (tried, and true of other servers), and though each request
is judged by itself here, there is no need to begin with one. A client certificate is asked for and, where one comes,
verified up to one of our issuing CAs. Those are the anchors, not the root: the authority has validated their paths when
it was loaded, once and with the root's CRL, so a handshake is spared the root's P-384 signature (0.8 ms), and whatever
else may stand below the root is nobody here. Which certificate may use which route is not decided here but at each
request (doors.py).

In TLS 1.2 a session can be resumed by its id as well, out of a cache in OpenSSL's context that Python can't turn off.
So a context serves until a TLS 1.2 handshake has left a session in it (`FreshContexts`); one that is resumed all the
same, on a connection that was open before, is hung up on.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.errors import AddressTaken, Misconfigured
from birthmark_server.meters import Meters
from birthmark_server.web.accepting import Acceptor
from birthmark_server.web.limits import ConnectionLimit, source_of
from birthmark_server.web.proxy_protocol import Fronts, Peer
from birthmark_server.web.tls_transport import Stage, TlsTransport

log = logging.getLogger("birthmark.tls")

TLS_1_2_SUITES: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""In OpenSSL's words: forward secrecy and AEAD. TLS 1.3 has suites of its own, all of that kind."""


def server_context(
    *,
    certificate: Path,
    key: Path,
    key_passphrase: bytes | None,
    issuers: Sequence[x509.Certificate],
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLContext:
    """Build the listener's context.

    certificate: PEM, the server's and its CA's. issuers: the CAs whose certificates clients may show, each validated up
    to the root by who gives it (Authority.load). A client need not send its CA's certificate.
    Raises Misconfigured if the files don't fit together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = min_version
    context.set_ciphers(TLS_1_2_SUITES)
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=key_passphrase)
    except OSError as error:  # ssl.SSLError is one
        raise Misconfigured(f"can't use the server's certificate {certificate} with key {key}: {error}") from None
    context.load_verify_locations(cadata=b"".join(ca.public_bytes(Encoding.DER) for ca in issuers))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN  # a chain ends at an issuer
    return context


class FreshContexts:
    """Hands out a context that holds no session and trusts who is believed now.

    make: builds one; raises Misconfigured. believed: returns what it is built from, another object once that changed.
    """

    def __init__(self, make: Callable[[], ssl.SSLContext], *, believed: Callable[[], object] = lambda: None) -> None:
        self._make = make
        self._believed = believed
        self._built_from = believed()
        self._context = make()

    @property
    def current(self) -> ssl.SSLContext:
        """The context for the next connection."""
        believed = self._believed()
        if believed is not self._built_from:
            self._replace()
            self._built_from = believed
        return self._context

    def used(self, tls: ssl.SSLObject) -> None:
        """Replace the context if this handshake left a session in it. TLS 1.3 leaves none without tickets."""
        if tls.version() == "TLSv1.3" or tls.context is not self._context:
            return
        self._replace()

    def _replace(self) -> None:
        try:
            self._context = self._make()
        except Misconfigured as error:  # the files are not as they were at the start
            log.warning("tls context not replaced", extra={"fields": {"reason": str(error)}})


class ConnectionObserver:
    """Holds a listener to its connection limits, lets no session be resumed, and logs handshakes that fail."""

    def __init__(self, limit: ConnectionLimit, *, meters: Meters, contexts: FreshContexts | None = None) -> None:
        self._limit = limit
        self._meters = meters
        self._contexts = contexts

    def opened(self, address: str) -> bool:
        """Return whether this address may have one more connection."""
        if self._limit.open(source_of(address)):
            return True
        self._meters.turned_away()
        log.warning("connection refused", extra={"fields": {"caller": address, "code": "too-many-connections"}})
        return False

    def closed(self, address: str) -> None:
        """Give the connection's place back."""
        self._limit.close(source_of(address))

    def agreed(self, address: str, tls: ssl.SSLObject) -> bool:
        """Return whether the handshake was a whole one."""
        if tls.session_reused:
            log.warning("resumed session refused", extra={"fields": {"caller": address}})
            return False
        if self._contexts is not None:
            self._contexts.used(tls)
        return True

    def failed(self, address: str, error: ssl.SSLError) -> None:
        """Log and count why a handshake failed."""
        self._meters.handshake_failed(error.reason or "none")
        log.info("handshake failed", extra={"fields": {"caller": address, "reason": error.reason or str(error)}})


class TlsServer:
    """Accepts connections on `sockets` and serves each over TLS, until `close`."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        loop: asyncio.AbstractEventLoop,
        contexts: FreshContexts,
        protocol: Callable[[], asyncio.Protocol],
        connections: ConnectionLimit,
        handshake_timeout_s: float,
        meters: Meters,
        fronts: Fronts | None = None,
    ) -> None:
        """sockets: bound and listening; closed by `close`. protocol: makes what is told of a connection once its
        handshake is complete. fronts: TCP load balancers, which say who connects."""
        self._loop = loop
        self._contexts = contexts
        self._protocol = protocol
        self._observer = ConnectionObserver(connections, meters=meters, contexts=contexts)
        self._handshake_timeout_s = handshake_timeout_s
        self._connections: set[TlsTransport] = set()
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        self._acceptor = Acceptor(
            sockets, loop=loop, serve=self._serve, fronts=fronts or Fronts(), timeout_s=handshake_timeout_s
        )

    def close(self) -> None:
        """Accept no more, and hang up where a handshake is under way. What is open is its protocol's to close."""
        self._acceptor.close()
        for connection in [each for each in self._connections if each.stage is Stage.HANDSHAKE]:
            connection.abort()

    async def wait_closed(self) -> None:
        """Return when the last connection is closed: about DRAIN_TIMEOUT_S after the protocols have closed theirs."""
        await self._all_gone.wait()

    def _serve(self, sock: socket.socket, peer: Peer) -> None:
        address = str(peer[0])
        if not self._observer.opened(address):
            sock.close()
            return
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = TlsTransport(
                sock,
                peer=peer,
                loop=self._loop,
                context=self._contexts.current,
                protocol=self._protocol(),
                observer=self._observer,
                handshake_timeout_s=self._handshake_timeout_s,
                gone=self._gone,
            )
        except OSError:
            self._observer.closed(address)
            raise
        self._connections.add(connection)
        self._all_gone.clear()

    def _gone(self, connection: TlsTransport) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()


def listening_sockets(endpoint: str) -> list[socket.socket]:
    """Bind `HOST:PORT` (port 0 picks a free one) or raise AddressTaken, Misconfigured."""
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return [socket.create_server((host, int(port)), family=family, backlog=1024, dualstack_ipv6=host == "::")]
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressTaken(f"can't listen on {endpoint}: another program does; ss -ltnp tells which") from None
        raise Misconfigured(f"can't listen on {endpoint}: {error.strerror or error}") from None
