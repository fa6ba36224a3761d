"""What each story begins with: from an empty folder to a fleet that is powered on, watched by a witness."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from birthmark_server.store.open import open_store
from birthmark_server.store.sql.store import SqlStore
from demo_story.ear import BrokerEar
from demo_story.evidence import Progress, Stage, Witness
from demo_story.fleet import Factory, FleetDevice
from demo_story.installation import BIRTHMARK, BIRTHMARK_AGENT, Installation
from demo_story.parts import Part, PartFailed, stop_all
from demo_story.screen import Screen
from demo_story.workshop import run_folder
from support.swtpm import Swtpm

_LOOK_EVERY_S: Final = 0.05


class Site:
    """An installation with its devices. Everything that is started here is stopped by `stack`."""

    def __init__(self, folder: Path, *, screen: Screen, stack: ExitStack) -> None:
        self.installation = Installation(folder / "server", show=screen.command)
        self._factory = Factory(folder / "fleet", run=run_folder(folder))
        self._screen = screen
        self._stack = stack
        self._parts: list[Part] = []
        stack.callback(self._factory.close)
        stack.callback(lambda: stop_all(self._parts))

    def found(self, count: int, *, listed: bool = True) -> list[FleetDevice]:
        """Make the authorities and the TPMs, beside each other; then start server and broker. Return the devices.

        listed: a manifest names them; else nobody has heard of them yet.
        """
        self._screen.chapter(f"A certification authority, and {count} devices fresh from the factory")
        self._screen.remark(f"{count} TPM 2.0 emulators (swtpm), each with an EK certificate of the emulated vendor")
        ordered = self._factory.begin(count)
        self.installation.init()
        devices = [one.result() for one in ordered]
        self._screen.chapter("Whom to believe, and whom to expect")
        self.installation.trust(self._factory.vendor.root_pem, manufacturer=devices[0].manufacturer)
        if listed:
            self.installation.expect(devices)
        else:
            self.installation.add_models(devices)
        self._screen.chapter("The enrollment server, and the broker with its gate")
        self._parts.append(self.installation.broker())
        self._server = self.installation.serve()
        self._parts.append(self._server)
        return devices

    def foreign_tpm(self) -> Swtpm:
        """Return a TPM of a manufacturer that nobody believes, powered on."""
        return self._factory.foreign()

    def restart_server(self) -> None:
        """Stop the server as systemd would, and start it again."""
        self._server.stop()
        self._parts.remove(self._server)
        self._server = self.installation.serve()
        self._parts.insert(1, self._server)

    def open_store(self) -> SqlStore:
        """Open the server's database, to see what is on record there."""
        settings = self.installation.settings()
        store = open_store(settings.database.url, journal=Path(settings.database.journal))
        self._stack.callback(store.close)
        return store

    def open_ear(self, witness: Witness) -> BrokerEar:
        """Listen at the broker for `witness`."""
        root_pem = str(self.installation.root_pem)
        ear = BrokerEar(self.installation.settings(), root_pem=root_pem, on_message=witness.hear)
        ear.open()
        self._stack.callback(ear.close)
        return ear

    def power_on(
        self,
        devices: Sequence[FleetDevice],
        *,
        store: SqlStore,
        stages: tuple[Stage, ...],
        timeout_s: float,
        also: Callable[[Progress], None],
    ) -> tuple[tuple[Progress, ...], BrokerEar]:
        """Start the agents and watch until all have reached the `stages`, or the time is over.

        also: done with each device at each look.
        """
        self._screen.chapter("Power on: one birthmark-agent for each device")
        witness = Witness(store, [Progress(device, time.monotonic(), stages) for device in devices])
        ear = self.open_ear(witness)

        def look() -> None:
            witness.look(ear)
            for one in witness.progress:
                also(one)
            self.require_alive()
            self._screen.update(witness.progress)

        with ExitStack() as showing:
            self._screen.devices(showing)
            deadline = time.monotonic() + timeout_s
            for one in witness.progress:
                self._power_on(one)
                look()
            while not all(one.done for one in witness.progress) and time.monotonic() < deadline:
                look()
                time.sleep(_LOOK_EVERY_S)
        return witness.progress, ear

    def _power_on(self, one: Progress) -> None:
        one.started_s = time.monotonic()
        self.wake(one.device)

    def sleep(self, device: FleetDevice) -> None:
        """Stop a device's agent: the device is away, with all that it knows."""
        if device.agent is None:
            raise PartFailed(f"{device.device_id} has no agent")
        device.agent.stop()
        self._parts.remove(device.agent)

    def wake(self, device: FleetDevice) -> None:
        """Start a device's agent, with what it knows from before, if anything."""
        device.start(BIRTHMARK_AGENT, url=self.installation.url, root_pem=self.installation.root_pem)
        if device.agent is not None:
            self._parts.append(device.agent)

    def require_alive(self) -> None:
        """Raise PartFailed if a process has ended by itself."""
        for part in self._parts:
            if not part.running:
                raise PartFailed(part.obituary())

    def explain(self, device: FleetDevice, seen: str) -> None:
        """Say what was seen of a device that did not get through, with everybody's last words."""
        self._screen.error(f"{device.device_id} {seen}; its agent's last words:")
        if device.agent is not None:
            self._screen.error(device.agent.tail())
        for part in self._parts[:2]:
            self._screen.error(f"{part.name}:\n{part.tail()}")

    def looking_around(self, device: FleetDevice) -> list[tuple[str, str]]:
        """Return what to type first in another terminal, once everything stays up."""
        exports = f"export BIRTHMARK_CONFIG={self.installation.config} BIRTHMARK_AGENT_CONFIG={device.config}"
        return [("in another terminal, first this:", f"export PATH={BIRTHMARK.parent}:$PATH"), ("", exports)]

    def stay(self) -> None:
        """Stay up until Ctrl-C, whatever ends."""
        self._screen.remark("")
        self._screen.remark(f"enrollment server  {self.installation.url}")
        self._screen.remark(f"broker             mqtts://localhost:{self.installation.broker_port}")
        self._screen.chapter("Everything stays up until Ctrl-C")
        mourned: set[Part] = set()
        while True:
            time.sleep(0.5)
            self._screen.heed()
            for part in self._parts:
                if not part.running and part not in mourned:
                    mourned.add(part)
                    self._screen.error(part.obituary())
                    self._screen.remark("the rest stays up until Ctrl-C")
