"""Boards are flashed by clients that nobody here wrote too: smpmgr, and smpclient as its own documentation has it."""

from pathlib import Path

import pytest

from birthmark_server.factory.smp.client import SmpBoard
from support.mcu_board import RECOVERY, McuBoard
from support.mcu_image import ImageSigner
from support.smpmgr import serial_port, smpmgr
from support.tpm_stock import TpmStock

pytestmark = [pytest.mark.parts, pytest.mark.timeout(300)]  # the first run installs smpmgr


def test_smpmgr_flashes_a_blank_board(tmp_path: Path, stock: TpmStock) -> None:
    image = ImageSigner.create(tmp_path).zephyr(tmp_path / "z.bin")
    with McuBoard.running_in(tmp_path / "board", tpm=stock.copy(0, tmp_path / "tpm")) as board:
        board.wait_log(RECOVERY)
        with serial_port(tmp_path / "tty", board.port) as port:
            done = smpmgr(port, "image", "upload", str(image))
            assert done.returncode == 0, done.stdout + done.stderr
            done = smpmgr(port, "os", "reset")
            board.wait_log("smp_sample: build time")


def test_our_own_client_speaks_over_a_serial_port(tmp_path: Path, stock: TpmStock) -> None:
    image = ImageSigner.create(tmp_path).zephyr(tmp_path / "z.bin")
    with (
        McuBoard.running_in(tmp_path / "board", tpm=stock.copy(0, tmp_path / "tpm")) as board,
        serial_port(tmp_path / "tty", board.port) as port,
        SmpBoard.open(str(port)) as smp,
    ):
        board.wait_log(RECOVERY)
        smp.upload(image.read_bytes(), lambda done, total: None)
        smp.reset()
        board.wait_log("smp_sample: build time")
        assert smp.enrollment.identify() is None
