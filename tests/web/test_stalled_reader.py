"""A peer on a plain listener that takes no answer: it keeps neither its place nor the answer's memory."""

import asyncio
import socket
from functools import partial

import pytest
from aiohttp import web

from birthmark_server.meters import Meters
from birthmark_server.web import tls_transport
from birthmark_server.web.limits import ConnectionLimit
from birthmark_server.web.listener import Listener, make_request_ids
from birthmark_server.web.tls import ConnectionObserver

LONG = bytes(30_000_000)
"""More than the kernel's socket buffers hold."""


def visit(reads_per_s: int, *, answer: bytes = LONG, requests: int = 1) -> tuple[int, int]:
    """Ask and read so slowly for 3 s; return how many bytes came, and how many connections are still counted."""
    limit = ConnectionLimit(most=9, most_per_source=9)

    async def handle(_: web.BaseRequest) -> web.Response:
        return web.Response(body=answer)

    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        listener = Listener(handle, idle_timeout_s=0.3, request_ids=make_request_ids())
        server = await loop.create_server(partial(listener, ConnectionObserver(limit, meters=Meters())), "127.0.0.1", 0)
        got = 0
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.setblocking(False)
            await loop.sock_connect(peer, server.sockets[0].getsockname())
            await loop.sock_sendall(peer, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * requests)
            for _ in range(30):
                await asyncio.sleep(0.1)
                if reads_per_s:
                    got += len(await loop.sock_recv(peer, reads_per_s // 10))
            still = limit._total
        await listener.shutdown(0.1)
        server.close()
        return got, still

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_transport, "STALL_TIMEOUT_S", 0.5)


def test_who_takes_nothing_of_a_long_answer_is_cut_off() -> None:
    assert visit(0) == (0, 0)


def test_who_takes_nothing_of_short_answers_is_cut_off_after_the_last() -> None:
    """Less is unsent than asyncio asks to pause for, so the connection idles, is closed, and would flush for ever."""
    assert visit(0, answer=bytes(40_000), requests=100) == (0, 0)


def test_who_is_slow_is_waited_for() -> None:
    got, still = visit(30_000)
    assert got > 50_000
    assert still == 1
