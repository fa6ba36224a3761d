"""The story of a factory: two stations make two work orders, one of Linux devices and one of microcontrollers.

Nobody has heard of these devices before: each is flashed, says who it is, is signed for by its station, proves its TPM,
says something over the real broker, is locked and labelled. One board has a TPM of a manufacturer that nobody believes:
the server refuses it, and the line goes on. What leaves the door (manifest, labels, report) stays in FOLDER.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from birthmark_server.factory.station.known import Known, KnownUnit
from birthmark_server.factory.station.record import RECORD_FILE, read_record
from demo_story.fleet import FleetDevice
from demo_story.installation import BIRTHMARK
from demo_story.parts import PartFailed
from demo_story.screen import Screen
from demo_story.site import Site
from demo_story.stations import BOARDS, LINUX, Station, boards_station, linux_station
from demo_story.wishes import Wishes
from support.mcu_firmware import firmware

FOLDER: Final = Path(__file__).resolve().parents[2] / ".birthmark" / "factory-demo"
_IMAGES: Final = Path(__file__).resolve().parents[2] / ".birthmark" / "image"
_LINUX_DEVICES: Final = 2
_GENUINE_BOARDS: Final = 2


def tell_factory(wishes: Wishes, screen: Screen, site: Site) -> bool:
    """Tell it; return whether every device ended as it should."""
    devices = site.found(2 * max(_LINUX_DEVICES, _GENUINE_BOARDS), listed=False)
    return _Factory(wishes, screen, site, devices).run()


class _Factory:
    def __init__(self, wishes: Wishes, screen: Screen, site: Site, devices: Sequence[FleetDevice]) -> None:
        self._wishes = wishes
        self._screen = screen
        self._site = site
        self._home = site.installation.folder.parent
        self._linux = [one for one in devices if one.model is LINUX][:_LINUX_DEVICES]
        self._boards = [one for one in devices if one.model is BOARDS][:_GENUINE_BOARDS]
        self._birthmark = site.installation.birthmark

    def run(self) -> bool:
        """Let it all happen."""
        self._screen.chapter("What is flashed: an image for Linux devices, signed firmware for boards")
        image = self._build_image()
        self._screen.command("make -C firmware_stubs mps2")
        signed = firmware()
        self._screen.remark(f"{signed.image.stat().st_size:,} bytes, signed; {image / 'device.img'}")
        self._screen.chapter("Two stations, each with a key of its own; two work orders; and who works there")
        line_1 = linux_station(self._site.installation, self._home, self._linux, image)
        self._birthmark("operator", "add", "bob", "--role", "factory", "--folder", str(self._home))
        self._order("WO-1", LINUX.name, len(self._linux), "GW-{:04}-{c}")
        self._screen.chapter("Line 1 makes gateways: flashed disks that boot, and prove themselves")
        self._work(line_1, "WO-1", expected=0)
        with ExitStack() as powered:
            tpms = [*(one.tpm for one in self._boards), self._site.foreign_tpm()]
            line_2 = boards_station(self._site.installation, self._home, tpms, signed, powered)
            self._order("WO-2", BOARDS.name, len(tpms), "NODE-{:04}-{c}")
            self._screen.chapter(
                "Line 2 makes nodes: boards behind a serial line. One TPM is of an unknown manufacturer"
            )
            self._work(line_2, "WO-2", expected=1)
        return self._leave([(line_1, "WO-1"), (line_2, "WO-2")])

    def _build_image(self) -> Path:
        out = self._home / "image"
        server = self._site.installation
        words = ["image", "build", "--server", server.url, "--anchors", str(server.root_pem), "--model", LINUX.name]
        words += ["--host", "localhost=10.0.2.100", "--cache", str(_IMAGES), "--out", str(out)]
        for line in self._birthmark(*words, configured=False).splitlines():
            self._screen.remark(f"  {line}".replace(f"{self._home}/", ""))
        return out

    def _order(self, name: str, model: str, quantity: int, serials: str) -> None:
        words = ("--model", model, "--quantity", str(quantity), "--serials", serials, "--for", "1d")
        self._birthmark("workorder", "create", name, *words, "--operator", str(self._home / "bob.pem"))

    def _work(self, station: Station, workorder: str, *, expected: int) -> None:
        """Run the line: its own board in a terminal, its lines elsewhere. Raise PartFailed unless it ends as told."""
        words = ["factory", "run", "--station", str(station.folder), "--workorder", workorder]
        words += ["--operator", str(self._home / "bob.pem")]
        self._screen.command(" ".join(["birthmark", *words]).replace(f"{self._home}/", ""))
        command = [str(BIRTHMARK), *words]
        if self._screen.kind == "live":
            status = subprocess.run(command, check=False).returncode
        else:
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                for line in process.stdout or ():
                    self._screen.line(line.rstrip())
            status = process.returncode
        self._screen.heed()
        if status != expected:
            raise PartFailed(f"{' '.join(words)} ended with {status}, want {expected}; {station.explain()}")

    def _born(self, workorder: str) -> int:
        return int(json.loads(self._site.installation.ask("workorder", "show", workorder, "--json"))["born"])

    def _leave(self, made: Sequence[tuple[Station, str]]) -> bool:
        """Write what leaves the door, verify it, and show how it ended."""
        self._screen.chapter("What leaves the door: manifests, labels, a yield report; verified without the server")
        shutil.rmtree(FOLDER, ignore_errors=True)
        root = str(self._site.installation.root_pem)
        for station, workorder in made:
            folder, out = str(station.folder), FOLDER / station.name
            for verb in ("manifest", "labels"):
                words = ("--station", folder, "--workorder", workorder, "--out", str(out))
                self._birthmark("factory", verb, *words, configured=False)
            (manifest,) = out.glob("*.manifest.json")
            self._birthmark("factory", "verify", folder, str(manifest), "--root", root, configured=False)
        stations = [word for station, _ in made for word in ("--station", str(station.folder))]
        self._birthmark("factory", "report", *stations, "--out", str(FOLDER), configured=False)
        units = [unit for station, _ in made for unit in _units(station)]
        passed = [unit for unit in units if unit.is_made]
        born = sum(self._born(name) for _, name in made)
        complete = len(passed) == born == len(self._linux) + len(self._boards)
        wall_s = self._screen.elapsed_s
        told = {
            "units": [{"serial": one.serial, "device_id": one.device_id, "made": one.is_made} for one in units],
            "born": born,
            "complete": complete,
            "folder": str(FOLDER),
            "wall_s": round(wall_s, 2),
        }
        self._screen.end(_ending(units, born, wall_s), told, next_steps=_next_steps())
        if self._wishes.keep:
            self._site.stay()
        return complete


def _units(station: Station) -> list[KnownUnit]:
    return list(Known.of(read_record(station.folder / RECORD_FILE)).units.values())


def _ending(units: Sequence[KnownUnit], born: int, wall_s: float) -> Group:
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("serial", "model", "device", "flashed, signed for, born, tested, locked, labelled"):
        grid.add_column(column)
    for one in units:
        done = (
            Text("✓ all of it", style="green")
            if one.is_made
            else Text(f"✗ {one.quarantine or 'failed'}"[:90], style="red")
        )
        grid.add_row(Text(one.serial, style="cyan"), one.model, one.device_id if one.is_made else "-", done)
    made = sum(one.is_made for one in units)
    line = Text.assemble(
        (f"{made} of {len(units)} devices", "bold"),
        f" left the line, {born} of them born at the server; one had a foreign TPM; ",
        (f"{wall_s:.1f} s", "bold"),
    )
    return Group(Text(), grid, Text(), line)


def _next_steps() -> list[tuple[str, str]]:
    return [
        ("the yield report, in a browser", f"xdg-open {FOLDER / 'report.html'}"),
        ("labels, manifests", f"ls {FOLDER}/*"),
        ("all of it, for a real line", "less docs/factory.md"),
    ]
