"""A board over SMP: MCUboot's serial recovery and Zephyr's SMP server, neither of which anybody here wrote."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from birthmark_server.factory.smp import errors
from birthmark_server.factory.smp.client import SmpBoard
from birthmark_server.factory.smp.image import Version, read_image, read_image_key
from support.mcu_board import RECOVERY, McuBoard
from support.mcu_image import ImageSigner
from support.tpm_stock import TpmStock

pytestmark = pytest.mark.parts


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> ImageSigner:
    return ImageSigner.create(tmp_path_factory.mktemp("signer"))


@pytest.fixture
def board(tmp_path: Path, stock: TpmStock) -> Iterator[McuBoard]:
    """A factory-fresh one."""
    with McuBoard.running_in(tmp_path / "board", tpm=stock.copy(0, tmp_path / "tpm")) as running:
        yield running


def nothing(done: int, total: int) -> None:
    pass


def test_a_blank_board_takes_an_image_and_boots_it(board: McuBoard, signer: ImageSigner, tmp_path: Path) -> None:
    image = read_image(signer.zephyr(tmp_path / "z.bin"), key=read_image_key(signer.public))
    steps: list[tuple[int, int]] = []
    with SmpBoard.open(board.address) as smp:
        assert smp.slots() == ()
        assert smp.enrollment.identify() is None
        smp.upload(image.data, lambda done, total: steps.append((done, total)))
        smp.reset()
    assert steps[0] == (0, len(image.data))
    assert steps[-1] == (len(image.data), len(image.data))
    assert all(before[0] < after[0] for before, after in itertools.pairwise(steps))
    board.wait_log("smp_sample: build time")
    with SmpBoard.open(board.address) as smp:
        assert smp.echo("are you there?") == "are you there?"
        assert smp.enrollment.identify() is None
        (slot,) = smp.slots()
        assert (slot.version, slot.digest, slot.active) == (Version(1, 2, 0), image.digest, True)


def test_an_update_is_marked_and_boots_from_the_other_slot(
    signer: ImageSigner, tmp_path: Path, stock: TpmStock
) -> None:
    key = read_image_key(signer.public)
    old = signer.zephyr(tmp_path / "old.bin", version="1.2.0")
    new = read_image(signer.zephyr(tmp_path / "new.bin", version="1.3.0"), key=key)
    tpm = stock.copy(0, tmp_path / "tpm")
    with McuBoard.running_in(tmp_path / "board", tpm=tpm, slots={0: old}) as board:
        board.wait_log("smp_sample: build time")
        with SmpBoard.open(board.address) as smp:
            smp.upload(new.data, nothing)
            assert {slot.digest for slot in smp.slots()} >= {new.digest}
            smp.reset()
        board.wait_log("smp_sample: build time", count=2)
        with SmpBoard.open(board.address) as smp:
            (active,) = [slot for slot in smp.slots() if slot.active]
    assert (active.version, active.digest) == (Version(1, 3, 0), new.digest)


def test_an_image_that_the_board_has_no_room_for_is_refused_with_its_reason(board: McuBoard) -> None:
    with SmpBoard.open(board.address) as smp, pytest.raises(errors.DeviceRefused, match="upload: "):
        smp.upload(bytes(0x80001), nothing)


def test_a_mark_for_an_image_that_is_not_there_is_refused_with_the_reason(board: McuBoard) -> None:
    with SmpBoard.open(board.address) as smp, pytest.raises(errors.DeviceRefused, match="mark for test: "):
        smp.test(bytes(32))


def test_a_cable_pulled_midway_says_so(board: McuBoard, signer: ImageSigner, tmp_path: Path) -> None:
    image = signer.zephyr(tmp_path / "z.bin").read_bytes()

    def pull(done: int, total: int) -> None:
        if done > total // 3:
            board.switch_off()

    with SmpBoard.open(board.address) as smp, pytest.raises(errors.CableGone) as gone:
        smp.upload(image, pull)
    assert gone.value.next_step.startswith("Check the cable")


def test_half_an_image_boots_nothing_and_is_written_again(board: McuBoard, signer: ImageSigner, tmp_path: Path) -> None:
    image = signer.zephyr(tmp_path / "z.bin").read_bytes()

    class Enough(Exception):
        pass

    def give_up(done: int, total: int) -> None:
        if done > total // 2:
            raise Enough

    with SmpBoard.open(board.address) as smp, pytest.raises(Enough):
        smp.upload(image, give_up)
    with SmpBoard.open(board.address) as smp:
        smp.reset()
    board.wait_log(RECOVERY, count=2)
    with SmpBoard.open(board.address) as smp:
        smp.upload(image, nothing)
        smp.reset()
    board.wait_log("smp_sample: build time")
