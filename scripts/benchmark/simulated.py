"""Simulated devices by the thousand: each speaks the rotation protocol over mutual TLS of its own, as an agent does.

What a device says is support/rotating.py's; its TPM is in software and its evidence genuine. Here are the sockets: an
epoll loop in each of load.PROCESSES forked processes, with as little MQTT as a device needs (support/mqtt_wire.py). A
device that was issued a certificate takes its own session over with it, says hello and `active`, and goes on.

Counted are the messages that the broker took from devices (its PUBACK) and delivered to them.
"""

import gc
import multiprocessing
import select
import socket
import ssl
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, Final

from benchmark.load import PROCESSES, JobFailed
from birthmark_wire import topics
from support import mqtt_wire
from support.rotating import RotatingDevice, Said
from support.server import Identity

SESSION_EXPIRY_S: Final = 3600
_AT_ONCE: Final = 32
"""Handshakes of a process at the same time, when all connect."""
_TICK_S: Final = 0.2
_KEEPALIVE_S: Final = 600
_COUNTERS: Final = ("connected", "done", "taken", "delivered", "lost")


@dataclass(frozen=True, slots=True)
class Counts:
    """connected: sessions that are live. done: rotations said to be active, which the broker took. taken, delivered:
    messages from and to devices. lost: connections that ended though they should not."""

    connected: int
    done: int
    taken: int
    delivered: int
    lost: int


class Crowd:
    """The devices of one run, from running() on."""

    def __init__(self, counters: Sequence["Synchronized[int]"], troubles: Any) -> None:
        self._counters = counters
        self._troubles = troubles

    def counts(self) -> Counts:
        """Return what has come to pass. Raise JobFailed if a device came to something that it should not."""
        if not self._troubles.empty():
            raise JobFailed(self._troubles.get())
        return Counts(*(counter.value for counter in self._counters))

    def wait(self, until: Callable[[Counts], bool], *, timeout_s: float, say: Callable[[Counts], None]) -> Counts:
        """Wait until the counts are so. say: called twice a second. Raise TimeoutError."""
        give_up = time.monotonic() + timeout_s
        while not until(counts := self.counts()):
            if time.monotonic() > give_up:
                raise TimeoutError(f"after {timeout_s:g} s: {counts}")
            say(counts)
            time.sleep(0.5)
        return counts


@contextmanager
def running(devices: Sequence[RotatingDevice], *, port: int, root_pem: Path) -> Iterator[Crowd]:
    """Connect these devices to the broker at `port`, and keep them so until the end of the with block."""
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    troubles = context.SimpleQueue()
    counters = [context.Value("q", 0) for _ in _COUNTERS]
    workers = [
        context.Process(
            target=_work, args=(devices[start::PROCESSES], port, root_pem, counters, troubles, stop), daemon=True
        )
        for start in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    try:
        yield Crowd(counters, troubles)
    finally:
        stop.set()
        for worker in workers:
            worker.join(10)
            if worker.is_alive():
                worker.kill()
                worker.join()


@dataclass(eq=False)
class _Session:
    """One device. taking_over: it has a second connection, which is not yet its current one."""

    device: RotatingDevice
    taking_over: bool = False
    packet_id: int = 0
    waiting: dict[int, str] = field(default_factory=dict)
    """Leaves of the messages that the broker has yet to take, by packet id."""


@dataclass(eq=False)
class _Link:
    """One connection. live: subscribed. spare: made with the device's new certificate, to take over."""

    session: _Session
    tls: ssl.SSLSocket
    spare: bool
    shaken: bool = False
    live: bool = False
    received: bytearray = field(default_factory=bytearray)


class _Loop:
    """All connections of one process."""

    def __init__(self, port: int, root_pem: Path, folder: Path, counters: Sequence["Synchronized[int]"]) -> None:
        self._address = ("127.0.0.1", port)
        self._context = ssl.create_default_context(cafile=str(root_pem))
        self._folder = folder
        self._epoll = select.epoll()
        self._links: dict[int, _Link] = {}
        self._current: dict[str, _Link] = {}
        self._count = dict(zip(_COUNTERS, counters, strict=True))
        self._ping_at = time.monotonic() + _KEEPALIVE_S / 2
        self.shaking = 0

    def add(self, name: str, number: int = 1) -> None:
        counter = self._count[name]
        with counter.get_lock():
            counter.value += number

    def open(self, session: _Session, identity: Identity, *, spare: bool) -> None:
        """Begin a connection with this identity."""
        # The context is one for all: a connection keeps the certificate that the context had when it was made.
        self._context.load_cert_chain(*identity.write(self._folder, "device"))
        plain = socket.create_connection(self._address, timeout=60)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setblocking(False)
        tls = self._context.wrap_socket(plain, server_hostname="localhost", do_handshake_on_connect=False)
        link = _Link(session, tls, spare)
        self._links[tls.fileno()] = link
        self._epoll.register(tls.fileno(), select.EPOLLIN)
        self.shaking += 1
        self._read(link)

    def turn(self) -> None:
        """Do what the sockets are ready for; wait a tick for that."""
        if time.monotonic() > self._ping_at:
            self._ping_at = time.monotonic() + _KEEPALIVE_S / 2
            for live in [one for one in self._links.values() if one.live]:
                self._send(live, mqtt_wire.PING)
        for number, _ in self._epoll.poll(_TICK_S):
            link = self._links.get(number)
            if link is not None:
                self._read(link)

    def _read(self, link: _Link) -> None:
        try:
            if not link.shaken:
                link.tls.do_handshake()
                link.shaken = True
                device_id = link.session.device.device_id
                self._send(
                    link, mqtt_wire.connect(device_id, session_expiry_s=SESSION_EXPIRY_S, keepalive_s=_KEEPALIVE_S)
                )
            while True:
                data = link.tls.recv(16_384)
                if not data:
                    self._close(link)
                    return
                link.received += data
                for kind, flags, body in mqtt_wire.split(link.received):
                    self._take(link, kind, flags, body)
        except ssl.SSLWantReadError:
            return
        except OSError:
            self._close(link)

    def _send(self, link: _Link, packet: bytes) -> None:
        # A few hundred bytes on a connection that waits for an answer: they always fit into the socket's buffer.
        if link.tls.send(packet) != len(packet):
            raise BlockingIOError("the broker does not read")

    def _take(self, link: _Link, kind: int, flags: int, body: bytes) -> None:
        session = link.session
        device_id = session.device.device_id
        match kind:
            case mqtt_wire.CONNACK:
                if mqtt_wire.reason(kind, body):
                    raise JobFailed(f"{device_id} was refused: {mqtt_wire.reason(kind, body)}")
                self._send(link, mqtt_wire.subscribe(1, f"devices/{device_id}/down/#"))
            case mqtt_wire.SUBACK:
                self._subscribed(link)
            case mqtt_wire.PUBACK:
                leaf = session.waiting.pop(int.from_bytes(body[:2], "big"), "")
                if mqtt_wire.reason(kind, body) >= 0x80:
                    raise JobFailed(f"{device_id}: the broker did not take {leaf}")
                self.add("taken")
                if leaf == "active":
                    self.add("done")
            case mqtt_wire.PUBLISH:
                topic, packet_id, payload = mqtt_wire.read_publish(flags, body)
                if packet_id:
                    self._send(link, mqtt_wire.puback(packet_id))
                self.add("delivered")
                self._say(link, session.device.take(topic.rpartition("/")[2], payload))
                if session.device.spare is not None and not session.taking_over:
                    session.taking_over = True
                    self.open(session, session.device.spare, spare=True)
                elif session.device.answers and not session.device.answers[-1].chain:
                    raise JobFailed(f"{device_id} was given no certificate: {session.device.answers[-1]}")

    def _subscribed(self, link: _Link) -> None:
        device = link.session.device
        link.live = True
        self.shaking -= 1
        self._current[device.device_id] = link
        if not link.spare:
            self.add("connected")
        self._say(link, device.hello())
        if link.spare:
            link.session.taking_over = False
            self._say(link, device.switch())

    def _say(self, link: _Link, said: Said) -> None:
        session = link.session
        for leaf, payload in said:
            session.packet_id = session.packet_id % 65_535 + 1
            session.waiting[session.packet_id] = leaf
            self._send(link, mqtt_wire.publish(session.packet_id, topics.up(session.device.device_id, leaf), payload))

    def _close(self, link: _Link) -> None:
        """The old connection of a device ends when the new one has taken over; any other should not."""
        del self._links[link.tls.fileno()]
        self._epoll.unregister(link.tls.fileno())
        link.tls.close()
        device_id = link.session.device.device_id
        if not link.live:
            raise JobFailed(f"{device_id}: the connection ended before it was let in")
        if self._current.get(device_id) is link and not link.session.taking_over:
            self.add("connected", -1)
            self.add("lost")


def _work(
    devices: Sequence[RotatingDevice],
    port: int,
    root_pem: Path,
    counters: Sequence["Synchronized[int]"],
    troubles: Any,
    stop: Any,
) -> None:
    """In the forked child."""
    gc.freeze()
    with tempfile.TemporaryDirectory(prefix="birthmark-devices-") as folder:
        try:
            loop = _Loop(port, root_pem, Path(folder), counters)
            queue = deque(_Session(device) for device in devices)
            while not stop.is_set():
                while queue and loop.shaking < _AT_ONCE:
                    session = queue.popleft()
                    loop.open(session, session.device.identity, spare=False)
                loop.turn()
        except Exception as error:  # noqa: BLE001 - for the parent to raise
            troubles.put(f"{type(error).__name__}: {error}")
