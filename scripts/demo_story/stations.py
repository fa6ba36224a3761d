"""The stations of the factory's story: their folders, and the devices in their slots."""

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from birthmark_server.factory.image.build import BOOT, IMAGE
from demo_story.fleet import MODELS, FleetDevice
from demo_story.installation import Installation
from support.mcu_board import McuBoard
from support.mcu_firmware import Firmware
from support.swtpm import Swtpm

LINUX, BOARDS = MODELS
_IMPORTS: Final = ":".join(str(Path(__file__).resolve().parents[2] / name) for name in ("scripts", "tests"))


@dataclass(frozen=True, slots=True)
class Station:
    """One station's folder."""

    name: str
    folder: Path

    def explain(self) -> str:
        """Return what its devices said last."""
        logs = sorted((self.folder / "units").glob("*/*.log"))
        return "\n".join(f"{log}:\n{log.read_text(errors='replace')[-400:]}" for log in logs)


def linux_station(installation: Installation, home: Path, devices: Sequence[FleetDevice], image: Path) -> Station:
    """A station with a slot for each device: a blank disk, QEMU as its power, its console a socket."""
    station = _station(installation, home, "line-1")
    lines = [f"image = {json.dumps(str(image / IMAGE))}", ""]
    for slot, device in enumerate(devices, start=1):
        device.tpm.stop()  # QEMU has it from now on
        disk, console = station.folder / f"slot-{slot}.disk", station.folder / f"console-{slot}"
        disk.touch()
        words = [sys.executable, "-m", "support.qemu_power", "--disk", disk, "--tpm", device.tpm.state]
        words += ["--boot", image / BOOT, "--console", console, "--mac", f"52:54:00:00:00:{slot:02x}"]
        words += ["--port", installation.https_port, "--port", installation.broker_port]
        lines += ["[[slot]]", f'target = "disk:{disk}"', f'console = "unix:{console}"']
        lines += [f"power_on = {json.dumps(f'env PYTHONPATH={_IMPORTS} {shlex.join(map(str, words))}')}"]
        lines += [_taken(station, slot), ""]
    _append(station, lines)
    return station


def boards_station(
    installation: Installation, home: Path, tpms: Sequence[Swtpm], signed: Firmware, stack: ExitStack
) -> Station:
    """A station with a slot for each TPM, on a board in QEMU that is blank but for its bootloader; powered until the
    stack is closed."""
    station = _station(installation, home, "line-2")
    lines = [f"image = {json.dumps(str(signed.image))}", f"image_key = {json.dumps(str(signed.signer.public))}", ""]
    for slot, tpm in enumerate(tpms, start=1):
        board = stack.enter_context(McuBoard.running_in(station.folder / f"board-{slot}", tpm=tpm))
        lines += ["[[slot]]", f'target = "smp:{board.address}"']
        lines += [_taken(station, slot), ""]
    _append(station, lines)
    return station


def _station(installation: Installation, home: Path, name: str) -> Station:
    folder = home / name
    words = ("--folder", str(folder), "--server", installation.url, "--operator", str(installation.alice))
    installation.birthmark("station", "init", name, *words)
    return Station(name, folder)


def _taken(station: Station, slot: int) -> str:
    """The person before a slot: puts one device in, and has no more."""
    once = f"mkdir {shlex.quote(str(station.folder / f'slot-{slot}.taken'))} 2>/dev/null"
    return f"ready = {json.dumps(shlex.join(['sh', '-c', once]))}"


def _append(station: Station, lines: Sequence[str]) -> None:
    with (station.folder / "station.toml").open("a") as file:
        file.write("\n".join(lines) + "\n")
