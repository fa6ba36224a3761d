"""A Linux device that is no thing but a process: QEMU boots a flashed disk, with swtpm as its TPM.

    with QemuDevice(disk, tpm_state=..., ports=[server, broker]) as device:
        device.start()
        device.wait_for("BIRTHMARK-IDENTITY ")
        device.say("BIRTHMARK-GO")

Never KVM. Its network ends in this machine: nothing answers but 10.0.2.100, and there only the given ports, which are
those of 127.0.0.1 here. Its console is a Unix socket for one client (who must read it, or the device stands still), and
all that comes of it is in a file too. Stopped by process id.
"""

import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from birthmark_server.factory.image.kernel import sections

HOST = "10.0.2.100"
"""What the device knows this machine's servers by."""
MACHINES = {
    "amd64": ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max"],
    "arm64": ["qemu-system-aarch64", "-machine", "virt,accel=tcg", "-cpu", "cortex-a53"],
}
TPM_DEVICE = {"amd64": "tpm-tis", "arm64": "tpm-tis-device"}
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
BOOT_WITHIN_S = 240.0
"""On a machine that is ten times as busy as it can be."""


@dataclass(frozen=True)
class Firmware:
    """UEFI. code: read-only flash; variables: a copy of its own, with keys enrolled or without."""

    code: Path
    variables: Path


@dataclass
class QemuDevice:
    """One device. boot: device.efi, whose kernel QEMU starts itself; or firmware, which finds it on the disk.

    tpm_state: swtpm's folder. ports: of 127.0.0.1 that it reaches at HOST. cmdline: more words for the kernel. mac: of
    its network card, one for each device of a line.
    """

    disk: Path
    tpm_state: Path
    arch: str = "amd64"
    boot: Path | None = None
    firmware: Firmware | None = None
    ports: Sequence[int] = ()
    cmdline: str = ""
    mac: str = "52:54:00:12:34:56"
    _run: Path = field(init=False)
    _processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    _console: socket.socket | None = None

    def __post_init__(self) -> None:
        self._run = Path(tempfile.mkdtemp(prefix="qemu-", dir="/tmp"))

    def __enter__(self) -> "QemuDevice":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    @property
    def console(self) -> Path:
        """The socket of its serial line, while it runs."""
        return self._run / "console"

    @property
    def log(self) -> str:
        """All that it said since it was made, over its starts."""
        file = self._run / "console.log"
        return file.read_text(errors="replace").replace("\r", "") if file.exists() else ""

    @property
    def running(self) -> bool:
        """Whether it is switched on."""
        return bool(self._processes) and self._processes[-1].poll() is None

    def start(self) -> None:
        """Switch it on."""
        assert not self._processes
        control = self._run / "tpm"
        self._spawn(
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.tpm_state}", "--ctrl", f"type=unixio,path={control}"
        )
        _wait_until(control.exists, "swtpm's socket")
        self._spawn(*self._command(control))
        _wait_until(lambda: self.console.exists() or not self.running, "console")

    def stop(self) -> None:
        """Cut its power."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        self._processes.clear()
        if self._console is not None:
            self._console.close()  # its thread ended with the device
            self._console = None
        for name in ("tpm", "console"):
            (self._run / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Cut its power for good."""
        self.stop()
        shutil.rmtree(self._run)

    def say(self, line: str) -> None:
        """Send one line to the console, as its client from now on."""
        if self._console is None:
            self._console = socket.socket(socket.AF_UNIX)
            self._console.connect(str(self.console))
            threading.Thread(target=_drain, args=[self._console], daemon=True).start()
        self._console.sendall(line.encode() + b"\n")

    def wait_for(self, text: str, *, count: int = 1, timeout_s: float = BOOT_WITHIN_S) -> str:
        """Return the rest of the line behind the last `text`, once it was said `count` times."""
        until = time.monotonic() + timeout_s
        while self.log.count(text) < count or "\n" not in self.log.rpartition(text)[2]:
            assert self.running, f"it went off before it said {text!r}:\n{self.log}{self._complaint()}"
            assert time.monotonic() < until, f"no {text!r} x {count} in:\n{self.log}"
            time.sleep(0.05)
        return self.log.rpartition(text)[2].partition("\n")[0]

    def wait_off(self, *, timeout_s: float = BOOT_WITHIN_S) -> None:
        """Return when it has switched itself off."""
        with suppress(subprocess.TimeoutExpired):
            self._processes[-1].wait(timeout_s)
        assert not self.running, f"it is still on:\n{self.log}"
        self.stop()

    def _complaint(self) -> str:
        return "".join(file.read_text(errors="replace") for file in self._run.glob("*.err"))

    def _spawn(self, *command: str) -> None:
        with (self._run / f"{Path(command[0]).name}.err").open("wb") as said:
            self._processes.append(
                subprocess.Popen([*_DIES_WITH_US, *command], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            )

    def _command(self, tpm: Path) -> list[str]:
        network = "user,id=net,restrict=on" + "".join(
            f",guestfwd=tcp:{HOST}:{port}-cmd:socat - TCP:127.0.0.1:{port}" for port in self.ports
        )
        log = self._run / "console.log"
        command = [
            *MACHINES[self.arch],
            *("-m", "384", "-display", "none", "-nodefaults", "-no-reboot", "-no-user-config"),
            *("-chardev", f"socket,id=console,path={self.console},server=on,wait=off,logfile={log},logappend=on"),
            *("-serial", "chardev:console"),
            *(
                "-drive",
                f"file={self.disk},format=raw,if=none,id=disk",
                "-device",
                "virtio-blk-pci,drive=disk,bootindex=1",
            ),
            *("-chardev", f"socket,id=tpm,path={tpm}", "-tpmdev", "emulator,id=tpm0,chardev=tpm"),
            *("-device", f"{TPM_DEVICE[self.arch]},tpmdev=tpm0"),
            *("-netdev", network, "-device", f"virtio-net-pci,netdev=net,romfile=,mac={self.mac}"),
        ]
        return command + (self._firmware() if self.firmware else self._kernel())

    def _kernel(self) -> list[str]:
        assert self.boot is not None
        parts = sections(self.boot.read_bytes())
        (self._run / "kernel").write_bytes(parts[".linux"])
        (self._run / "initrd").write_bytes(parts[".initrd"])
        line = f"{parts['.cmdline'].decode().rstrip(chr(0))} {self.cmdline}"
        return ["-kernel", str(self._run / "kernel"), "-initrd", str(self._run / "initrd"), "-append", line]

    def _firmware(self) -> list[str]:
        assert self.firmware is not None
        flash = [
            *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={self.firmware.code}"),
            *("-drive", f"if=pflash,unit=1,format=raw,file={self.firmware.variables}"),
        ]
        if self.arch == "amd64":  # the variables are the firmware's alone: Secure Boot means little without
            flash += ["-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"]
        return flash


def _drain(console: socket.socket) -> None:
    with suppress(OSError):
        while console.recv(65_536):
            pass


def _wait_until(done: Callable[[], bool], what: str, *, timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < until, f"no {what}"
        time.sleep(0.02)
