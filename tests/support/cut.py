"""How long it takes from a request to revoke until the device's socket is at its end: one way of measuring it.

For tests/gate/soak.py, where the request is BrokerControl.deny(), and for `scripts/bench fleet`, where it is an
operator's, at the server. Connections are plain blocking TLS sockets in this process, so that nothing of a client
stands between the end of the connection and the clock.
"""

import math
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from support import mqtt_wire

SUCCESS, NOT_AUTHORIZED = 0, 135
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Of several times, in ms."""

    p50_ms: float
    p99_ms: float
    most_ms: float


def spread(took_ms: Sequence[float]) -> Spread:
    """Return median, 99th percentile (by nearest rank) and maximum."""
    ordered = sorted(took_ms)
    rank = math.ceil(len(ordered) * 0.99) - 1
    return Spread(round(statistics.median(ordered), 2), round(ordered[rank], 2), round(ordered[-1], 2))


def dial(port: int, context: ssl.SSLContext, *, receive_bytes: int = 0) -> ssl.SSLSocket:
    """Return a TLS connection to the broker on this machine. receive_bytes: how much the system takes in for a client
    that does not read; 0 for as much as it likes."""
    plain = socket.socket()
    plain.settimeout(60)
    if receive_bytes:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    plain.connect(("127.0.0.1", port))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname="localhost")


def mqtt_connect(tls: ssl.SSLSocket, client_id: str) -> int:
    """Send CONNECT (MQTT 5, clean start, no keep-alive) and return the CONNACK's reason code, -1 for none."""
    tls.sendall(mqtt_wire.connect(client_id))
    received = bytearray()
    while data := tls.recv(1024):
        received += data
        for kind, _, body in mqtt_wire.split(received):
            return mqtt_wire.reason(kind, body) if kind == mqtt_wire.CONNACK else -1
    return -1


def time_cut(tls: ssl.SSLSocket, request: Callable[[], object]) -> float:
    """Make the request, and return the ms from its beginning to the end of the connection, as the device sees it: its
    TLS layer and its DISCONNECT included. Raises TimeoutError where the connection outlives PATIENCE_S."""
    ended: list[float] = []

    def watch() -> None:
        try:
            while tls.recv(4096):  # the DISCONNECT packet, then the end
                pass
        except OSError:
            pass  # reset: an end as well
        ended.append(time.perf_counter())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    request()
    watcher.join(PATIENCE_S)
    if not ended:
        raise TimeoutError(f"still connected {PATIENCE_S:g} s after it was revoked")
    return (ended[0] - began) * 1000
