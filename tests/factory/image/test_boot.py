"""A flashed image boots, and its device gets an identity from the real server: in QEMU, with swtpm as its TPM, in a
network that ends in this machine."""

import hashlib
import json
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_server.domain import CertificateProfile
from birthmark_server.factory.image.build import BOOT
from birthmark_wire.factory import IDENTITY_MARK, STATE_MARK, DeviceIdentity, ProvisionRecord
from support.agent_site import AgentSite
from support.device_image import build_image, flash_device, partition_bytes, partition_start, spec_for
from support.qemu_device import QemuDevice
from support.server import Server
from support.small_image import record_on

pytestmark = [pytest.mark.parts, pytest.mark.timeout(600)]  # a boot takes 8 s here, and 80 on a busy machine


def record(serial: str, *, hold: bool = False) -> ProvisionRecord:
    return ProvisionRecord(serial, "emulated", "WO-1", "station-1", hold)


def flashed(site: AgentSite, image: Path, serial: str, *, arch: str = "amd64", hold: bool = False) -> QemuDevice:
    """A device whose TPM the server expects, off."""
    listed = site.device(serial)
    listed.tpm.stop()
    disk = flash_device(image, listed.folder / "disk.img", record(serial, hold=hold))
    ports = [site.installation.port, site.broker.port]
    return QemuDevice(disk, listed.tpm.state, arch=arch, boot=image / BOOT, ports=ports)


def test_a_device_waits_for_the_stations_word_is_born_locked_and_at_its_next_start_itself(
    site: AgentSite, image: Path
) -> None:
    hello = "devices/dev-sn-1/up/hello"
    with site.server() as server, site.control() as control, flashed(site, image, "SN-1", hold=True) as device:
        device.start()
        said = DeviceIdentity.decode(device.wait_for(IDENTITY_MARK).encode())
        assert said.mac
        device.wait_for("birthmark-device: holding")
        assert "/v1/enrollments" not in server.log
        device.say("BIRTHMARK-GO")
        first = control.wait_for(hello, timeout_s=240)[0]
        records = site.installation.store.device_certificates("dev-sn-1")
        (idevid,) = (one for one in records if one.profile is CertificateProfile.IDEVID)
        assert idevid.spki_sha256 == spki_sha256(said.csr), "born with another key than it had said"
        assert state(device, "connected")["device_id"] == "dev-sn-1"

        device.say("BIRTHMARK-LOCK")
        device.wait_for('BIRTHMARK-STATE {"state": "locked"')
        device.wait_off()
        assert record_on(device.disk) == record("SN-1")

        device.start()
        assert is_itself(first, control.wait_for(hello, 2, timeout_s=240)[1], server)
        assert device.log.count("birthmark-device: holding") == 1
        device.say("BIRTHMARK-LOCK")  # once it is locked, that is no word any more
        time.sleep(3)
        assert device.running


def test_a_device_of_arm64_is_born(site: AgentSite) -> None:
    image = build_image(spec_for(site, arch="arm64"), site.folder / "image-arm64")
    with site.server(), site.control() as control, flashed(site, image, "SN-2", arch="arm64") as device:
        device.start()
        control.wait_for("devices/dev-sn-2/up/hello", timeout_s=240)


def state(device: QemuDevice, wanted: str) -> dict[str, object]:
    """What the device said when it came to that state."""
    said = [
        json.loads(line.removeprefix(STATE_MARK)) for line in device.log.splitlines() if line.startswith(STATE_MARK)
    ]
    return next(one for one in said if one["state"] == wanted)


def spki_sha256(csr: bytes) -> str:
    """The hash of the key in a request."""
    key = x509.load_der_x509_csr(csr).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def is_itself(first: dict[str, object], again: dict[str, object], server: Server) -> bool:
    """It has the certificates of its first boot, and needed no other proof for them."""
    asked = (server.log.count("/v1/enrollments status=201"), server.log.count("/simpleenroll status=200"))
    return again["serial"] == first["serial"] and asked == (1, 1)


def test_a_root_that_was_changed_is_not_started(site: AgentSite, image: Path) -> None:
    with flashed(site, image, "SN-4") as device:
        with device.disk.open("r+b") as disk:
            disk.seek(partition_start(device.disk, 2) + 5_000_000)
            byte = disk.read(1)
            disk.seek(-1, 1)
            disk.write(bytes([byte[0] ^ 1]))
        device.start()
        device.wait_for("birthmark-boot: root-a is not what this boot file was made with")
        device.wait_off()
        assert "birthmark-device" not in device.log


def test_the_other_slot_is_chosen_by_the_command_line(site: AgentSite, image: Path) -> None:
    with flashed(site, image, "SN-5") as device:
        with device.disk.open("r+b") as disk:
            disk.seek(partition_start(device.disk, 3))
            disk.write(partition_bytes(device.disk, 2))
        device.cmdline = "birthmark.slot=b"
        device.start()
        device.wait_for("initramfs: root-b is right")
        device.wait_for("birthmark-device: started")


def test_a_device_without_a_record_says_so(site: AgentSite, image: Path) -> None:
    with flashed(site, image, "SN-6") as device:
        subprocess.run(["mdel", "-i", f"{device.disk}@@{partition_start(device.disk, 4)}", "::device.json"], check=True)
        device.start()
        assert json.loads(device.wait_for("BIRTHMARK-STATE "))["state"] == "unprovisioned"
