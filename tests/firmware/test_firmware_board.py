"""The firmware on a board: upstream MCUboot in QEMU starts it; the station's client and a real TPM speak with it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from birthmark_server.factory.smp import errors
from birthmark_server.factory.smp.client import SmpBoard
from birthmark_server.factory.smp.group import BoardIdentity
from birthmark_wire.factory import ProvisionRecord
from support.firmware import Firmware
from support.mcu_board import RECOVERY, McuBoard
from support.mcu_image import ImageSigner
from support.tpm_stock import TpmStock

pytestmark = [pytest.mark.parts, pytest.mark.timeout(240)]  # builds the firmware, and boots a board under load

RECORD = ProvisionRecord("BM-000123", "unit", "W-1", "station-1").encode()
GET_RANDOM = bytes.fromhex("80010000000c0000017b0008")
CLEAR = bytes.fromhex("80020000001b000001264000000c00000009400000090000000000")


def nothing(done: int, total: int) -> None:
    """Draw no progress."""


@pytest.fixture
def board(firmware: Firmware, stock: TpmStock, tmp_path: Path) -> Iterator[McuBoard]:
    """A board that runs our 1.2.0 from slot 0."""
    slots = {0: firmware.image("1.2.0")}
    with McuBoard.running_in(tmp_path / "board", tpm=stock.copy(0, tmp_path / "tpm"), slots=slots) as running:
        running.wait_log("birthmark 1.2.0, slot 0, signature ok")
        yield running


def test_a_blank_board_is_flashed_in_recovery_and_says_who_it_is(
    firmware: Firmware, stock: TpmStock, tmp_path: Path
) -> None:
    with McuBoard.running_in(tmp_path / "board", tpm=stock.copy(0, tmp_path / "tpm")) as board:
        board.wait_log(RECOVERY)
        with SmpBoard.open(board.address) as smp:
            smp.upload(firmware.image("1.2.0").read_bytes(), nothing)
            smp.reset()
        board.wait_log("birthmark 1.2.0, slot 0, signature ok")
        with SmpBoard.open(board.address) as smp:
            assert smp.enrollment.identify() == BoardIdentity("", "1.2.0", 0, "ok", "factory", "")
            assert smp.echo("hello") == "hello"


def test_its_tpm_answers_what_enrolling_takes_and_nothing_else(board: McuBoard) -> None:
    with SmpBoard.open(board.address) as smp:
        assert smp.enrollment.tpm(GET_RANDOM)[:10].hex() == "80010000001400000000"
        with pytest.raises(errors.CommandNotAllowed):
            smp.enrollment.tpm(CLEAR)
    assert board.bridge.commands == [0x17B]


def test_a_locked_board_stays_locked_over_a_reset(board: McuBoard) -> None:
    with SmpBoard.open(board.address) as smp:
        smp.enrollment.provision(RECORD)
        assert smp.enrollment.record() == RECORD
        smp.enrollment.lock()
        smp.reset()
    board.wait_log("birthmark 1.2.0, slot 0", count=2)
    with SmpBoard.open(board.address) as smp:
        assert smp.enrollment.identify() == BoardIdentity("BM-000123", "1.2.0", 0, "ok", "locked", "")
        for refused in (lambda: smp.enrollment.tpm(GET_RANDOM), lambda: smp.enrollment.provision(RECORD)):
            with pytest.raises(errors.BoardLocked):
                refused()


def test_an_update_goes_into_the_other_slot_and_the_higher_version_runs(board: McuBoard, firmware: Firmware) -> None:
    with SmpBoard.open(board.address) as smp:
        smp.upload(firmware.image("1.3.0").read_bytes(), nothing)
        (new,) = [slot for slot in smp.slots() if not slot.active]
        smp.test(new.digest)
        smp.reset()
    board.wait_log("birthmark 1.3.0, slot 1, signature ok")
    with SmpBoard.open(board.address) as smp:
        assert [(slot.number, slot.active) for slot in smp.slots()] == [(0, False), (1, True)]
        with pytest.raises(errors.DeviceRefused, match="upload"):
            smp.upload(firmware.image("1.2.0").read_bytes(), nothing)


def test_foreign_and_tampered_images_never_boot(board: McuBoard, firmware: Firmware, tmp_path: Path) -> None:
    good = bytearray(firmware.image("1.3.0").read_bytes())
    good[0x800] ^= 1
    foreign = ImageSigner.create(tmp_path).sign(bytes(9000), tmp_path / "foreign.bin", version="9.9.9").read_bytes()
    for evil in (bytes(good), foreign, foreign[:-8], bytes(0x80001)):
        with SmpBoard.open(board.address) as smp:
            with pytest.raises(errors.DeviceRefused, match="upload"):
                smp.upload(evil, nothing)
            assert [slot.number for slot in smp.slots()] == [0]
            smp.reset()
        board.wait_log("signature ok", count=board.log.count("signature ok") + 1)
    assert "slot 1" not in board.log


def test_an_evil_image_that_came_by_another_way_is_not_confirmed(
    firmware: Firmware, stock: TpmStock, tmp_path: Path
) -> None:
    evil = ImageSigner.create(tmp_path).sign(bytes(9000), tmp_path / "evil.bin", version="1.1.0")
    slots = {0: firmware.image("1.2.0"), 1: evil}
    with McuBoard.running_in(tmp_path / "board", tpm=stock.copy(0, tmp_path / "tpm"), slots=slots) as board:
        board.wait_log("birthmark 1.2.0, slot 0, signature ok")
        with SmpBoard.open(board.address) as smp:
            (other,) = [slot for slot in smp.slots() if not slot.active]
            with pytest.raises(errors.DeviceRefused, match="confirm"):
                smp.confirm(other.digest)
