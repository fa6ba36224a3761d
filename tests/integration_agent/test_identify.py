"""What a device says to the station that makes it: who it is, and what becomes of it."""

import hashlib
import json
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from birthmark_agent.console import Console
from birthmark_agent.identify import identify
from birthmark_wire.factory import IDENTITY_MARK, STATE_MARK, DeviceIdentity
from support.agent_site import AgentSite, Device, environment
from support.server import Server

pytestmark = pytest.mark.parts


def states(text: str) -> list[dict[str, str]]:
    return [json.loads(line.removeprefix(STATE_MARK)) for line in text.splitlines() if line.startswith(STATE_MARK)]


def test_a_device_says_who_it_is_without_a_server_and_is_born_as_just_that(site: AgentSite) -> None:
    device = site.device("IDENTIFY-1")  # no server runs yet
    seen = DeviceIdentity.decode(device.cli("identify", "--serial", "IDENTIFY-1").stdout.encode())
    request = x509.load_der_x509_csr(seen.csr)
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "2.5.4.5=IDENTIFY-1"
    assert seen.firmware.startswith("birthmark-agent/")
    with site.server() as server:
        device.cli("enroll")
        assert "enrollments status=201" in server.log
    record = site.installation.store.get_device(device.device_id)
    assert record.ak_public == seen.ak_public
    spki = request.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert record.birth_spki_sha256 == hashlib.sha256(spki).hexdigest()


def test_a_console_gets_one_marked_line(site: AgentSite) -> None:
    device = site.device("IDENTIFY-2")
    (line,) = device.cli("identify", "--console").stdout.splitlines()
    seen = DeviceIdentity.decode(line.removeprefix(IDENTITY_MARK).encode())
    assert line.startswith(IDENTITY_MARK)
    assert not list(x509.load_der_x509_csr(seen.csr).subject)


def test_without_a_tpm_it_says_so(site: AgentSite) -> None:
    device = site.device("IDENTIFY-3")
    device.tpm.stop()
    ended = device.cli("identify", check=False)
    assert (ended.returncode, ended.stdout) == (69, "")
    assert "check tpm.tcti" in ended.stderr


def console_of(device: Device, enough: int, *, timeout_s: float = 30) -> list[dict[str, str]]:
    """Run the agent until it has said so much on its console."""
    command = device.cli_command("run", "--console")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()
    ) as run:
        assert run.stdout is not None
        said: list[dict[str, str]] = []
        deadline = time.monotonic() + timeout_s
        try:
            while len(said) < enough:
                assert time.monotonic() < deadline
                said += states(run.stdout.readline())
        finally:
            run.terminate()
    return said


def test_what_becomes_of_a_device_is_on_its_console(site: AgentSite, server: Server) -> None:
    device = site.device("IDENTIFY-4")
    operational, connected = console_of(device, 2)
    certificate = device.identities().slots.best()
    assert certificate is not None
    serial = certificate.identity.serial_number
    assert operational == {"state": "operational", "device_id": device.device_id, "serial_number": serial}
    assert connected == operational | {"state": "connected", "broker": connected["broker"]}


def test_a_device_that_nobody_expects_says_the_servers_words(site: AgentSite, server: Server) -> None:
    (failed,) = console_of(site.device("IDENTIFY-5", listed=False), 1)
    assert (failed["state"], failed["code"]) == ("failed", "server-refused")
    assert "not-expected" in failed["reason"]


def test_a_state_is_said_once_and_no_word_moves_the_stations_terminal() -> None:
    said: list[str] = []
    console = Console(said.append)
    for _ in range(2):
        console.say("failed", code="x", reason="a\x1b[2Jb")
    console.say("failed", code="y", reason="")
    assert states("\n".join(said)) == [
        {"state": "failed", "code": "x", "reason": "a?[2Jb"},
        {"state": "failed", "code": "y", "reason": ""},
    ]


def test_the_mac_is_the_first_real_interfaces(site: AgentSite, tmp_path: Path) -> None:
    for name, address, real in (
        ("br0", "02:00:00:00:00:01", False),
        ("eth1", "02:00:00:00:00:03", True),
        ("eth0", "02:00:00:00:00:02", True),
        ("dummy", "00:00:00:00:00:00", True),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "address").write_text(address + "\n")
        if real:
            (tmp_path / name / "device").mkdir()
    with site.device("IDENTIFY-6").identities().open_tpm() as tpm:
        assert identify(tpm, network=tmp_path).mac == "02:00:00:00:00:02"
        assert identify(tpm, network=tmp_path / "none").mac == ""
