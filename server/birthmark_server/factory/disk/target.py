"""A Linux device in a slot: its disk is flashed, then it is switched on, and the rest it does itself.

    power on -> BIRTHMARK-IDENTITY -> (the station signs) -> BIRTHMARK-GO -> operational -> connected -> BIRTHMARK-LOCK

What it says on its console is believed as far as it goes: that it was born, and spoke over the broker, is the server's
word.
"""

import json
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from birthmark_server.factory.desk import Standing
from birthmark_server.factory.disk.console import Console
from birthmark_server.factory.disk.errors import BootFailed, ConsoleGarbled, ConsoleSilent, DeviceFailed, NotADisk
from birthmark_server.factory.disk.flash import flash, open_image
from birthmark_server.factory.disk.power import Power
from birthmark_server.factory.station.targets import Place, TargetKind, register
from birthmark_server.factory.target import Born, Flashed, Progress
from birthmark_wire.encoding import read_json
from birthmark_wire.errors import DecodeError
from birthmark_wire.factory import GO, IDENTITY_MARK, LOCK, STATE_MARK, DeviceIdentity, ProvisionRecord

_CONSOLE_PATIENCE: Final = timedelta(seconds=10)
_LOCK_LIMIT: Final = timedelta(seconds=60)
_LOOK_S: Final = 0.5
_PANICS: Final = ("Kernel panic", "birthmark-boot: ")
_PATIENT: Final = frozenset(
    {"server-unreachable", "server-unavailable", "broker-refused", "broker-connection-lost", "tpm-busy"}
)
"""What an agent says and then tries again: the phase's limit is the judge of it."""


class DiskTarget:
    """See target.Target. place.slot.target: `disk:PATH`; its console and power commands as station.toml names them."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._disk = Path(place.slot.target.partition(":")[2])
        environment = {
            "BIRTHMARK_SERIAL": place.serial,
            "BIRTHMARK_DISK": str(self._disk),
            "BIRTHMARK_UNIT": str(place.folder),
        }
        self._power = Power(
            place.slot.power_on, place.slot.power_off, log=place.folder / "power.log", environment=environment
        )
        self._console: Console | None = None
        self._goes_on = False

    def flash(self, image: Path, record: ProvisionRecord, progress: Progress) -> Flashed:
        return flash(open_image(image), self._disk, record, progress)

    def identify(self, *, limit: timedelta) -> DeviceIdentity:
        if not self._place.slot.console:
            raise NotADisk(f"slot of {self._disk}: want console = ... in station.toml, or the device can't be asked")
        self._power.off()
        self._power.on()
        address, log = self._place.slot.console, self._place.folder / "console.log"
        self._console = Console.open(address, log, patience=_CONSOLE_PATIENCE)
        for line in self._lines(limit, IDENTITY_MARK.strip()):
            if line.startswith(IDENTITY_MARK):
                try:
                    return DeviceIdentity.decode(line.removeprefix(IDENTITY_MARK).encode())
                except DecodeError as error:
                    raise ConsoleGarbled(f"the device's identity can't be read: {error}") from None
            self._state(line)
        raise AssertionError("the lines end by an error")

    def attest(self, *, limit: timedelta) -> Born:
        self._go_on()
        self._wait_for("operational", limit)
        standing = self._standing()
        if standing is None:
            raise DeviceFailed(f"the device says that it was born, and the server knows no {self._place.serial}")
        return Born(standing.device_id, standing.idevid)

    def self_test(self, *, limit: timedelta) -> Mapping[str, str]:
        until = time.monotonic() + limit.total_seconds()
        told = self._wait_for("connected", limit)
        while True:
            standing = self._standing()
            if standing is not None and standing.last_seen_at is not None:
                seen = f"{standing.last_seen_at:%Y-%m-%dT%H:%M:%SZ}"
                return {"device_id": standing.device_id, "seen_at": seen, "broker": told.get("broker", "")}
            if time.monotonic() > until:
                raise DeviceFailed(f"the device is connected, and the server heard nothing of {self._place.serial}")
            time.sleep(_LOOK_S)

    def lock(self) -> Mapping[str, str]:
        self._go_on()  # without the server nobody let it go on before, and it hears LOCK only when it runs
        self._said().say(LOCK)
        self._wait_for("locked", _LOCK_LIMIT)
        if not self._power.wait_off(_LOCK_LIMIT.total_seconds()):
            raise ConsoleSilent("the device says that it is locked, and does not power off")
        return {"mode": "locked", "power": "off"}

    def close(self) -> None:
        if self._console is not None:
            self._console.close()
        self._power.off()

    def _go_on(self) -> None:
        """Say GO, once."""
        if not self._goes_on:
            self._said().say(GO)
            self._goes_on = True

    def _said(self) -> Console:
        assert self._console is not None, "identify comes first"
        return self._console

    def _standing(self) -> Standing | None:
        return None if self._place.desk is None else self._place.desk.device(self._place.serial)

    def _wait_for(self, wanted: str, limit: timedelta) -> dict[str, str]:
        for line in self._lines(limit, f"state {wanted!r}"):
            said = self._state(line)
            if said.get("state") == wanted:
                return said
            if said.get("state") == "failed" and said.get("code", "") not in _PATIENT:
                raise DeviceFailed(f"{said.get('code') or 'the device'}: {said.get('reason', '')}")
        raise AssertionError("the lines end by an error")

    def _lines(self, limit: timedelta, wanted: str) -> Iterator[str]:
        for line in self._said().lines(limit, wanted):
            if any(panic in line for panic in _PANICS):
                raise BootFailed(line.strip()[:200])
            yield line

    def _state(self, line: str) -> dict[str, str]:
        """Return what a line says of the device's state; empty if it is another line."""
        if not line.startswith(STATE_MARK):
            return {}
        try:
            read_json(line.removeprefix(STATE_MARK).encode())  # strict: no duplicates, no surprises
            said = json.loads(line.removeprefix(STATE_MARK))
        except (DecodeError, ValueError) as error:
            raise ConsoleGarbled(f"the device's state can't be read: {error}") from None
        state = {str(key): str(value) for key, value in said.items()}
        if state.get("state") == "unprovisioned":
            raise BootFailed(f"the device found no record: {state.get('reason', '')}")
        return state


register("disk", TargetKind(DiskTarget, proves_itself_later=True))
