"""The TLS door, knocked at by OpenSSL: what a peer is told when it is not let in."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.domain import CertificateProfile
from birthmark_server.errors import Misconfigured
from birthmark_server.web import tls_transport
from birthmark_server.web.tls import FreshContexts, listening_sockets, server_context
from support.pki import Leaf, Pki, make_pki
from support.tls_door import context_of, knock


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def other_pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("other"))


def s_client(*arguments: str) -> Callable[[int], Awaitable[str]]:
    """A visit by `openssl s_client`, which sends one line at once and prints every alert that it gets."""

    async def visit(port: int) -> str:
        client = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", *arguments,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"hello\n" + b"." * 4000)  # and stays open: at its end s_client would leave by itself
        out = await asyncio.wait_for(client.stdout.read(), 20)
        client.stdin.close()
        await client.wait()
        return out.decode()

    return visit


def shown(leaf: Leaf, folder: Path, name: str = "client") -> tuple[str, ...]:
    chain, key = leaf.write(folder, name)
    return "-cert", str(chain), "-cert_chain", str(chain), "-key", str(key)


def test_a_client_without_a_certificate_is_let_in(pki: Pki, tmp_path: Path) -> None:
    said, limit = knock(
        context_of(pki, tmp_path),
        s_client("-CAfile", str(pki.root_pem), "-verify_return_error", "-servername", "localhost"),
    )
    assert "anonymous" in said
    assert limit._total == 0


@pytest.mark.parametrize("profile", ["device", "birth", CertificateProfile.STATION, CertificateProfile.OPERATOR])
def test_a_certificate_under_the_root_is_let_in(pki: Pki, tmp_path: Path, profile: str) -> None:
    if profile in ("device", "birth"):
        leaf = pki.device() if profile == "device" else pki.birth()
    else:
        leaf = pki.infra(CertificateProfile(profile), "x")
    said, _ = knock(context_of(pki, tmp_path), s_client(*shown(leaf, tmp_path)))
    assert "certificate\n" in said


def test_a_leaf_that_comes_without_its_ca_is_let_in(pki: Pki, tmp_path: Path) -> None:
    chain, key = pki.device().write(tmp_path, "client")
    said, _ = knock(context_of(pki, tmp_path), s_client("-cert", str(chain), "-key", str(key)))
    assert "certificate\n" in said


def test_a_foreign_certificate_is_told_unknown_ca(pki: Pki, other_pki: Pki, tmp_path: Path) -> None:
    said, limit = knock(context_of(pki, tmp_path), s_client(*shown(other_pki.device(), tmp_path)))
    assert "alert unknown ca" in said
    assert limit._total == 0


def test_an_expired_certificate_is_told_certificate_expired(pki: Pki, tmp_path: Path) -> None:
    expired = pki.device(now=pki.now - timedelta(days=90), lifetime=timedelta(days=1))
    said, _ = knock(context_of(pki, tmp_path), s_client(*shown(expired, tmp_path)))
    assert "alert certificate expired" in said


def test_a_server_certificate_is_no_client_certificate(pki: Pki, tmp_path: Path) -> None:
    said, _ = knock(context_of(pki, tmp_path), s_client(*shown(pki.server(), tmp_path)))
    assert "alert unsupported certificate" in said


def test_where_a_certificate_is_required_its_absence_is_told(pki: Pki, tmp_path: Path) -> None:
    context = context_of(pki, tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    said, _ = knock(context, s_client())
    assert "alert certificate required" in said


@pytest.mark.parametrize("sent", ["leaf", "chain", "chain and root"])
def test_a_ca_below_the_root_that_is_not_an_issuer_opens_nothing(pki: Pki, tmp_path: Path, sent: str) -> None:
    """The root's signature alone is no way in: a CA that root.crl revokes is not among the issuers."""
    chain, key = pki.server().write(tmp_path, "server")
    others = [issuer.certificate for issuer in pki.authority.issuers if issuer is not pki.authority.fleet]
    context = server_context(certificate=chain, key=key, key_passphrase=None, issuers=others)
    leaf = pki.device()
    root = pki.authority.root.certificate.public_bytes(Encoding.PEM)
    shown_chain, shown_key = leaf.write(tmp_path, "client")
    pem = leaf.certificate.public_bytes(Encoding.PEM)
    shown_chain.write_bytes({"leaf": pem, "chain": leaf.chain_pem, "chain and root": leaf.chain_pem + root}[sent])
    client = s_client("-cert", str(shown_chain), "-cert_chain", str(shown_chain), "-key", str(shown_key))
    said, _ = knock(context, client)
    assert "alert unknown ca" in said


def test_a_client_may_send_its_certificate_alone(pki: Pki, tmp_path: Path) -> None:
    leaf = pki.device()
    chain, key = leaf.write(tmp_path, "client")
    chain.write_bytes(leaf.certificate.public_bytes(Encoding.PEM))
    said, _ = knock(context_of(pki, tmp_path), s_client("-cert", str(chain), "-key", str(key)))
    assert "alert" not in said


def test_tls_1_2_is_refused_with_an_alert(pki: Pki, tmp_path: Path) -> None:
    said, _ = knock(context_of(pki, tmp_path), s_client("-tls1_2"))
    assert "alert protocol version" in said


def test_no_session_ticket_is_given(pki: Pki, tmp_path: Path) -> None:
    async def visit(port: int) -> str:
        context = ssl.create_default_context(cafile=str(pki.root_pem))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        writer.write(b"hello\n")
        await reader.read()
        session = writer.get_extra_info("ssl_object").session
        writer.close()
        return "ticket" if session is not None and session.has_ticket else "none"

    said, _ = knock(context_of(pki, tmp_path), visit)
    assert said == "none"


def with_tls_1_2(pki: Pki, folder: Path) -> ssl.SSLContext:
    return context_of(pki, folder, min_version=ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize(
    "suites",
    ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "AES128-SHA:AES256-SHA256", "ECDHE-ECDSA-AES128-CCM"],
)
def test_tls_1_2_has_no_cbc_suite_and_none_without_forward_secrecy(pki: Pki, tmp_path: Path, suites: str) -> None:
    said, _ = knock(with_tls_1_2(pki, tmp_path), s_client("-tls1_2", "-cipher", suites))
    assert "alert handshake failure" in said


def test_where_tls_1_2_is_allowed_it_is_spoken_with_suites_of_today(pki: Pki, tmp_path: Path) -> None:
    context = with_tls_1_2(pki, tmp_path)
    offered = [suite["name"] for suite in context.get_ciphers() if suite["protocol"] == "TLSv1.2"]
    assert offered
    assert all("GCM" in name or "CHACHA20" in name for name in offered)
    assert all(name.startswith("ECDHE-") for name in offered)
    said, _ = knock(context, s_client("-tls1_2"))
    assert "anonymous" in said


class Returning:
    """A client that comes back with the session of its last connection."""

    def __init__(self, pki: Pki, folder: Path, version: ssl.TLSVersion) -> None:
        self.context = ssl.create_default_context(cafile=str(pki.root_pem))
        self.context.maximum_version = version
        self.context.load_cert_chain(*pki.device().write(folder, "client"))
        self.session: ssl.SSLSession | None = None

    def greet(self, raw: socket.socket) -> str:
        """Say hello, and whether the session was the last one."""
        with raw, self.context.wrap_socket(raw, server_hostname="localhost", session=self.session) as sock:
            sock.sendall(b"hello\n")
            said = sock.recv(100).decode().strip()
            while sock.recv(100):
                pass
            self.session = sock.session
            return f"{said}, {'resumed' if sock.session_reused else 'anew'}"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed(pki: Pki, tmp_path: Path, version: ssl.TLSVersion) -> None:
    """Neither by ticket nor by session id: each connection proves its client certificate anew."""
    client = Returning(pki, tmp_path, version)

    async def visit(port: int) -> str:
        return " - ".join(
            [
                await asyncio.to_thread(lambda: client.greet(socket.create_connection(("127.0.0.1", port), 5)))
                for _ in "12"
            ]
        )

    said, limit = knock(FreshContexts(lambda: with_tls_1_2(pki, tmp_path)), visit)
    assert said == "certificate, anew - certificate, anew"
    assert limit._total == 0


def test_a_session_that_is_resumed_all_the_same_is_hung_up_on(pki: Pki, tmp_path: Path) -> None:
    """The second connection is accepted before the first has left its session, so both have one context."""
    client = Returning(pki, tmp_path, ssl.TLSVersion.TLSv1_2)

    def come_twice(first: socket.socket, second: socket.socket) -> str:
        with first, client.context.wrap_socket(first, server_hostname="localhost") as open_still:
            client.session = open_still.session
            try:
                return client.greet(second)
            except OSError:
                return "hung up"

    async def visit(port: int) -> str:
        first, second = (socket.create_connection(("127.0.0.1", port), 5) for _ in range(2))
        await asyncio.sleep(0.1)
        return await asyncio.to_thread(come_twice, first, second)

    said, limit = knock(FreshContexts(lambda: with_tls_1_2(pki, tmp_path)), visit)
    assert said in ("hung up", ", resumed")  # no answer either way
    assert limit._total == 0


def test_a_context_that_can_not_be_made_again_serves_on(pki: Pki, tmp_path: Path) -> None:
    made = iter([with_tls_1_2(pki, tmp_path)])

    def make() -> ssl.SSLContext:
        for context in made:
            return context
        raise Misconfigured("the key is gone")

    said, _ = knock(FreshContexts(make), s_client("-tls1_2"))
    assert "anonymous" in said


def test_rubbish_instead_of_tls_ends_the_connection(pki: Pki, tmp_path: Path) -> None:
    async def visit(port: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01\x00\x05rubbish")
        got = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return got.hex()

    said, limit = knock(context_of(pki, tmp_path), visit)
    assert said.startswith("15")  # a TLS alert record
    assert limit._total == 0


def test_a_silent_peer_is_hung_up_on(pki: Pki, tmp_path: Path) -> None:
    """Drain gives up on a peer that neither sends nor closes after it was told the alert."""

    async def visit(port: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"rubbish, then nothing")
        await reader.read()
        await asyncio.sleep(tls_transport.DRAIN_TIMEOUT_S + 0.3)
        writer.write(b"still here")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()
        return ""

    _, limit = knock(context_of(pki, tmp_path), visit)
    assert limit._total == 0


def test_connections_over_the_limit_are_closed_before_any_handshake(pki: Pki, tmp_path: Path) -> None:
    async def visit(port: int) -> str:
        first = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            got = await asyncio.wait_for(reader.read(), 5)
        except ConnectionResetError:
            got = b""
        for w in (first[1], writer):
            w.close()
        return got.hex()

    said, limit = knock(context_of(pki, tmp_path), visit, most=1)
    assert said == ""
    assert limit._total == 0


def test_a_missing_key_and_a_taken_port_are_said_so(pki: Pki, tmp_path: Path) -> None:
    chain, _ = pki.server().write(tmp_path, "server")
    with pytest.raises(Misconfigured, match="can't use the server's certificate"):
        server_context(certificate=chain, key=tmp_path / "none", key_passphrase=None, issuers=[])
    (sock,) = listening_sockets("127.0.0.1:0")
    with sock, pytest.raises(Misconfigured, match="can't listen on"):
        listening_sockets(f"127.0.0.1:{sock.getsockname()[1]}")
