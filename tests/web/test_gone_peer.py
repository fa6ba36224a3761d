"""A peer that says goodbye together with its request: whoever it was, it has not become nobody."""

import asyncio
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from birthmark_server.errors import Malformed
from birthmark_server.web.app import certificate_from_tls
from birthmark_server.web.listener import Listener, make_request_ids
from support.pki import make_pki
from support.tls_door import context_of, knock


@pytest.mark.parametrize("goodbye", [False, True])
def test_a_request_is_never_taken_for_one_without_a_certificate(tmp_path: Path, goodbye: bool) -> None:
    pki = make_pki(tmp_path)
    chain, key = pki.device().write(tmp_path, "client")
    seen: list[str] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        try:
            seen.append("nobody" if certificate_from_tls(request) is None else "certificate")
        except Malformed:
            seen.append("gone")
        return web.Response()

    async def visit(port: int) -> str:
        context = ssl.create_default_context(cafile=str(pki.root_pem))
        context.load_cert_chain(chain, key)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65_536))
        tls.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        if goodbye:
            with pytest.raises(ssl.SSLWantReadError):
                tls.unwrap()
        writer.write(outgoing.read())
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return ""

    listeners: list[Listener] = []

    def protocol() -> asyncio.Protocol:
        if not listeners:
            listeners.append(Listener(handle, idle_timeout_s=5, request_ids=make_request_ids()))
        return listeners[0]()

    knock(context_of(pki, tmp_path), visit, make=protocol)
    assert seen == (["gone"] if goodbye else ["certificate"])
