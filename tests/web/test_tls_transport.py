"""The transport under a TLS connection: slow peers, peers that leave, and protocols that fail."""

import asyncio
import errno
import logging
import socket
import ssl
from pathlib import Path

import pytest

from birthmark_server.meters import Meters
from birthmark_server.web import tls_transport
from birthmark_server.web.limits import ConnectionLimit
from birthmark_server.web.tls import FreshContexts, TlsServer, listening_sockets
from support.pki import Pki, make_pki
from support.tls_door import Echo, context_of, knock

LONG = bytes(range(256)) * 120_000
"""30 MB: more than the kernel's socket buffers hold."""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


class Lengthy(Echo):
    """Answers with LONG, in pieces, as long as it may; notes what its transport asks of it."""

    instance: "Lengthy"

    def __init__(self) -> None:
        Lengthy.instance = self
        self.left = memoryview(LONG)
        self.paused = 0
        self.lost: list[BaseException | None] = []
        self._may_write = True

    def data_received(self, data: bytes) -> None:
        self._go_on()

    def pause_writing(self) -> None:
        self.paused += 1
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._go_on()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.append(exc)

    def _go_on(self) -> None:
        while self.left and self._may_write:
            piece, self.left = self.left[:100_000], self.left[100_000:]
            self.transport.write(piece)
        if not self.left:
            self.transport.close()


async def connect(pki: Pki, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=str(pki.root_pem))
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")


def test_a_long_answer_reaches_a_slow_reader_whole_and_its_writer_is_held_back(pki: Pki, tmp_path: Path) -> None:
    async def visit(port: int) -> str:
        reader, writer = await connect(pki, port)
        writer.write(b"go\n")
        await asyncio.sleep(0.2)
        assert Lengthy.instance.left, "nobody held the writer back"
        got = await reader.read(-1)
        writer.close()
        return "whole" if got == LONG else f"{len(got)} bytes"

    said, limit = knock(context_of(pki, tmp_path), visit, make=Lengthy)
    assert said == "whole"
    assert Lengthy.instance.paused > 1
    assert Lengthy.instance.lost == [None]
    assert limit._total == 0


def test_a_peer_that_does_not_read_the_last_answer_is_cut_off(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_transport, "FLUSH_TIMEOUT_S", 0.2)

    class Unheard(Lengthy):
        def data_received(self, data: bytes) -> None:
            self.transport.write(LONG)
            self.transport.close()

    async def visit(port: int) -> str:
        reader, writer = await connect(pki, port)
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # the peer reads nothing
        writer.write(b"go\n")
        async with asyncio.timeout(5):
            while not Lengthy.instance.lost:
                await asyncio.sleep(0.05)
        writer.transport.abort()
        return ""

    _, limit = knock(context_of(pki, tmp_path), visit, make=Unheard)
    assert limit._total == 0


def test_a_peer_that_is_gone_while_it_is_written_to_is_a_lost_connection(pki: Pki, tmp_path: Path) -> None:
    async def visit(port: int) -> str:
        _, writer = await connect(pki, port)
        writer.write(b"go\n")
        await asyncio.sleep(0.1)
        writer.transport.abort()  # with unread bytes: a reset
        async with asyncio.timeout(5):
            while not Lengthy.instance.lost:
                await asyncio.sleep(0.02)
        return type(Lengthy.instance.lost[0]).__name__

    said, limit = knock(context_of(pki, tmp_path), visit, make=Lengthy)
    assert said in ("ConnectionResetError", "BrokenPipeError", "SSLEOFError", "SSLError")
    assert limit._total == 0


def test_a_handshake_has_its_time(pki: Pki, tmp_path: Path) -> None:
    async def visit(port: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        got = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return got.hex()

    said, limit = knock(context_of(pki, tmp_path), visit, timeout_s=0.2)
    assert said == ""
    assert limit._total == 0


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_peer_that_leaves_within_the_handshake_is_nothing_to_note(
    pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    async def visit(port: int) -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.1)
        return ""

    with caplog.at_level(logging.INFO):
        _, limit = knock(context_of(pki, tmp_path), visit)
    assert limit._total == 0
    assert "handshake failed" not in caplog.text


def test_what_comes_after_an_answer_without_end_is_read_only_so_far(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_transport, "DRAIN_TIMEOUT_S", 30.0)

    async def visit(port: int) -> str:
        _, writer = await connect(pki, port)
        writer.write(b"go\n")
        for _ in range(1000):
            try:
                writer.write(b"more" * 10_000)
                await asyncio.wait_for(writer.drain(), 5)
            except ConnectionError:
                return "cut off"
        return "40 MB read"

    said, limit = knock(context_of(pki, tmp_path), visit)
    assert said == "cut off"
    assert limit._total == 0


def test_a_protocol_that_fails_costs_its_own_connection_alone(pki: Pki, tmp_path: Path) -> None:
    class Failing(Echo):
        def data_received(self, data: bytes) -> None:
            if data.startswith(b"fail"):
                raise RuntimeError("a bug above the transport")
            super().data_received(data)

    told: list[str] = []

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(repr(context["exception"])))
        limit = ConnectionLimit(most=9, most_per_source=9)
        (sock,) = listening_sockets("127.0.0.1:0")
        contexts = FreshContexts(lambda: context_of(pki, tmp_path))
        door = TlsServer(
            [sock],
            loop=loop,
            contexts=contexts,
            protocol=Failing,
            connections=limit,
            handshake_timeout_s=5.0,
            meters=Meters(),
        )
        answers = []
        for line in (b"fail\n", b"hello\n"):
            reader, writer = await connect(pki, sock.getsockname()[1])
            writer.write(line)
            try:
                answers.append((await reader.read()).decode())
            except ConnectionError:
                answers.append("")
            writer.close()
        door.close()
        await asyncio.wait_for(door.wait_closed(), 5)
        assert limit._total == 0
        return "|".join(answers)

    assert asyncio.run(main()) == "|anonymous\n"
    assert told == ["RuntimeError('a bug above the transport')"]


def test_out_of_files_the_door_waits_and_then_takes_who_waited(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("birthmark_server.web.tls.ACCEPT_PAUSE_S", 0.2)
    accept, refusals = socket.socket.accept, [OSError(errno.EMFILE, "Too many open files")]

    def once_full(sock: socket.socket) -> tuple[socket.socket, object]:
        if refusals:
            raise refusals.pop()
        return accept(sock)

    monkeypatch.setattr(socket.socket, "accept", once_full)

    async def visit(port: int) -> str:
        reader, writer = await connect(pki, port)
        writer.write(b"hello\n")
        got = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return got.decode()

    said, _ = knock(context_of(pki, tmp_path), visit)
    assert said == "anonymous\n"
    assert "can't accept" in caplog.text


def test_the_door_closes_on_handshakes_that_are_under_way(pki: Pki, tmp_path: Path) -> None:
    silent = socket.socket()

    async def visit(port: int) -> str:
        silent.connect(("127.0.0.1", port))
        await asyncio.sleep(0.1)
        return ""

    with silent:
        _, limit = knock(context_of(pki, tmp_path), visit)
        assert silent.recv(1) == b""
    assert limit._total == 0
