"""The transport under a TLS connection: slow peers, peers that leave, and protocols that fail."""

import asyncio
import errno
import itertools
import logging
import socket
import ssl
import time
from pathlib import Path

import pytest

from birthmark_server.meters import Meters
from birthmark_server.web import tls_transport
from birthmark_server.web.limits import ConnectionLimit
from birthmark_server.web.tls import ConnectionObserver, FreshContexts, TlsServer, listening_sockets
from birthmark_server.web.tls_transport import TlsTransport
from support.key_updates import NOT_REQUESTED, REQUESTED, key_update_records
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
    monkeypatch.setattr("birthmark_server.web.accepting.ACCEPT_PAUSE_S", 0.2)
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


@pytest.mark.parametrize("request_byte", [NOT_REQUESTED, REQUESTED])
def test_a_flood_of_key_updates_stops_nobody_else_and_ends_its_connection(
    pki: Pki, tmp_path: Path, request_byte: int
) -> None:
    """OpenSSL reads on until it finds application data: on the socket itself, for as long as a peer sends none."""
    keylog = tmp_path / "keys"
    context = ssl.create_default_context(cafile=str(pki.root_pem))
    context.keylog_filename = str(keylog)

    def flood(port: int) -> str:
        with (
            socket.create_connection(("127.0.0.1", port)) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            records = key_update_records(tls, keylog, request=request_byte)
            poured = b"".join(itertools.islice(records, 20_000))
            tls.settimeout(10)
            try:
                socket.socket.sendall(tls, poured)
                while socket.socket.recv(tls, 4096):
                    pass
            except ConnectionError:
                pass
            else:
                return "heard to the end"
        return "cut off"

    async def visit(port: int) -> str:
        pouring = asyncio.create_task(asyncio.to_thread(flood, port))
        longest, before = 0.0, time.thread_time()
        while not pouring.done():
            await asyncio.sleep(0.001)
            longest, before = max(longest, time.thread_time() - before), time.thread_time()
        return f"{pouring.result()}, {'in turns' if longest < 0.05 else f'{longest:.3f} s in one go'}"

    said, limit = knock(context_of(pki, tmp_path), visit)
    assert said == "cut off, in turns"
    assert limit._total == 0


def test_small_records_are_no_flood(pki: Pki, tmp_path: Path) -> None:
    class Counting(Echo):
        heard = b""

        def data_received(self, data: bytes) -> None:
            self.heard += data
            if self.heard.endswith(b"\n"):
                self.transport.write(self.heard)
                self.transport.close()

    async def visit(port: int) -> str:
        reader, writer = await connect(pki, port)
        for number in range(10_000):
            writer.write(b"%d" % (number % 10))
        writer.write(b"\n")
        got = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return "whole" if got == b"0123456789" * 1000 + b"\n" else f"{len(got)} bytes"

    said, limit = knock(context_of(pki, tmp_path), visit, make=Counting)
    assert said == "whole"
    assert limit._total == 0


def test_a_peer_that_reads_no_answer_is_cut_off_though_more_is_to_come(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_transport, "STALL_TIMEOUT_S", 0.2, raising=False)

    async def visit(port: int) -> str:
        reader, writer = await connect(pki, port)
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # the peer reads nothing
        writer.write(b"go\n")
        try:
            async with asyncio.timeout(3):
                while not Lengthy.instance.lost:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return "waited for"
        finally:
            writer.transport.abort()
        return "cut off"

    said, limit = knock(context_of(pki, tmp_path), visit, make=Lengthy)
    assert said == "cut off"
    assert limit._total == 0


def test_what_is_written_when_writing_goes_on_is_sent_before_the_end(pki: Pki, tmp_path: Path) -> None:
    class AllInOne(Lengthy):
        def data_received(self, data: bytes) -> None:
            self.transport.write(LONG[:15_000_000])

        def resume_writing(self) -> None:
            self.transport.write(LONG[15_000_000:])
            self.transport.close()

    async def visit(port: int) -> str:
        reader, writer = await connect(pki, port)
        writer.write(b"go\n")
        got = await reader.read(-1)
        writer.close()
        return "whole" if got == LONG else f"{len(got)} bytes"

    said, _ = knock(context_of(pki, tmp_path), visit, make=AllInOne)
    assert said == "whole"


def test_a_handshake_that_fails_after_it_had_to_wait_for_the_socket_fails_once(pki: Pki, tmp_path: Path) -> None:
    """A server with a long chain, a peer with a small window: OpenSSL can't send its flight in one go."""
    chain, key = pki.server().write(tmp_path, "server")
    leaf, *others = chain.read_text().split("-----BEGIN")[1:]
    chain.write_text("".join("-----BEGIN" + pem for pem in (leaf, *others, *(others[0] for _ in range(90)))))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    client, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(client, said, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    failures: list[str] = []

    class Watching(ConnectionObserver):
        def failed(self, address: str, error: ssl.SSLError) -> None:
            failures.append(error.reason)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            peer.connect(listening.getsockname())
            ours, _ = listening.accept()
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
            gone = asyncio.Event()
            observer = Watching(ConnectionLimit(most=1, most_per_source=1), meters=Meters())
            assert observer.opened("127.0.0.1")
            TlsTransport(
                ours, peer=ours.getpeername(), loop=loop, context=context, protocol=Echo(), observer=observer,
                handshake_timeout_s=20, gone=lambda _: gone.set(),
            )  # fmt: skip
            peer.setblocking(False)
            await loop.sock_sendall(peer, said.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
            began = time.thread_time()
            await asyncio.sleep(0.5)
            assert time.thread_time() - began < 0.1, "waited busily"
            while await loop.sock_recv(peer, 1024):
                pass
            await asyncio.wait_for(gone.wait(), 5)

    asyncio.run(main())
    assert len(failures) == 1
