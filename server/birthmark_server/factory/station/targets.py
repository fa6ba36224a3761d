"""From a slot's settings to its device: each kind of target has a name, and a maker that its own room registers.

    register("disk", TargetKind(open_disk, proves_itself_later=True))

A room that is named in HOMES is imported when a slot wants it, so no station loads what it does not use.
"""

import importlib
import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from birthmark_server.factory.desk import Desk
from birthmark_server.factory.out.sheet import file_name
from birthmark_server.factory.station.errors import SlotFault, StationSettingsBroken
from birthmark_server.factory.station.runner import Ready, Slot
from birthmark_server.factory.station.settings import SlotSettings, StationSettings
from birthmark_server.factory.station.stopping import Stopping
from birthmark_server.factory.target import Target

HOMES: Final = MappingProxyType(
    {"disk": "birthmark_server.factory.disk.target", "smp": "birthmark_server.factory.smp.target"}
)
"""The module that registers a kind, when it is imported."""
_LOOK_S: Final = 0.2
_NO_MORE: Final = 1


@dataclass(frozen=True, slots=True)
class Place:
    """What a target is made of. slot: filled in for this unit. folder: this unit's own, at the station. desk: None
    where nobody is asked, as with `birthmark flash`. ek_template: of the model, where it is known."""

    slot: SlotSettings
    station: StationSettings
    serial: str
    folder: Path
    desk: Desk | None
    ek_template: str = ""


@dataclass(frozen=True, slots=True)
class TargetKind:
    """open: raises FactoryError or Misconfigured. proves_itself_later: its devices can be born at their first boot,
    without the station."""

    open: Callable[[Place], Target]
    proves_itself_later: bool


_KINDS: dict[str, TargetKind] = {}


def register(scheme: str, kind: TargetKind) -> None:
    """Make a kind of target known by the name before the colon."""
    _KINDS[scheme] = kind


def kind_of(scheme: str) -> TargetKind:
    """Return a kind of target; raise StationSettingsBroken for one that nobody knows, or that is not installed."""
    if scheme not in _KINDS and scheme in HOMES:
        try:
            importlib.import_module(HOMES[scheme])
        except ModuleNotFoundError as error:
            raise StationSettingsBroken(
                f"{scheme}: targets need {error.name}: pip install 'birthmark[server,factory]'"
            ) from error
    try:
        return _KINDS[scheme]
    except KeyError:
        known = ", ".join(f"{name}:" for name in sorted({*_KINDS, *HOMES}))
        raise StationSettingsBroken(f"no kind of target {scheme}:; want one of {known}") from None


def open_target(place: Place) -> Target:
    """Return the device in a slot."""
    return kind_of(place.slot.scheme).open(place)


def make_slot(number: int, settings: SlotSettings, station: StationSettings, *, folder: Path, desk: Desk) -> Slot:
    """Return a slot for a run. folder: the station's. Raise StationSettingsBroken."""
    kind = kind_of(settings.scheme)

    def open_here(serial: str) -> Target:
        own = folder / "units" / file_name(serial)
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open_target(Place(settings.filled(serial=file_name(serial), number=number), station, serial, own, desk))

    return Slot(
        number,
        open_here,
        settings.limits.by_phase(),
        proves_itself_later=kind.proves_itself_later,
        feeds=settings.finds_devices,
        ready=_waiting(number, settings.ready) if settings.ready else None,
    )


def _waiting(number: int, command: str) -> Ready:
    words = shlex.split(command.replace("{slot}", str(number)))

    def ready(stopping: Stopping) -> bool:
        environment = {**os.environ, "BIRTHMARK_SLOT": str(number)}
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment, process_group=0) as process:
            while process.poll() is None:
                if stopping.wait(_LOOK_S):
                    process.kill()
        if stopping.asked or process.returncode == _NO_MORE:
            return False
        if process.returncode != 0:
            raise SlotFault(f"slot {number}: `{command}` ended with {process.returncode}; want 0, or 1 for no more")
        return True

    return ready
