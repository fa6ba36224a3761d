"""From an operator's request to a socket at its end, with the whole fleet connected to the real broker.

The operator asks the server over HTTPS, on a connection of their own for each request, as the command line does. One
device in a hundred is stalled all the while: it reads nothing, and the broker has more for it than its socket holds.
Midway the broker is stopped and started again; who is revoked while it is down has no socket to close, and is tried
afterwards: nobody who was revoked may be let in again.
"""

import json
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from benchmark import bulk
from benchmark.commanding import Commanding, commanding
from birthmark_server.roles import PROFILE_OF, Role
from birthmark_wire import topics
from support import mqtt_wire
from support.cut import SUCCESS, Spread, dial, mqtt_connect, spread, time_cut
from support.pki import Leaf
from support.rotating import RotatingDevice
from support.server import Server

STALLED_OF: Final = 100
"""One in so many."""
_FLOOD: Final = 30
_FLOOD_BYTES: Final = 200_000
_STALLED_RECEIVES: Final = 4096
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cuts:
    """took: of every revocation of a connected device; before, after: the broker's restart.

    while_down: how many were revoked while the broker was down. refused: attempts of all that were revoked, when
    everything was over; every one was in vain.
    """

    connected: int
    stalled: int
    took: Spread
    before: Spread
    after: Spread
    while_down: int
    refused: int


def measure_cuts(connected: int, revocations: int, say: Say) -> Cuts:
    """Revoke so many of the connected devices, half of them before the restart and half after it."""
    with commanding(connections=2 * connected + 100) as run:
        say(f"making {connected:,} devices")
        devices = bulk.provision(run.site, connected)
        operator = run.site.infra(PROFILE_OF[Role.OPERATOR], "the-operator")
        with run.serve() as server, _Crowd(run, devices).connected(say) as crowd:
            half, few = revocations // 2, max(1, revocations // 20)
            victims = iter(crowd.reading(2 * half + few))

            def cut(when: str) -> list[float]:
                took = []
                for number in range(half):
                    say(f"{number} of {half} revoked {when} the broker's restart")
                    took.append(crowd.cut(next(victims), server, operator))
                return took

            before = cut("before")
            say("the broker restarts")
            run.broker.stop()
            for _ in range(few):
                crowd.revoke(next(victims), server, operator)
            run.broker.start()
            crowd.connect(say)
            after = cut("after")
            say("all that were revoked try again")
            refused = crowd.try_again()
    return Cuts(connected, len(crowd.stalled), spread(before + after), spread(before), spread(after), few, refused)


class _Crowd:
    """The devices, and the connections that they have."""

    def __init__(self, run: Commanding, devices: Sequence[RotatingDevice]) -> None:
        self._run = run
        self._devices = devices
        self._sockets: dict[str, ssl.SSLSocket] = {}
        self._revoked: list[RotatingDevice] = []
        self.stalled = frozenset(device.device_id for device in devices[::STALLED_OF])
        self._context = ssl.create_default_context(cafile=str(run.site.pki.root_pem))

    @contextmanager
    def connected(self, say: Say) -> "Iterator[_Crowd]":
        """Have them connected for the length of a with block."""
        try:
            self.connect(say)
            yield self
        finally:
            self._close()

    def connect(self, say: Say) -> None:
        """Connect everybody anew who may be, and stall those that are to be."""
        self._close()
        gone = {device.device_id for device in self._revoked}
        for number, device in enumerate(self._devices):
            if device.device_id in gone:
                continue
            if number % 100 == 0:
                say(f"{number:,} of {len(self._devices):,} devices connected")
            # One after the other: Mosquitto gives a connection a minute to say CONNECT.
            stalled = device.device_id in self.stalled
            tls = self._sockets[device.device_id] = self._dial(device, receive_bytes=_STALLED_RECEIVES * stalled)
            if mqtt_connect(tls, device.device_id) != SUCCESS:
                raise AssertionError(f"{device.device_id} was not let in")
        self._stall()

    def reading(self, count: int) -> list[RotatingDevice]:
        """Return so many devices that are not stalled, from all over the crowd."""
        reading = [device for device in self._devices if device.device_id not in self.stalled]
        return reading[:: max(1, len(reading) // count)][:count]

    def revoke(self, device: RotatingDevice, server: Server, operator: Leaf) -> None:
        """What an operator does. The broker may be down: then the deny file tells it when it is back."""
        body = json.dumps({"reason": "keyCompromise"}).encode()
        path = f"/v1/devices/{device.device_id}/revoke"
        done = server.ask("POST", path, body, by=operator, content_type="application/json")
        if done.status != 200:
            raise AssertionError(done.body.decode(errors="replace"))
        self._revoked.append(device)

    def cut(self, device: RotatingDevice, server: Server, operator: Leaf) -> float:
        """Revoke a connected device; return the ms from the request to the end of its connection."""
        tls = self._sockets.pop(device.device_id)
        try:
            return time_cut(tls, lambda: self.revoke(device, server, operator))
        finally:
            tls.close()

    def try_again(self) -> int:
        """Have everybody try who was revoked; return how many were refused. Raise AssertionError for one let in."""
        for device in self._revoked:
            with suppress(OSError), self._dial(device) as tls:
                if mqtt_connect(tls, device.device_id) == SUCCESS:
                    raise AssertionError(f"{device.device_id} is revoked, and was let in")
        return len(self._revoked)

    def _dial(self, device: RotatingDevice, *, receive_bytes: int = 0) -> ssl.SSLSocket:
        self._context.load_cert_chain(*device.identity.write(self._run.site.folder, "device"))
        return dial(self._run.broker.port, self._context, receive_bytes=receive_bytes)

    def _stall(self) -> None:
        """Have the broker send more to the stalled than goes into their sockets, which nobody reads."""
        context = ssl.create_default_context(cafile=str(self._run.site.pki.root_pem))
        folder = self._run.site.folder
        context.load_cert_chain(folder / "control.pem", folder / "control.key")
        flood = bytes(_FLOOD_BYTES)
        with dial(self._run.broker.port, context) as control:
            if mqtt_connect(control, "srv-control.flood") != SUCCESS:
                raise AssertionError("the control identity was not let in")
            for device_id in self.stalled & self._sockets.keys():
                self._sockets[device_id].sendall(mqtt_wire.subscribe(1, f"devices/{device_id}/down/#"))
                if not self._sockets[device_id].recv(64):
                    raise AssertionError(f"{device_id} could not subscribe")
                for _ in range(_FLOOD):
                    control.sendall(mqtt_wire.publish(0, topics.down(device_id, "cmd"), flood))
            control.sendall(mqtt_wire.GOODBYE)
            while control.recv(1024):  # until the broker has taken it all
                pass

    def _close(self) -> None:
        for tls in self._sockets.values():
            tls.close()
        self._sockets.clear()
