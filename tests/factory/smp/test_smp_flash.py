"""The smp: target's flash on real boards: MCUboot, and firmware that is not ours."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from birthmark_server.factory.smp import errors, target
from birthmark_server.factory.smp.agent import AgentServer
from birthmark_server.factory.smp.image import read_image_key
from birthmark_server.factory.smp.target import SmpTarget
from birthmark_wire.factory import ProvisionRecord
from support.mcu_board import McuBoard
from support.mcu_image import ImageSigner
from support.tpm_stock import TpmStock

pytestmark = pytest.mark.parts

RECORD = ProvisionRecord(serial="SM-1", model="emulated", workorder="W-1", station="st-1")
Open = Callable[[McuBoard], SmpTarget]


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> ImageSigner:
    return ImageSigner.create(tmp_path_factory.mktemp("signer"))


@pytest.fixture
def at(signer: ImageSigner, tmp_path: Path) -> Iterator[Open]:
    """Put a board into a slot."""
    made = []

    def put(board: McuBoard) -> SmpTarget:
        server = AgentServer("https://localhost:9", tmp_path / "root.pem")
        key = read_image_key(signer.public)
        made.append(
            SmpTarget(board.address, serial="SM-1", folder=tmp_path / "unit", key=key, server=server, desk=None)
        )
        return made[-1]

    yield put
    for one in made:
        one.close()


def nothing(done: int, total: int) -> None:
    pass


def test_firmware_that_is_not_ours_is_named_after_its_start(
    at: Open, signer: ImageSigner, tmp_path: Path, stock: TpmStock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has our signature, and boots; and it has no enrollment group."""
    monkeypatch.setattr(target, "_BOOT_S", 3.0)
    with McuBoard.running_in(tmp_path / "board", tpm=stock.copy(0, tmp_path / "tpm")) as board:
        with pytest.raises(errors.WrongFirmware, match=r"want 1\.2\.0 to run after its start"):
            at(board).flash(signer.zephyr(tmp_path / "z.bin"), RECORD, nothing)
        board.wait_log("smp_sample: build time")


def test_a_board_never_goes_back_to_an_earlier_version(
    at: Open, signer: ImageSigner, tmp_path: Path, stock: TpmStock
) -> None:
    slots = {0: signer.zephyr(tmp_path / "new.bin", version="1.3.0")}
    image = signer.sign(bytes(4000), tmp_path / "old.bin", version="1.2.9")
    with McuBoard.running_in(tmp_path / "board", tpm=stock.copy(0, tmp_path / "tpm"), slots=slots) as board:
        board.wait_log("smp_sample: build time")
        with pytest.raises(errors.ImageDowngrade, match=r"the image is 1\.2\.9, the board has 1\.3\.0"):
            at(board).flash(image, RECORD, nothing)


def test_a_cable_pulled_midway_ends_the_attempt(at: Open, signer: ImageSigner, tmp_path: Path, stock: TpmStock) -> None:
    image = signer.sign(bytes(range(256)) * 100, tmp_path / "i.bin")
    tpm = stock.copy(0, tmp_path / "tpm")
    with McuBoard.running_in(tmp_path / "board", tpm=tpm) as board:
        with pytest.raises(errors.CableGone) as gone:
            at(board).flash(image, RECORD, lambda done, total: board.switch_off() if done > total // 2 else None)
        assert not gone.value.fails
        assert "continues where it stood" in gone.value.next_step


def test_a_slot_that_is_stopped_lets_go_in_the_middle(
    at: Open, signer: ImageSigner, tmp_path: Path, stock: TpmStock
) -> None:
    image = signer.sign(bytes(range(256)) * 100, tmp_path / "i.bin")
    with McuBoard.running_in(tmp_path / "board", tpm=stock.copy(0, tmp_path / "tpm")) as board:
        slot = at(board)
        with pytest.raises(errors.CableGone, match="let go of"):
            slot.flash(image, RECORD, lambda done, total: slot.close() if done > total // 2 else None)
        with pytest.raises(errors.CableGone, match="let go of"):
            slot.lock()
