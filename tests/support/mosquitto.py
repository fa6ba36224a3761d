"""A real Mosquitto with our gate: built by make, on a free port, its log in a file, stopped by process id.

    with running_broker(tmp_path, certificate=..., key=..., roots=..., fleet=..., infra=..., signer=...) as broker:
        broker.port, broker.deny, broker.log(), broker.wait_log("refused connect")

`certificate` and `key` are the broker's own (PEM paths); roots, fleet and infra are x509 certificates.
"""

import fcntl
import os
import pwd
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography import x509

from birthmark_server.broker.denyfile import DenyFile
from birthmark_server.broker.mosquitto import MosquittoSettings, WrittenConfig, write_config
from birthmark_server.broker.signing import DenySigner
from birthmark_server.broker.trial import find_mosquitto
from birthmark_server.ca import oids
from support.ports import free_port

GATE = Path(__file__).resolve().parents[2] / "server" / "mosquitto_gate"
START_TIMEOUT_S = 60.0


def build_gate(target: str = "birthmark_gate.so") -> Path:
    """Build one of the gate's targets, where it is not up to date, and return it."""
    build = GATE / "build"
    build.mkdir(exist_ok=True)
    with (build / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            ["make", "-s", "-C", str(GATE), f"build/{target}"], capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise RuntimeError(f"make build/{target} failed:\n{done.stdout}{done.stderr}")
    return build / target


@dataclass
class Broker:
    """A Mosquitto under test. The port stays the same over restarts. under: a program that runs it, as valgrind."""

    settings: MosquittoSettings
    written: WrittenConfig
    deny: DenyFile
    environment: dict[str, str] = field(default_factory=dict)
    under: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Of its mutual-TLS listener on 127.0.0.1."""
        return self.settings.port

    @property
    def log_file(self) -> Path:
        """Everything it logged, over restarts too."""
        return self.settings.folder / "mosquitto.log"

    def start(self) -> None:
        """Start, and wait until it listens. Raises RuntimeError with its log where it does not."""
        before = len(self.log())
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.under, find_mosquitto(), "-c", str(self.written.conf)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while " running" not in self.log()[before:]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"Mosquitto did not start:\n{self.log()[before:]}")
            time.sleep(0.02)

    def stop(self) -> int:
        """End it as an operator would; return its exit status. It writes its sessions to the disk first."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            # Mosquitto 2.0 forgets a signal that comes between its word that it runs and its main loop.
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=1)
        process.kill()
        return process.wait()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def reload(self) -> None:
        """Send SIGHUP."""
        self._running().send_signal(signal.SIGHUP)

    @property
    def pid(self) -> int:
        """Of the running broker."""
        return self._running().pid

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError("the broker is not running")
        return self.process

    def log(self) -> str:
        """Return everything it logged so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def wait_log(self, pattern: str, *, after: int = 0, timeout_s: float = 20.0) -> str:
        """Return the first line, beyond character `after`, in which `pattern` (a regular expression) is found."""
        deadline = time.monotonic() + timeout_s
        while True:
            for line in self.log()[after:].splitlines():
                if re.search(pattern, line):
                    return line
            if time.monotonic() > deadline:
                raise AssertionError(f"no line with {pattern!r} in:\n{self.log()[after:][-4000:]}")
            time.sleep(0.02)


@contextmanager
def running_broker(
    folder: Path,
    *,
    certificate: Path,
    key: Path,
    roots: Sequence[x509.Certificate],
    fleet: Sequence[x509.Certificate],
    infra: Sequence[x509.Certificate],
    trust_domain: str,
    signer: DenySigner,
    lease_s: int = 3600,
    plugin: Path | None = None,
    session_tickets: bool = False,
    environment: dict[str, str] | None = None,
    under: Sequence[str] = (),
    **more: Any,
) -> Iterator[Broker]:
    """Run a broker in `folder` (made where missing). more: further fields of MosquittoSettings.

    signer: of its deny list; lease_s: of each list, which nobody renews unless the test does.
    session_tickets: leave TLS resumption on, as a Mosquitto without our openssl.cnf does.
    """
    settings = MosquittoSettings(
        folder=folder.resolve(),
        plugin=plugin or build_gate(),
        certificate=certificate.resolve(),
        key=key.resolve(),
        trust_domain=trust_domain,
        control_eku=oids.KP_CONTROL.dotted_string,
        deny_eku=oids.KP_DENY_LIST.dotted_string,
        roots=tuple(roots),
        fleet=tuple(fleet),
        infra=tuple(infra),
        address="127.0.0.1",
        port=free_port(),
        # Test folders are private; as root Mosquitto would become a user that can't read them.
        user=pwd.getpwuid(os.geteuid()).pw_name,
    )
    settings = replace(settings, **more)
    written = write_config(settings)
    deny = DenyFile(written.deny_file, signer=signer, lease_s=lease_s)
    deny.create()
    broker = Broker(
        settings, written, deny, {**({} if session_tickets else written.environment), **(environment or {})}, under
    )
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
