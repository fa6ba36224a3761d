"""UEFI with our keys starts the image that our key signed, and no other."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from birthmark_server.factory.image import keys
from birthmark_server.factory.image.build import BOOT
from birthmark_server.factory.image.kernel import authenticode_sha256, sections
from birthmark_wire.factory import ProvisionRecord
from support.agent_site import AgentSite
from support.device_image import build_image, flash_device, spec_for
from support.qemu_device import QemuDevice
from support.secure_boot import firmware
from support.server import now
from support.swtpm import Swtpm

pytestmark = [pytest.mark.parts, pytest.mark.timeout(600)]  # the firmware alone takes 10 s here


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product's keys."""
    folder = tmp_path_factory.mktemp("keys") / "product"
    keys.make(folder, product="emulated", now=now())
    return folder


@pytest.fixture(scope="module")
def signed(site: AgentSite, product: Path) -> Path:
    """The site's image, signed."""
    return build_image(spec_for(site, signing=keys.signing(product)), site.folder / "image-signed")


def device(folder: Path, site: AgentSite, image: Path, product: Path, tpm: Swtpm) -> QemuDevice:
    """A flashed device whose firmware knows the product's keys."""
    disk = flash_device(image, folder / "disk.img", ProvisionRecord("SN-1", "emulated", "WO-1", "station-1"))
    ports = [site.installation.port, site.broker.port]
    return QemuDevice(disk, tpm.state, firmware=firmware(folder, product), ports=ports)


def test_the_signed_image_boots_and_its_device_is_born(
    tmp_path: Path, site: AgentSite, signed: Path, product: Path
) -> None:
    listed = site.device("SN-1")
    listed.tpm.stop()
    with site.server(), site.control() as control, device(tmp_path, site, signed, product, listed.tpm) as booted:
        booted.start()
        control.wait_for("devices/dev-sn-1/up/hello", timeout_s=300)
        assert "birthmark-device: started" in booted.log


def test_an_unsigned_image_is_refused_by_the_firmware(
    tmp_path: Path, site: AgentSite, image: Path, product: Path
) -> None:
    with device(tmp_path, site, image, product, site.stock.copy(90, tmp_path / "tpm")) as refused:
        refused.start()
        refused.wait_for("Access Denied")
        assert "birthmark" not in refused.log.lower()


def test_another_products_signature_is_refused(tmp_path: Path, site: AgentSite, signed: Path) -> None:
    other = tmp_path / "other"
    keys.make(other, product="another", now=now())
    with device(tmp_path, site, signed, other, site.stock.copy(91, tmp_path / "tpm")) as refused:
        refused.start()
        refused.wait_for("Access Denied")
        assert "birthmark" not in refused.log.lower()


def test_the_boot_file_is_named_by_the_hash_that_is_signed(image: Path, signed: Path, product: Path) -> None:
    boot = (signed / BOOT).read_bytes()
    listed = subprocess.run(["sbverify", "--list", signed / BOOT], capture_output=True, text=True, check=True).stdout
    assert "emulated db" in listed
    at = boot.find(bytes.fromhex(authenticode_sha256(boot)))
    assert at > 0, "the signature (SpcIndirectDataContent) holds another hash"


def test_the_same_image_is_signed_or_not_with_the_same_hash(tmp_path: Path, image: Path, product: Path) -> None:
    unsigned = (image / BOOT).read_bytes()
    signed = tmp_path / "signed.efi"
    command: list[str | Path] = [
        "sbsign",
        "--key",
        product / "db.key",
        "--cert",
        product / "db.pem",
        "--output",
        signed,
        image / BOOT,
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert authenticode_sha256(signed.read_bytes()) == authenticode_sha256(unsigned)


def test_its_sections_are_what_went_in(image: Path) -> None:
    parts = sections((image / BOOT).read_bytes())
    assert parts[".cmdline"].startswith(b"console=ttyS0 ")
    assert hashlib.sha256(parts[".initrd"]).hexdigest() in (image / "device.json").read_text()
