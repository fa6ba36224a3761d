"""The door of rabbitmq_door.py over HTTP, for the RabbitMQ node on this machine: on loopback, and nowhere else.

RabbitMQ posts a form to `/rabbitmq/QUESTION` and reads `allow` or `deny`. Who can bind this port, or be this server,
decides who gets in: that is root's business on a broker's machine.
"""

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import parse_qsl

from birthmark_server.broker.rabbitmq_door import RabbitDoor
from birthmark_server.errors import Misconfigured

PATH: Final = "/rabbitmq/"
_MOST_BYTES: Final = 8192
_IDLE_S: Final = 60.0


class _LoopbackServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End every connection: RabbitMQ keeps its own open, and would be answered there for a minute more."""
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


class RabbitDoorServer:
    """Answers from start() to stop(). host: a loopback address. port: 0 for any. Raise Misconfigured."""

    def __init__(self, door: RabbitDoor, *, host: str = "127.0.0.1", port: int = 0) -> None:
        if not ip_address(host).is_loopback:
            raise Misconfigured(f"RabbitMQ's questions are answered on loopback only, got {host}")
        try:
            self._server = _LoopbackServer((host, port), _handler(door))
        except OSError as error:
            raise Misconfigured(f"can't listen on {host}:{port}: {error.strerror}") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="rabbitmq_door", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End: nobody is answered any more."""
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join()


def _handler(door: RabbitDoor) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _IDLE_S
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isascii() or not length.isdecimal() or int(length) > _MOST_BYTES:
                self.send_error(413)
                self.close_connection = True
                return
            body = self.rfile.read(int(length)).decode("utf-8", "replace")
            pairs = parse_qsl(body, keep_blank_values=True)
            form = dict(pairs)
            known = self.path.startswith(PATH) and len(form) == len(pairs)  # said twice, it could be read two ways
            allowed = known and door.decide(self.path.removeprefix(PATH), form)
            answer = b"allow" if allowed else b"deny"
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """The door logs what it refuses."""

    return Handler
