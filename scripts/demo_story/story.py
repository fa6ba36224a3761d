"""The story, from an empty folder to a fleet that has rotated its certificates."""

import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from birthmark_server.store.open import open_store
from demo_story.ear import BrokerEar
from demo_story.evidence import Progress, Stage, Witness
from demo_story.fleet import Factory, FleetDevice
from demo_story.installation import BIRTHMARK, BIRTHMARK_AGENT, Installation
from demo_story.parts import Part, PartFailed, stop_all
from demo_story.screen import Screen, save_picture
from demo_story.workshop import run_folder, workshop

_ROOT: Final = Path(__file__).resolve().parents[2]
_LOOK_EVERY_S: Final = 0.05
_RENEW: Final = signal.SIGHUP


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for on the command line."""

    devices: int
    keep: bool
    as_json: bool
    picture: Path | None
    timeout_s: float


def tell(wishes: Wishes, screen: Screen) -> bool:
    """Tell the story; return whether every device got through. Everything that was started is stopped again."""
    with ExitStack() as stack:
        folder = stack.enter_context(workshop(_ROOT / ".birthmark"))
        return _Story(wishes, screen, folder, stack).run()


class _Story:
    def __init__(self, wishes: Wishes, screen: Screen, folder: Path, stack: ExitStack) -> None:
        self._wishes = wishes
        self._screen = screen
        self._folder = folder
        self._stack = stack
        self._installation = Installation(folder / "server", show=screen.command)
        self._parts: list[Part] = []

    def run(self) -> bool:
        factory = Factory(self._folder / "fleet", run=run_folder(self._folder))
        self._stack.callback(factory.close)
        self._stack.callback(lambda: stop_all(self._parts))
        devices = self._prepare(factory)
        self._start_services(factory.vendor.root_pem, devices)
        progress = self._live(devices)
        wall_s = self._screen.elapsed_s
        if self._wishes.picture is not None:
            save_picture(self._wishes.picture, progress, wall_s=wall_s, chapters=_CHAPTERS)
        self._screen.end(progress, wall_s=wall_s, next_steps=self._next_steps(devices[0]))
        complete = all(one.done for one in progress)
        if not complete:
            self._explain(progress)
        elif self._wishes.keep:
            self._stay()
        return complete

    def _prepare(self, factory: Factory) -> list[FleetDevice]:
        """Make the authorities and the TPMs, beside each other."""
        count = self._wishes.devices
        self._screen.chapter(f"A certification authority, and {count} devices fresh from the factory")
        self._screen.remark(f"{count} TPM 2.0 emulators (swtpm), each with an EK certificate of the emulated vendor")
        ordered = factory.begin(count)
        self._installation.init()
        return [one.result() for one in ordered]

    def _start_services(self, vendor_root: Path, devices: Sequence[FleetDevice]) -> None:
        self._screen.chapter("Whom to believe, and whom to expect")
        self._installation.trust(vendor_root, manufacturer=devices[0].manufacturer)
        self._installation.expect(devices)
        self._screen.chapter("The enrollment server, and the broker with its gate")
        self._parts.append(self._installation.broker())
        self._parts.append(self._installation.serve())

    def _live(self, devices: Sequence[FleetDevice]) -> tuple[Progress, ...]:
        """Start the agents and watch until all are through, or the time is over."""
        settings = self._installation.settings()
        store = open_store(settings.database.url, journal=Path(settings.database.journal))
        self._stack.callback(store.close)
        self._screen.chapter("Power on: one birthmark-agent for each device")
        progress = [Progress(device, time.monotonic()) for device in devices]
        witness = Witness(store, progress)
        ear = BrokerEar(settings, root_pem=str(self._installation.root_pem), on_message=witness.hear)
        ear.open()
        self._stack.callback(ear.close)
        with ExitStack() as showing:
            self._screen.devices(showing)
            deadline = time.monotonic() + self._wishes.timeout_s
            for one in progress:
                self._power_on(one)
                self._look(witness, ear)
            while not all(one.done for one in progress) and time.monotonic() < deadline:
                self._look(witness, ear)
                time.sleep(_LOOK_EVERY_S)
        return witness.progress

    def _power_on(self, one: Progress) -> None:
        one.started_s = time.monotonic()
        one.device.start(BIRTHMARK_AGENT, url=self._installation.url, root_pem=self._installation.root_pem)
        if one.device.agent is not None:
            self._parts.append(one.device.agent)

    def _look(self, witness: Witness, ear: BrokerEar) -> None:
        witness.look(ear)
        for one in witness.progress:
            if Stage.CONNECTED in one.reached and not one.renewal_asked and one.device.agent is not None:
                one.renewal_asked = True
                one.device.agent.signal(_RENEW)
        for part in self._parts:
            if not part.running:
                raise PartFailed(part.obituary())
        self._screen.update(witness.progress)

    def _explain(self, progress: Sequence[Progress]) -> None:
        one = next(one for one in progress if not one.done)
        reached = ", ".join(one.reached) or "nothing"
        self._screen.error(f"{one.device.device_id} reached {reached}; its agent's last words:")
        if one.device.agent is not None:
            self._screen.error(one.device.agent.tail())
        for part in self._parts[:2]:
            self._screen.error(f"{part.name}:\n{part.tail()}")

    def _next_steps(self, device: FleetDevice) -> list[tuple[str, str]]:
        if not self._wishes.keep:
            return [
                ("stay up and look around", "scripts/demo --keep"),
                ("a larger fleet", "scripts/demo --devices 50"),
                ("every test, with real parts", "scripts/test"),
                ("on a real server and a real device", "less docs/operations.md"),
            ]
        installation = self._installation
        control, root = installation.folder / "control", installation.root_pem
        return [
            ("in another terminal, first this:", f"export PATH={BIRTHMARK.parent}:$PATH"),
            ("", f"export BIRTHMARK_CONFIG={installation.config} BIRTHMARK_AGENT_CONFIG={device.config}"),
            ("what is on record", "birthmark device list"),
            ("one device, with its certificates and evidence", f"birthmark device show {device.device_id}"),
            ("is all well?", "birthmark doctor"),
            ("the device's own view", "birthmark-agent status"),
            ("a mutual TLS handshake, step by step", "birthmark-agent trace"),
            ("another rotation, watched", f"{_subscribe(installation, control, root)} & birthmark-agent renew"),
            ("revoke it: it is off the broker within two seconds", f"birthmark device revoke {device.device_id}"),
        ]

    def _stay(self) -> None:
        installation = self._installation
        self._screen.remark("")
        self._screen.remark(f"enrollment server  {installation.url}")
        self._screen.remark(f"broker             mqtts://localhost:{installation.broker_port}")
        self._screen.chapter("Everything stays up until Ctrl-C")
        mourned: set[Part] = set()
        while True:
            time.sleep(0.5)
            for part in self._parts:
                if not part.running and part not in mourned:
                    mourned.add(part)
                    self._screen.error(part.obituary())
                    self._screen.remark("the rest stays up until Ctrl-C")


def _subscribe(installation: Installation, control: Path, root: Path) -> str:
    return (
        f"mosquitto_sub -h localhost -p {installation.broker_port} --cafile {root} "
        f"--cert {control}.pem --key {control}.key -i srv-control.me -t 'devices/+/up/#' -v -W 10"
    )


_CHAPTERS: Final = (
    "A certification authority, and devices fresh from the factory, each with a TPM 2.0",
    "Whom to believe (tpm-roots), and whom to expect (manifest)",
    "The enrollment server, and the broker with its gate",
    "Power on: one birthmark-agent for each device",
)
