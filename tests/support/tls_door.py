"""A TLS door in this process, and somebody who knocks at it."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from birthmark_server.meters import Meters
from birthmark_server.web.limits import ConnectionLimit
from birthmark_server.web.tls import FreshContexts, TlsServer, listening_sockets, server_context
from support.pki import Pki


class Echo(asyncio.Protocol):
    """Says whether the peer showed a certificate, then hangs up."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        shown = self.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.transport.write(b"certificate\n" if shown else b"anonymous\n")
        self.transport.close()


def context_of(pki: Pki, folder: Path, *, min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    chain, key = pki.server().write(folder, "server")
    return server_context(
        certificate=chain,
        key=key,
        key_passphrase=None,
        issuers=[issuer.certificate for issuer in pki.authority.issuers],
        min_version=min_version,
    )


@contextlib.contextmanager
def no_failure_in_the_loop(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    failures: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    yield
    assert not failures


def knock(
    context: ssl.SSLContext | FreshContexts,
    visit: Callable[[int], Awaitable[str]],
    *,
    most: int = 10,
    make: Callable[[], asyncio.Protocol] = Echo,
    timeout_s: float = 20.0,
) -> tuple[str, ConnectionLimit]:
    """Listen, let `visit` come, return what it says and the connections still counted."""
    contexts = context if isinstance(context, FreshContexts) else FreshContexts(lambda: context)

    async def main() -> tuple[str, ConnectionLimit]:
        loop = asyncio.get_running_loop()
        limit = ConnectionLimit(most=most, most_per_source=most)
        with no_failure_in_the_loop(loop):
            (sock,) = listening_sockets("127.0.0.1:0")
            door = TlsServer(
                [sock],
                loop=loop,
                contexts=contexts,
                protocol=make,
                connections=limit,
                handshake_timeout_s=timeout_s,
                meters=Meters(),
            )
            said = await visit(sock.getsockname()[1])
            door.close()
            async with asyncio.timeout(5):
                await door.wait_closed()
        return said, limit

    return asyncio.run(main())
