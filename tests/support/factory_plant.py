"""A plant: a station in a temporary folder, its devices, and a server in memory."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from birthmark_server.factory.station.attempt import Bench
from birthmark_server.factory.station.events import Event
from birthmark_server.factory.station.known import Known, KnownUnit
from birthmark_server.factory.station.line import Line, Order
from birthmark_server.factory.station.outbox import Outbox
from birthmark_server.factory.station.record import RECORD_FILE, read_record
from birthmark_server.factory.station.runner import Runner, Slot
from birthmark_server.factory.station.signer import StationKey
from birthmark_server.factory.station.stopping import Stopping
from birthmark_server.factory.station.view import Slots
from birthmark_server.factory.target import Target
from birthmark_server.factory.values import PHASES
from support.factory_sim import MemoryDesk, SimulatedDevice, SimulatedTarget, Steps, derived_tpm
from support.tpm_vendor import VendorCa

VENDOR = VendorCa.create()
IMAGE = b"an image" * 1000


def serial_of(place: int) -> str:
    """SN-0001 for place 0."""
    return f"SN-{place + 1:04}"


def mac_of(number: int) -> str:
    """A MAC of its own for each device."""
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


@dataclass
class Plant:
    """What outlives a power cut: the station's folder, the devices, the server."""

    folder: Path
    key: StationKey
    desk: MemoryDesk
    devices: list[SimulatedDevice] = field(default_factory=list)
    in_slot: dict[int, SimulatedDevice] = field(default_factory=dict)
    steps: Steps = field(default_factory=Steps)
    labels: list[str] = field(default_factory=list)
    hangs: dict[int, SimulatedTarget] = field(default_factory=dict)
    targets: list[SimulatedTarget] = field(default_factory=list)
    stopping: Stopping = field(default_factory=Stopping)
    made: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)

    def device(self) -> SimulatedDevice:
        """One more board, with a TPM that nobody has seen."""
        with self.turn:
            self.made += 1
            device = SimulatedDevice(derived_tpm(VENDOR, f"device {self.made}"), mac_of(self.made))
            self.devices.append(device)
            return device

    def power(self, steps: Steps | None = None) -> None:
        """Everything is switched on again."""
        self.steps = steps or Steps()
        self.desk.steps = self.steps
        self.stopping = Stopping()

    def open(self, slot: int) -> Callable[[str], Target]:
        """A slot with a person before it: whoever sees a device pass puts the next one in."""

        def target(serial: str) -> Target:
            device = self.in_slot.get(slot)
            if device is None:
                device = self.in_slot[slot] = self.device()
            made = SimulatedTarget(device, self.desk, self.steps)
            self.targets.append(made)
            return made

        return target

    def next_device(self, slot: int) -> Callable[[Stopping], bool]:
        """The person takes out the device that was in the slot."""

        def ready(stopping: Stopping) -> bool:
            self.in_slot.pop(slot, None)
            return True

        return ready

    def label(self, unit: KnownUnit) -> dict[str, str]:
        """Print."""
        done = self.steps.step("label")
        self.labels.append(unit.serial)
        done()
        return {"label": f"{unit.serial}.png"}

    def runner(
        self,
        slots: int = 1,
        *,
        later: bool = False,
        feeding: bool = True,
        open_target: Callable[[int], Callable[[str], Target]] | None = None,
        limit: timedelta = timedelta(seconds=60),
        courier_s: float = 0,
        again: tuple[str, ...] = (),
        watcher: Callable[[Event], None] | None = None,
    ) -> Runner:
        """Open the station."""
        self.folder.mkdir(exist_ok=True)
        image = self.folder / "image"
        image.write_bytes(IMAGE)
        order = Order(
            "W1", "model-a", self.desk.order.quantity, serial_of, sha256(IMAGE).hexdigest(), "alice", again=again
        )
        line = Line.open(
            self.folder / RECORD_FILE, order, self.desk, station="st-1", now=lambda: datetime.now(UTC), known=Known()
        )
        if watcher is not None:
            line.watchers.append(lambda written: watcher(written.event))
        bench = Bench(
            line=line,
            outbox=Outbox(line),
            key=self.key,
            station="st-1",
            image=image,
            label=self.label,
            slots=Slots(slots),
            stopping=self.stopping,
            now=lambda: datetime.now(UTC),
        )
        opener = open_target or self.open
        made = [
            Slot(
                number,
                opener(number),
                dict.fromkeys(PHASES, limit),
                proves_itself_later=later,
                ready=self.next_device(number) if feeding else None,
            )
            for number in range(1, slots + 1)
        ]
        return Runner(bench, made, courier_s=courier_s)

    def run(self, slots: int = 1, **options: object) -> Runner:
        """A whole run."""
        runner = self.runner(slots, **options)  # type: ignore[arg-type]
        try:
            runner.run()
        finally:
            runner.bench.line.close()
        return runner

    def known(self) -> Known:
        """What the record says, read from the disk."""
        return Known.of(read_record(self.folder / RECORD_FILE))

    def events(self) -> list[Event]:
        """The record's events."""
        return [line.event for line in read_record(self.folder / RECORD_FILE)]
