"""The device's side: what a key in the TPM adds to a handshake, and what the agent takes."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from birthmark_agent import tls
from birthmark_agent.tls import TpmContext
from birthmark_agent.tpm.device import Tpm
from birthmark_agent.tpm.signer import TpmSigner
from support.agent_site import AgentSite, Device, Running
from support.swtpm import VendorCa
from support.tls_pair import SoftwareKey, TestCa, shake_hands

_SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Handshake:
    """Both sides' time of one mutual TLS 1.3 handshake in memory, and the TPM signatures that it took."""

    software_ms: float
    tpm_ms: float
    tpm_signatures: float


@dataclass(frozen=True, slots=True)
class Agent:
    """rss_mb: connected and idle, helpers of the agent included. start_s: from exec to CONNACK."""

    rss_mb: float
    start_s: float


def handshake(runs: int, say: Callable[[str], None]) -> Handshake:
    """Measure handshakes with a key in memory and with a key in an emulated TPM, in turn."""
    ca = TestCa.create()
    with tempfile.TemporaryDirectory() as folder:
        say("an emulated TPM")
        with VendorCa.create(Path(folder) / "vendor").make(Path(folder) / "tpm").running() as emulator:
            with Tpm.open(emulator.tcti) as tpm:
                signer = TpmSigner.operational(emulator.tcti, tpm.create_operational_key())
            soft, hard = _context(ca, SoftwareKey()), _context(ca, signer)
            say(f"{runs} handshakes with a software key, {runs} with the TPM's")
            spent: list[tuple[float, float]] = []
            signed_before = hard.signatures
            for _ in range(runs):
                spent.append((_shake_ms(soft, ca), _shake_ms(hard, ca)))
            signatures = (hard.signatures - signed_before) / runs
    software_ms, tpm_ms = (statistics.median(side) for side in zip(*spent, strict=True))
    return Handshake(software_ms, tpm_ms, signatures)


def _context(ca: TestCa, key: tls.TlsKey) -> TpmContext:
    return tls.client_context(anchors_pem=ca.anchors_pem, chain=ca.issue_now(key.spki), key=key)


def _shake_ms(client: TpmContext, ca: TestCa) -> float:
    server = ca.server()
    began = time.perf_counter()
    shake_hands(client, server)
    return (time.perf_counter() - began) * 1000


def agent(starts: int, say: Callable[[str], None]) -> Agent:
    """Measure `birthmark-agent run` with an emulated TPM, an enrollment server and Mosquitto with our gate."""
    with tempfile.TemporaryDirectory(prefix="birthmark-bench-") as folder, AgentSite.create(Path(folder)) as site:
        say("server, broker, and a device that enrolls")
        device = site.device("BENCH-1")
        with site.server():
            device.cli("enroll")
            with device.running(log_level="info") as first:  # fetches its operational certificate
                first.wait_log(" connected ")
            spent_s, resident_mb = [], []
            for turn in range(starts):
                say(f"start {turn + 1} of {starts}")
                start_s, rss_mb = _start(device)
                spent_s.append(start_s)
                resident_mb.append(rss_mb)
    return Agent(statistics.median(resident_mb), statistics.median(spent_s))


def _start(device: Device) -> tuple[float, float]:
    began = time.perf_counter()
    with device.running(log_level="info") as running:
        while not _is_connected(running):
            time.sleep(0.002)
        start_s = time.perf_counter() - began
        time.sleep(_SETTLE_S)
        return start_s, _resident_mb(running.process.pid)


def _is_connected(running: Running) -> bool:
    if running.process.poll() is not None:
        raise AssertionError(running.log)
    return " connected " in running.log


def _resident_mb(pid: int) -> float:
    """Resident memory of a process and its children, in MB."""
    page_mb = os.sysconf("SC_PAGE_SIZE") / 1_000_000
    total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page_mb
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return total + sum(_resident_mb(int(child)) for child in children)
