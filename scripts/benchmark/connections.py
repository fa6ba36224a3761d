"""What a connection costs the broker: memory while it is open, CPU to open it.

Mosquitto with our gate, durable sessions as agents have them, a subscription each. Clients are bare: mutual TLS 1.3
by `ssl`, CONNECT and SUBSCRIBE by hand, since a real client's own cost would hide the broker's. What is measured is the
broker's process: its resident memory before and after, and its CPU per connect, from which a core's connects per
second follow: how fast a fleet comes back after an outage.

    PYTHONPATH=../tests python -m benchmark.connections [CONNECTIONS]      from scripts/, with .venv's Python
"""

import json
import resource
import socket
import ssl
import struct
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmark import load
from support.rotating_live import broker_of
from support.server import Installation

CONNECTIONS: Final = 2_000
_EXPIRY_S: Final = 86_400
_QOS_1: Final = 1


@dataclass(frozen=True, slots=True)
class Connections:
    """per_s: connects of one core of the broker's. kb_each: 1,000 bytes of resident memory while it is open."""

    connections: int
    kb_each: float
    cpu_ms_per_connect: float
    per_s: float


def measure_connections(connections: int = CONNECTIONS) -> Connections:
    """Open so many and keep them open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, connections + 500)), hard))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="birthmark-bench-")))
        site = stack.enter_context(Installation.create(folder))
        broker = stack.enter_context(broker_of(site))
        if broker.process is None:
            raise RuntimeError("the broker does not run")
        pid, contexts = broker.process.pid, [_context(site, f"dev-{number}") for number in range(connections)]
        stack.enter_context(_connect(contexts[0], broker.port, "dev-0"))
        memory, cpu = _resident(pid), load.cpu_s([pid])
        for number, context in enumerate(contexts[1:], start=1):
            stack.enter_context(_connect(context, broker.port, f"dev-{number}"))
        opened = connections - 1
        spent_ms = (load.cpu_s([pid]) - cpu) / opened * 1000
        return Connections(opened, (_resident(pid) - memory) / opened / 1000, spent_ms, 1000 / spent_ms)


def _context(site: Installation, device_id: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(site.pki.root_pem))
    context.load_cert_chain(*site.pki.device(device_id).write(site.folder, "device"))
    return context


def _connect(context: ssl.SSLContext, port: int, device_id: str) -> ssl.SSLSocket:
    """Connect as an agent does, and subscribe to what is said to it. Raises OSError where the broker says no."""
    tls = context.wrap_socket(socket.create_connection(("localhost", port), timeout=20), server_hostname="localhost")
    tls.sendall(_connect_packet(device_id))
    _want(tls, 0x20, accepted_at=1)
    tls.sendall(_packet(0x82, b"\0\1\0" + _text(f"devices/{device_id}/down/#") + bytes([_QOS_1])))
    _want(tls, 0x90, accepted_at=-1)
    return tls


def _connect_packet(device_id: str) -> bytes:
    """CONNECT of MQTT 5: a session that lasts, keep-alive of an hour."""
    expiry = b"\x11" + struct.pack("!I", _EXPIRY_S)
    head = _text("MQTT") + b"\5\0" + struct.pack("!H", 3600) + bytes([len(expiry)]) + expiry
    return _packet(0x10, head + _text(device_id))


def _text(said: str) -> bytes:
    return struct.pack("!H", len(said)) + said.encode()


def _packet(kind: int, body: bytes) -> bytes:
    """Short ones only: their length takes one byte."""
    return bytes([kind, len(body)]) + body


def _want(tls: ssl.SSLSocket, kind: int, *, accepted_at: int) -> None:
    answer = tls.recv(4096)
    if answer[:1] != bytes([kind]) or answer[2:][accepted_at] > _QOS_1:
        raise OSError(f"the broker said {answer.hex()}")


def _resident(pid: int) -> int:
    """Return the resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    print(json.dumps(asdict(measure_connections(*map(int, sys.argv[1:]))), indent=2))
