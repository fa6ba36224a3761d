"""A whole unit, all of it real: upstream MCUboot and our firmware on a board in QEMU, its TPM behind a UART, the
enrollment server and Mosquitto; and what the board itself refuses, whoever asks."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from birthmark_server.domain import ManifestEntry
from birthmark_server.factory.smp import errors
from birthmark_server.factory.smp.client import SmpBoard
from birthmark_server.factory.smp.image import Version, read_image, read_image_key
from birthmark_server.factory.station.settings import SlotSettings, StationSettings
from birthmark_server.factory.station.targets import Place, open_target
from birthmark_server.factory.target import Target
from birthmark_wire.factory import ProvisionRecord
from factory.smp.desk import StoreDesk
from support.agent_site import MODEL, AgentSite, ek_sha256
from support.mcu_board import RECOVERY, McuBoard
from support.mcu_firmware import Firmware, firmware
from support.mcu_image import ImageSigner
from support.server import Server, now
from support.smpmgr import serial_port, smpmgr
from support.tpm_stock import TpmStock

pytestmark = pytest.mark.parts

LIMIT = timedelta(seconds=100)
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def ours() -> Firmware:
    return firmware("1.2.0")


@pytest.fixture(scope="module")
def newer() -> Firmware:
    return firmware("1.3.0")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, stock: TpmStock) -> Iterator[AgentSite]:
    with AgentSite.create(tmp_path_factory.mktemp("site"), stock=stock) as made:
        yield made


@pytest.fixture(scope="module")
def server(site: AgentSite) -> Iterator[Server]:
    _port, lines = site.installation.broker_lines(site.broker.port).split("\n", 1)
    with site.server(extra=lines) as running:
        yield running


@pytest.fixture
def running(tmp_path: Path, stock: TpmStock, ours: Firmware) -> Iterator[McuBoard]:
    """A board that has our firmware already."""
    tpm = stock.copy(0, tmp_path / "tpm")
    with McuBoard.running_in(tmp_path / "board", tpm=tpm, slots={0: ours.image}) as board:
        yield board


def nothing(done: int, total: int) -> None:
    pass


def record(serial: str) -> ProvisionRecord:
    return ProvisionRecord(serial=serial, model=MODEL.name, workorder="W-1", station="st-1")


def target(board: McuBoard, ours: Firmware, folder: Path, *, serial: str, site: AgentSite | None = None) -> Target:
    """What a station opens for a slot with `target = "smp:..."`."""
    installation = site.installation if site else None
    settings = StationSettings(
        server=f"https://localhost:{installation.port}" if installation else "",
        certificate=Path(),
        key=Path(),
        root=installation.pki.root_pem if installation else Path(),
        image_key=ours.signer.public,
    )
    desk = StoreDesk(installation.store) if installation else None
    return open_target(
        Place(SlotSettings(target=f"smp:{board.address}"), settings, serial, folder, desk, MODEL.ek_template)
    )


@pytest.mark.timeout(240)  # firmware is built on the way
def test_a_blank_board_becomes_a_device(
    site: AgentSite, server: Server, ours: Firmware, stock: TpmStock, tmp_path: Path
) -> None:
    tpm = stock.copy(1, tmp_path / "tpm")
    with McuBoard.running_in(tmp_path / "board", tpm=tpm) as board:
        expected = ManifestEntry(ek_sha256(tpm), "MC-1", MODEL.name, "dev-mc-1", "test", now())
        site.installation.store.import_manifest([expected])
        unit = target(board, ours, tmp_path / "unit", serial="MC-1", site=site)
        steps: list[int] = []

        flashed = unit.flash(ours.image, record("MC-1"), lambda done, total: steps.append(done))
        assert flashed.written == ours.image.stat().st_size == steps[-1]
        seen = unit.identify(limit=LIMIT)
        assert seen.firmware == "firmware/1.2.0"
        born = unit.attest(limit=LIMIT)
        certificate = x509.load_der_x509_certificate(born.certificate)
        assert certificate.public_key() == x509.load_der_x509_csr(seen.csr).public_key()
        assert unit.self_test(limit=LIMIT)["device_id"] == "dev-mc-1"
        assert unit.lock() == {"mode": "locked", "firmware": "1.2.0", "tpm": "refused"}
        unit.close()

        tcti = [str(BIN / "birthmark-smp-tcti"), board.address]
        done = subprocess.run(tcti, input=bytes.fromhex("80010000000c0000017b0008"), capture_output=True, timeout=100)
        assert done.stdout == bytes.fromhex("80010000000a00000101")
        assert b"(board-locked)" in done.stderr
        with SmpBoard.open(board.address) as smp:
            who = smp.enrollment.identify()
            assert who is not None
            assert (who.serial, who.signature, who.mode) == ("MC-1", "ok", "locked")
            smp.reset()
        board.wait_log("signature ok", count=2)
        with SmpBoard.open(board.address) as smp, pytest.raises(errors.BoardLocked):
            smp.enrollment.record()


def test_an_update_goes_into_the_other_slot_and_a_repeat_writes_nothing(
    running: McuBoard, ours: Firmware, newer: Firmware, tmp_path: Path
) -> None:
    unit = target(running, ours, tmp_path / "unit", serial="MC-2")
    assert unit.flash(ours.image, record("MC-2"), nothing).written == 0
    assert unit.flash(newer.image, record("MC-2"), nothing).written == newer.image.stat().st_size
    assert unit.flash(newer.image, record("MC-2"), nothing).written == 0
    with pytest.raises(errors.ImageDowngrade, match=r"the image is 1\.2\.0, the board has 1\.3\.0"):
        unit.flash(ours.image, record("MC-2"), nothing)
    with SmpBoard.open(running.address) as smp:
        who = smp.enrollment.identify()
        assert who is not None
        assert (who.firmware, who.slot, who.serial) == ("1.3.0", 1, "MC-2")
        assert ProvisionRecord.decode(smp.enrollment.record()) == record("MC-2")
        assert smp.echo("hello") == "hello"


def test_the_board_itself_refuses_what_is_not_to_run(
    running: McuBoard, ours: Firmware, newer: Firmware, tmp_path: Path
) -> None:
    """As a client without our station's checks would send it."""
    good = newer.image.read_bytes()
    foreign = ImageSigner.create(tmp_path).sign(good[0x200:0x2200], tmp_path / "foreign.bin", version="9.9.9")
    older = ours.signer.sign(good[0x200:0x2200], tmp_path / "older.bin", version="1.1.0")
    refused = {
        "tampered": good[:0x400] + bytes([good[0x400] ^ 1]) + good[0x401:],
        "truncated": good[:-40],
        "foreign": foreign.read_bytes(),
        "older": older.read_bytes(),
        "too large": good[:0x200] + bytes(0x80000),
    }
    reasons = {}
    with SmpBoard.open(running.address) as smp:
        before = smp.slots()
        for name, image in refused.items():
            with pytest.raises(errors.DeviceRefused) as no:
                smp.upload(image, nothing)
            reasons[name] = str(no.value).removeprefix("upload: ")
        assert smp.slots() == before
    assert reasons == {
        "tampered": "invalid hash (24)",
        "truncated": "invalid tlv (5)",
        "foreign": "invalid tlv (5)",
        "older": "current version is newer (27)",
        "too large": "invalid image too large (30)",
    }


def test_an_update_that_is_cut_off_leaves_the_old_firmware_and_goes_on_later(
    running: McuBoard, ours: Firmware, newer: Firmware, tmp_path: Path
) -> None:
    unit = target(running, ours, tmp_path / "unit", serial="MC-3")
    with pytest.raises(errors.CableGone, match="let go of"):
        unit.flash(newer.image, record("MC-3"), lambda done, total: unit.close() if done > total // 2 else None)
    with SmpBoard.open(running.address) as smp:
        smp.reset()
    with SmpBoard.open(running.address) as smp:
        who = smp.enrollment.identify()
        assert who is not None
        assert (who.firmware, who.signature) == ("1.2.0", "ok")
    again = target(running, ours, tmp_path / "again", serial="MC-3")
    assert again.flash(newer.image, record("MC-3"), nothing).written == newer.image.stat().st_size
    assert RECOVERY not in running.log


def test_tpm_commands_off_the_list_are_not_carried(running: McuBoard, tmp_path: Path) -> None:
    environment = {"TPM2TOOLS_TCTI": f"cmd:{BIN / 'birthmark-smp-tcti'} {running.address}", "PATH": "/usr/bin:/bin"}
    read = subprocess.run(
        ["tpm2_getekcertificate", "-o", str(tmp_path / "ek.der")], env=environment, capture_output=True, timeout=100
    )
    assert read.returncode == 0, read.stderr
    assert x509.load_der_x509_certificate((tmp_path / "ek.der").read_bytes()).serial_number
    clear = subprocess.run(
        ["tpm2_clear", "-c", "platform"], env=environment, capture_output=True, text=True, timeout=100
    )
    assert clear.returncode != 0
    assert "not on the board's list" in clear.stderr
    assert 0x126 not in running.bridge.commands


@pytest.mark.timeout(300)  # the first run installs smpmgr
def test_smpmgr_updates_our_firmware(running: McuBoard, newer: Firmware, tmp_path: Path) -> None:
    image = read_image(newer.image, key=read_image_key(newer.signer.public))
    with serial_port(tmp_path / "tty", running.port) as port:
        done = smpmgr(port, "upgrade", str(newer.image))
        assert done.returncode == 0, done.stdout + done.stderr
    with SmpBoard.open(running.address) as smp:
        (active,) = [slot for slot in smp.slots() if slot.active]
        assert (active.version, active.digest) == (Version(1, 3, 0), image.digest)


def test_birthmark_flash_flashes_a_blank_board(ours: Firmware, stock: TpmStock, tmp_path: Path) -> None:
    with McuBoard.running_in(tmp_path / "board", tpm=stock.copy(0, tmp_path / "tpm")) as board:
        command = [str(BIN / "birthmark"), "flash", f"smp:{board.address}", "--image", str(ours.image)]
        command += ["--image-key", str(ours.signer.public), "--serial", "MC-4", "--model", MODEL.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stderr
        digest = read_image(ours.image, key=read_image_key(ours.signer.public)).sha256
        assert f"MC-4: app.signed.bin ({digest[:16]}) is on smp:{board.address}, read back" in done.stderr
