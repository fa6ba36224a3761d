"""The firmware takes an update from a client that nobody here wrote: smpmgr, over a serial port."""

from pathlib import Path

import pytest

from support.firmware import Firmware
from support.mcu_board import McuBoard
from support.smpmgr import serial_port, smpmgr
from support.tpm_stock import TpmStock

pytestmark = [pytest.mark.parts, pytest.mark.timeout(300)]  # the first run installs smpmgr


def test_smpmgr_updates_a_board(firmware: Firmware, stock: TpmStock, tmp_path: Path) -> None:
    slots = {0: firmware.image("1.2.0")}
    tpm = stock.copy(0, tmp_path / "tpm")
    with McuBoard.running_in(tmp_path / "board", tpm=tpm, slots=slots) as board:
        board.wait_log("birthmark 1.2.0, slot 0, signature ok")
        with serial_port(tmp_path / "tty", board.port) as port:
            done = smpmgr(port, "image", "upload", str(firmware.image("1.3.0")))
            assert done.returncode == 0, done.stdout + done.stderr
            smpmgr(port, "os", "reset")
            board.wait_log("birthmark 1.3.0, slot 1, signature ok")
