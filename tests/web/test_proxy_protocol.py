"""The PROXY protocol's header: read to the byte from whom we believe, and from nobody else."""

import asyncio
import contextlib
import socket
import ssl
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.errors import Malformed
from birthmark_server.meters import Meters
from birthmark_server.web.accepting import Acceptor
from birthmark_server.web.limits import ConnectionLimit
from birthmark_server.web.proxy_protocol import (
    FIXED_BYTES,
    MOST_BYTES,
    SIGNATURE,
    Fronts,
    Peer,
    parse_fixed,
    parse_rest,
)
from birthmark_server.web.tls import FreshContexts, TlsServer, listening_sockets
from support.pki import Pki, make_pki
from support.tls_door import Echo, context_of, no_failure_in_the_loop

PROXY, LOCAL, TCP4, TCP6, UNIX = 0x21, 0x20, 0x11, 0x21, 0x31


def header(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


def of_client(address: str, port: int = 4711, *, more: bytes = b"") -> bytes:
    """As a load balancer writes it. more: TLVs."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    rest = packed + bytes(len(packed)) + struct.pack("!HH", port, 8443) + more
    return header(PROXY, TCP6 if ":" in address else TCP4, rest)


def parse(data: bytes) -> tuple[str, int] | None:
    return parse_rest(parse_fixed(data[:FIXED_BYTES]), data[FIXED_BYTES:])


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
@pytest.mark.parametrize("more", [b"", b"\x03\x00\x04abcd"], ids=["bare", "with a checksum"])
def test_the_client_is_who_the_header_says(address: str, more: bytes) -> None:
    assert parse(of_client(address, more=more)) == (address, 4711)


@pytest.mark.parametrize("rest", [b"", bytes(12)])
def test_a_front_that_speaks_for_itself_is_the_front(rest: bytes) -> None:
    assert parse(header(LOCAL, 0, rest)) is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n", id="version 1"),
        pytest.param(b"\x16\x03\x01" + bytes(13), id="TLS"),
        pytest.param(of_client("192.0.2.7")[:15], id="short"),
        pytest.param(header(0x31, TCP4, bytes(12)), id="version 3"),
        pytest.param(header(0x22, TCP4, bytes(12)), id="no such command"),
        pytest.param(header(PROXY, UNIX, bytes(216)), id="from a Unix socket"),
        pytest.param(header(PROXY, 0, b""), id="from nowhere"),
        pytest.param(header(PROXY, 0x12, bytes(12)), id="by UDP"),
        pytest.param(header(PROXY, TCP4, bytes(11)), id="addresses cut off"),
        pytest.param(header(PROXY, TCP6, bytes(35)), id="IPv6 cut off"),
        pytest.param(header(PROXY, TCP4, bytes(MOST_BYTES + 1)), id="too long"),
        pytest.param(of_client("192.0.2.7") + b"x", id="a byte too many"),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse(data)


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    for each in (data, SIGNATURE + data):
        with contextlib.suppress(Malformed):
            parse(each)


def test_who_is_believed() -> None:
    fronts = Fronts(["10.0.0.5", "192.0.2.0/24", "2001:db8::/64"])
    for address in ("10.0.0.5", "::ffff:10.0.0.5", "192.0.2.200", "2001:db8::9", "2001:db8::9%eth0"):
        assert fronts.believe(address), address
    for address in ("10.0.0.6", "::ffff:10.0.0.6", "2001:db8:1::9", "::1"):
        assert not fronts.believe(address), address
    assert not Fronts().believe("127.0.0.1")


# -- at a door


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


def visit(pki: Pki, folder: Path, sent: bytes, *, believed: bool, timeout_s: float = 5.0) -> tuple[str, list[str]]:
    """Send this, then shake hands; return what the door answers, and whom it counted."""
    client = ssl.create_default_context(cafile=str(pki.root_pem))
    counted: list[str] = []

    class Limit(ConnectionLimit):
        def open(self, source: str) -> bool:
            counted.append(source)
            return super().open(source)

    def ask(port: int) -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            for number in range(len(sent)):  # byte by byte: a header may come in pieces
                sock.sendall(sent[number : number + 1])
            try:
                with client.wrap_socket(sock, server_hostname="localhost") as tls:
                    tls.sendall(b"who am I?")
                    return tls.recv(100).decode()
            except OSError:
                return "hung up"

    async def main() -> str:
        loop = asyncio.get_running_loop()
        limit = Limit(most=10, most_per_source=10)
        with no_failure_in_the_loop(loop):
            (sock,) = listening_sockets("127.0.0.1:0")
            door = TlsServer(
                [sock],
                loop=loop,
                contexts=FreshContexts(lambda: context_of(pki, folder)),
                protocol=Echo,
                connections=limit,
                handshake_timeout_s=timeout_s,
                meters=Meters(),
                fronts=Fronts(["127.0.0.1"] if believed else []),
            )
            said = await asyncio.to_thread(ask, sock.getsockname()[1])
            door.close()
            async with asyncio.timeout(5):
                await door.wait_closed()
        assert limit._total == 0
        return said

    return asyncio.run(main()), counted


def test_a_client_through_a_front_is_counted_by_its_own_address(pki: Pki, tmp_path: Path) -> None:
    assert visit(pki, tmp_path, of_client("192.0.2.7"), believed=True) == ("anonymous\n", ["192.0.2.7"])
    assert visit(pki, tmp_path, of_client("2001:db8::7"), believed=True) == ("anonymous\n", ["2001:db8::/64"])


def test_the_front_s_own_health_check_is_the_front(pki: Pki, tmp_path: Path) -> None:
    assert visit(pki, tmp_path, header(LOCAL, 0, b""), believed=True) == ("anonymous\n", ["127.0.0.1"])


def test_a_front_that_does_not_say_for_whom_it_comes_is_hung_up_on(pki: Pki, tmp_path: Path) -> None:
    assert visit(pki, tmp_path, b"", believed=True) == ("hung up", [])


def test_a_front_that_says_nothing_is_hung_up_on_in_time(pki: Pki, tmp_path: Path) -> None:
    """Half a header, and then nothing that completes it."""
    cut = header(PROXY, TCP4, bytes(MOST_BYTES))[:40]
    assert visit(pki, tmp_path, cut, believed=True, timeout_s=0.3) == ("hung up", [])


def test_a_header_from_anybody_else_is_not_believed(pki: Pki, tmp_path: Path) -> None:
    assert visit(pki, tmp_path, of_client("192.0.2.7"), believed=False) == ("hung up", ["127.0.0.1"])


def test_a_front_that_leaves_at_once_leaves_nothing_behind() -> None:
    """A health check that says LOCAL and hangs up by a reset, as HAProxy's does."""
    served: list[Peer] = []

    def serve(sock: socket.socket, peer: Peer) -> None:
        served.append(peer)
        sock.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with no_failure_in_the_loop(loop):
            (listening,) = listening_sockets("127.0.0.1:0")
            acceptor = Acceptor([listening], loop=loop, serve=serve, fronts=Fronts(["127.0.0.1"]), timeout_s=5.0)
            check = socket.create_connection(listening.getsockname())
            check.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            async with asyncio.timeout(5):
                while not acceptor._readers:
                    await asyncio.sleep(0)
                (reader,) = acceptor._readers
                check.sendall(header(LOCAL, 0, b""))
                check.close()
                while acceptor._readers:
                    await asyncio.sleep(0.01)
            assert reader.sock.fileno() == -1
            acceptor.close()

    asyncio.run(main())
    assert served == []
