"""`birthmark serve` as a process: how it starts, refuses to start, limits its visitors, and ends."""

import asyncio
import base64
import http.client
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from birthmark_server import app
from birthmark_server import settings as settings_file
from birthmark_server.errors import Misconfigured
from birthmark_wire.enrollment import ENROLLMENTS_PATH, JSON_MIME, Challenge
from birthmark_wire.est import BASE_PATH
from support.server import SERVE, Installation


def test_a_source_that_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    limits = "[limits]\nrequests_per_s = 0.5\nburst = 3\n"
    with Installation.create(tmp_path) as site, site.start(extra=limits) as server, server.connect() as client:
        statuses = [client.ask("POST", ENROLLMENTS_PATH, b"{}", content_type=JSON_MIME).status for _ in range(3)]
        busy = client.ask("GET", "/healthz")
    assert statuses == [400, 400, 400]
    assert (busy.status, busy.code) == (429, "too-many-requests")
    assert int(busy.headers["Retry-After"]) >= 1


def test_a_device_with_a_certificate_is_not_held_to_its_neighbours_limit(tmp_path: Path) -> None:
    limits = "[limits]\nrequests_per_s = 0.01\nburst = 4\n"
    with Installation.create(tmp_path) as site, site.start(extra=limits) as server:
        idevid = server.enroll(site.listed_device())  # two requests of the address
        with server.connect() as client:
            while client.ask("GET", "/healthz").status == 200:
                pass
        assert server.ask("GET", f"{BASE_PATH}/nonce", by=idevid).status == 200


def test_requests_that_have_begun_finish_after_sigterm(tmp_path: Path) -> None:
    with Installation.create(tmp_path) as site:
        tpm = site.listed_device()
        with site.start() as server, server.connect() as client:
            challenge = Challenge.decode(client.begin(tpm).body)
            body = tpm.answer(challenge, anchor_sha256=server.anchor_sha256, server_name="localhost").encode()
            path = f"{ENROLLMENTS_PATH}/{challenge.enrollment_id}/activation"
            client.connection.putrequest("POST", path)
            client.connection.putheader("Content-Type", JSON_MIME)
            client.connection.putheader("Content-Length", str(len(body)))
            client.connection.endheaders(body[:100])  # begun, and slow
            threading.Event().wait(0.3)
            server.process.send_signal(signal.SIGTERM)
            threading.Event().wait(0.3)
            client.connection.send(body[100:])
            assert client.connection.getresponse().status == 200
            assert server.process.wait(15) == 0


def test_a_client_certificate_comes_through_a_front_by_rfc_9440(tmp_path: Path) -> None:
    class UnixConnection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(path))

    with Installation.create(tmp_path / "s") as site:
        path = tmp_path / "front.sock"
        with site.start(extra=f'[front]\nlisten = "{path}"\n') as server:
            assert path.stat().st_mode & 0o777 == 0o660
            idevid = server.enroll(site.listed_device())
            passed_on = f":{base64.b64encode(idevid.der).decode()}:"
            for headers, status in [
                ({"Client-Cert": passed_on}, 200),
                ({}, 403),
                ({"Client-Cert": passed_on.strip(":")}, 400),
                ({"Client-Cert": ":!!:"}, 400),
                ({"Client-Cert": f":{base64.b64encode(site.pki.birth().der).decode()}:"}, 403),
            ]:
                front = UnixConnection("localhost")
                front.request("GET", f"{BASE_PATH}/nonce", headers=headers)
                assert front.getresponse().status == status, headers
                front.close()
            # On the public door the header is nothing.
            assert server.ask("GET", f"{BASE_PATH}/nonce", client_cert=passed_on).status == 403


def serve_until_it_fails(settings: Path) -> str:
    done = subprocess.run([sys.executable, "-c", SERVE, str(settings)], capture_output=True, timeout=30)
    assert done.returncode != 0
    return done.stderr.decode()


@pytest.mark.parametrize(
    ("line", "instead", "said"),
    [
        ('roots = "', 'roots = "/nowhere', "nowhere"),
        ('folder = "', 'folder = "/nowhere', "nowhere"),
        ('certificate = "', 'certificate = "/nowhere', "can't use the server's certificate"),
        ('passphrase = "file:', 'passphrase = "file:/nowhere', "nowhere"),
        ('listen = "127.0.0.1:', 'listen = "192.0.2.1:', "can't listen on 192.0.2.1"),
        ('url = "sqlite:///', 'url = "sqlite:////nowhere', "nowhere"),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_a_sentence(tmp_path: Path, line: str, instead: str, said: str) -> None:
    with Installation.create(tmp_path) as site:
        settings = site.settings()
        settings.write_text(settings.read_text().replace(line, instead, 1))
        with pytest.raises(Misconfigured, match=said):
            asyncio.run(app.serve(settings_file.load(settings), stop=asyncio.Event()))


def test_a_taken_port_is_said_so(tmp_path: Path) -> None:
    with Installation.create(tmp_path) as site, site.start():
        assert "can't listen on" in serve_until_it_fails(site.settings())
