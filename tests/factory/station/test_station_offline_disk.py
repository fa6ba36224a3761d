"""A Linux device that leaves the station unborn: it hears LOCK only once it was let go on."""

import json
import socket
import threading
from datetime import timedelta
from pathlib import Path

from birthmark_server.factory.disk.target import DiskTarget
from birthmark_server.factory.station.settings import SlotSettings, StationSettings
from birthmark_server.factory.station.targets import Place
from birthmark_wire.factory import GO, IDENTITY_MARK, LOCK, STATE_MARK
from support.factory_plant import VENDOR
from support.factory_sim import SimulatedDevice, derived_tpm


class Board:
    """The other end of a console: as the image's device-hold and device-console, it listens for LOCK after GO only."""

    def __init__(self, path: Path) -> None:
        self.heard: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        connection, _ = self._listener.accept()
        self._listener.close()
        identity = SimulatedDevice(derived_tpm(VENDOR, "board")).identity()
        with connection, connection.makefile("rwb") as line:
            line.write(IDENTITY_MARK.encode() + identity.encode() + b"\n")
            line.flush()
            runs = False
            for word in line:
                self.heard.append(word.decode().strip())
                runs = runs or self.heard[-1] == GO
                if runs and self.heard[-1] == LOCK:
                    line.write(f"{STATE_MARK}{json.dumps({'state': 'locked'})}\n".encode())
                    line.flush()


def test_a_device_that_was_not_attested_is_let_go_on_and_locked(tmp_path: Path) -> None:
    console = tmp_path / "c"
    board = Board(console)
    station = StationSettings(server="https://localhost:1", certificate=console, key=console, root=console)
    slot = SlotSettings(target="disk:/dev/null", console=f"unix:{console}", power_on="sleep 0.5")
    target = DiskTarget(Place(slot, station, "SN-1", tmp_path, None))
    try:
        target.identify(limit=timedelta(seconds=20))
        assert target.lock()["mode"] == "locked"
    finally:
        target.close()
        board.thread.join()
    assert board.heard == [GO, LOCK]
