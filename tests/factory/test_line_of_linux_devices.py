"""A work order of Linux devices, whole: flashed, booted in QEMU with a TPM emulator, signed for, born, tested over the
real broker, locked; by `birthmark factory run`."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from birthmark_server import cli
from birthmark_server.domain import CertificateProfile
from birthmark_server.factory.image.build import BOOT, IMAGE
from birthmark_server.factory.serials import SerialPool
from birthmark_server.factory.station.record import RECORD_FILE
from birthmark_server.factory.values import PHASES
from integration.afar import person
from support.agent_site import MODEL, AgentSite
from support.device_image import build_image, spec_for
from support.small_image import record_on

pytestmark = [pytest.mark.parts, pytest.mark.timeout(600)]  # a boot takes 8 s here, and 80 on a busy machine
pytest_plugins = ("integration_agent.conftest",)

SERIALS = "LX-{:04}-{c}"


@pytest.fixture
def birthmark(site: AgentSite, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        argv = ["--config", str(site.installation.settings()), *words]
        status = cli.run(lambda: cli.application()(argv, prog_name="birthmark"))
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def line_of(site: AgentSite, image: Path, serial: str) -> tuple[Path, Path]:
    """A station's folder with one slot, whose device has a TPM that nobody has seen; and that device's disk."""
    folder = site.folder / "line"
    folder.mkdir()
    installation = site.installation
    installation.infra(CertificateProfile.STATION, "line-1").write(folder, "station")
    (folder / "root.pem").write_bytes(installation.pki.root_pem.read_bytes())
    device = site.device(serial, listed=False)
    device.tpm.stop()
    disk = folder / f"{serial}.disk"
    disk.touch()
    words = [
        sys.executable,
        "-m",
        "support.qemu_power",
        "--disk",
        disk,
        "--tpm",
        device.tpm.state,
        "--boot",
        image / BOOT,
    ]
    words += ["--console", folder / "console", "--port", installation.port, "--port", site.broker.port]
    power_on = f"env PYTHONPATH={Path(__file__).parents[1]} {shlex.join(map(str, words))}"
    (folder / "station.toml").write_text(
        f'server = "https://localhost:{installation.port}"\ncertificate = "station.pem"\nkey = "station.key"\n'
        f'root = "root.pem"\nimage = {json.dumps(str(image / IMAGE))}\n\n[[slot]]\n'
        f'target = "disk:{folder}/{{serial}}.disk"\nconsole = "unix:{folder}/console"\n'
        f"power_on = {json.dumps(power_on)}\n"
    )
    return folder, disk


def test_a_linux_device_leaves_the_line_born_tested_and_locked(
    site: AgentSite, birthmark: Callable[..., tuple[int, str, str]]
) -> None:
    image = build_image(spec_for(site), site.folder / "image")
    pool = SerialPool.parse(SERIALS)
    with site.server():
        words = ("--model", MODEL.name, "--quantity", "1", "--serials", SERIALS, "--for", "1h")
        status, _, told = birthmark("workorder", "create", "WX", *words)
        assert status == 0, told
        folder, disk = line_of(site, image, pool.serial(0))
        alice = person(site.installation.infra(CertificateProfile.FACTORY, "alice"), folder)
        status, out, told = birthmark(
            "factory", "run", "--workorder", "WX", "--operator", str(alice), "--station", str(folder)
        )
        assert status == 0, (out, told)
        record = (folder / RECORD_FILE).read_text()
        _, shown, _ = birthmark("workorder", "show", "WX", "--json")
        assert json.loads(shown)["born"] == 1
    lines = [json.loads(line) for line in record.splitlines()]
    passed = [line["phase"] for line in lines if line.get("outcome") == "PASS" and "phase" in line]
    assert passed == list(PHASES)
    provisioned = record_on(disk)
    assert (provisioned.serial, provisioned.hold) == (pool.serial(0), False)
