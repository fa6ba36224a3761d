"""The board that the other tests flash: MCUboot that nobody here wrote, and a TPM behind a UART."""

import socket
from pathlib import Path

import pytest

from support.mcu_board import RECOVERY, McuBoard
from support.mcu_bootloader import bootloader
from support.tpm_stock import TpmStock
from support.tpm_uart import Bridge, receive

pytestmark = pytest.mark.parts

GET_RANDOM = bytes.fromhex("80010000000c0000017b0008")


def test_a_blank_board_waits_in_mcuboots_serial_recovery(tmp_path: Path, stock: TpmStock) -> None:
    with McuBoard.running_in(tmp_path, tpm=stock.copy(0, tmp_path / "tpm")) as board:
        board.wait_log(RECOVERY)


def test_a_board_with_an_image_boots_it(tmp_path: Path, stock: TpmStock) -> None:
    slots = {0: bootloader().zephyr}
    with McuBoard.running_in(tmp_path, tpm=stock.copy(0, tmp_path / "tpm"), slots=slots) as board:
        board.wait_log("smp_sample: build time")
        assert RECOVERY not in board.log


@pytest.mark.parametrize("piece", [1, 7, 12, 24])
def test_a_command_is_whole_before_the_tpm_hears_of_it(piece: int, tmp_path: Path, stock: TpmStock) -> None:
    with stock.copy(0, tmp_path / "tpm").running() as tpm:
        bridge = Bridge(Path(tpm.tcti.removeprefix("swtpm:path=")).with_name("uart"), _path(tpm.tcti))
        bridge.start()
        with socket.socket(socket.AF_UNIX) as board:
            board.connect(str(_path(tpm.tcti).with_name("uart")))
            stream = GET_RANDOM + GET_RANDOM
            for at in range(0, len(stream), piece):
                board.sendall(stream[at : at + piece])
            answers = [receive(board) for _ in range(2)]
        bridge.close()
    assert [answer[:10].hex() for answer in answers] == ["80010000001400000000"] * 2
    assert answers[0] != answers[1]
    assert bridge.commands == [0x17B, 0x17B]


def _path(tcti: str) -> Path:
    return Path(tcti.removeprefix("swtpm:path="))
