"""`birthmark serve` as a process: how it starts, refuses to start, limits its visitors, and ends."""

import asyncio
import base64
import contextlib
import http.client
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509

from birthmark_server import app
from birthmark_server import settings as settings_file
from birthmark_server.domain import RevocationReason
from birthmark_server.errors import Misconfigured
from birthmark_wire.enrollment import ENROLLMENTS_PATH, JSON_MIME, Challenge
from birthmark_wire.est import BASE_PATH
from support.server import SERVE, Installation, now


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


class AtFront(http.client.HTTPConnection):
    """What a front says to the server, over its Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> int:
        """One request; return the status."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.request(method, path, body or None, named)
        response = self.getresponse()
        response.read()
        return response.status


def test_a_client_certificate_comes_through_a_front_by_rfc_9440(tmp_path: Path) -> None:
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
                front = AtFront(path)
                front.request("GET", f"{BASE_PATH}/nonce", headers={"X-Forwarded-For": "192.0.2.1", **headers})
                assert front.getresponse().status == status, headers
                front.close()
            # On the public door the header is nothing.
            assert server.ask("GET", f"{BASE_PATH}/nonce", client_cert=passed_on).status == 403


def test_behind_a_front_each_address_is_a_source_of_its_own(tmp_path: Path) -> None:
    with Installation.create(tmp_path / "s") as site:
        victim = site.listed_device("SN-VICTIM")
        path = tmp_path / "front.sock"
        with site.start(extra=f'[front]\nlisten = "{path}"\n[limits]\nrequests_per_s = 0.1\nburst = 10\n'):
            front = AtFront(path)

            def begin(address: str) -> int:
                body = victim.enroll_request(server_name="localhost").encode()
                return front.ask("POST", ENROLLMENTS_PATH, body, content_type=JSON_MIME, x_forwarded_for=address)

            assert [begin("203.0.113.66") for _ in range(12)] == [201] * 8 + [429] * 4  # challenges, then requests
            assert begin("198.51.100.7") == 201
            assert front.ask("GET", "/healthz", x_forwarded_for="203.0.113.66") == 429
            assert front.ask("GET", "/healthz", x_forwarded_for="2001:db8::1") == 200
            assert front.ask("GET", "/healthz") == 400  # from nobody is not from everybody
            front.close()


@pytest.mark.parametrize("door", ["crl", "front"])
def test_connections_that_fill_one_door_leave_the_others_open(tmp_path: Path, door: str) -> None:
    with Installation.create(tmp_path / "s") as site:
        path = tmp_path / "front.sock"
        extra = (
            f'[crl]\nlisten = "127.0.0.1:{site.crl_port}"\n[front]\nlisten = "{path}"\n'
            "[limits]\nconnections = 50\nconnections_per_source = 20\n"
        )
        with site.start(extra=extra) as server, contextlib.ExitStack() as stack:
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (160, 160))
            for _ in range(200):
                sock = stack.enter_context(socket.socket(socket.AF_INET if door == "crl" else socket.AF_UNIX))
                sock.settimeout(2)
                with contextlib.suppress(BlockingIOError):  # a full backlog
                    sock.connect(("127.0.0.1", site.crl_port) if door == "crl" else str(path))
            assert server.ask("GET", "/healthz").status == 200
            assert "too-many-connections" in server.log


def test_a_revocation_by_another_process_is_on_the_list_in_seconds(tmp_path: Path) -> None:
    with (
        Installation.create(tmp_path) as site,
        site.start(extra=f'[crl]\nlisten = "127.0.0.1:{site.crl_port}"\n') as server,
    ):
        tpm = site.listed_device("SN-1")
        ldevid = server.first_ldevid(tpm, server.enroll(tpm), "dev-sn-1")
        url = f"http://localhost:{site.crl_port}/pki/crl/{site.pki.authority.fleet.name}.crl"

        def listed() -> bool:
            with urllib.request.urlopen(url) as answer:
                crl = x509.load_der_x509_crl(answer.read())
            return crl.get_revoked_certificate_by_serial_number(ldevid.certificate.serial_number) is not None

        assert not listed()
        site.store.revoke_device("dev-sn-1", reason=RevocationReason.KEY_COMPROMISE, at=now(), by="alice")
        until = time.monotonic() + 30
        while not listed():
            assert time.monotonic() < until
            time.sleep(0.1)


def test_full_listeners_find_enough_open_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Installation.create(tmp_path) as site:
        crl = f'[crl]\nlisten = "127.0.0.1:{site.crl_port}"\n'
        settings = settings_file.load(site.settings(extra=f"{crl}[limits]\nconnections = 100\n"))
        more = settings_file.load(site.settings(extra=f"{crl}[limits]\nconnections = 300\n"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    asked: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda _: (200, 500))
        patch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
        app.make_room_for_connections(settings)
        assert (asked, caplog.records) == ([(456, 500)], [])
        app.make_room_for_connections(more)
    assert asked[1:] == [(500, 500)]
    assert [record.__dict__["fields"] for record in caplog.records] == [{"wanted": 856, "allowed": 500}]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


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
