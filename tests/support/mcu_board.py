"""A factory-fresh microcontroller board in QEMU: upstream MCUboot in it, empty slots, a TPM behind one of its UARTs.

    with McuBoard.running_in(folder, tpm=stock.copy(0, folder / "tpm")) as board:
        board.wait_log("Enter the serial recovery mode")
        SmpBoard.open(board.address)

    UART0   SMP, `board.address`: a port of 127.0.0.1, one client at a time
    UART1   the log, `board.log`
    UART2   the TPM (tpm_uart.py)

What is flash on the real board is RAM here, so switched off it is blank again; a reset keeps it. The emulator is ended
by its id, and dies with whoever started it. An idle board keeps one core busy, as firmware waits for its UART in a
loop: let none run longer than a test needs it.
"""

import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support.mcu_bootloader import SLOTS, bootloader
from support.ports import free_port
from support.swtpm import Swtpm
from support.tpm_uart import Bridge

RECOVERY: Final = "Enter the serial recovery mode"
"""What MCUboot says when it has nothing to boot."""
_DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "--")


class McuBoard:
    """One board that runs. tpm: running, and still the caller's."""

    def __init__(self, folder: Path, *, tpm: Swtpm, slots: Mapping[int, Path]) -> None:
        self.log_file = folder / "uart1.log"
        self.tpm = tpm
        self.port = free_port()
        self._run = Path(tempfile.gettempdir()) / f"mcu-{secrets.token_hex(6)}"
        self._run.mkdir(mode=0o700)
        self.bridge = Bridge(self._run / "tpm", Path(tpm.tcti.removeprefix("swtpm:path=")))
        self.bridge.start()
        command = ["qemu-system-arm", "-machine", "mps2-an385", "-cpu", "cortex-m3", "-nographic", "-monitor", "none"]
        command += ["-chardev", f"socket,id=smp,host=127.0.0.1,port={self.port},server=on,wait=off,nodelay=on"]
        command += ["-chardev", f"socket,id=tpm,path={self._run / 'tpm'}"]
        command += ["-serial", "chardev:smp", "-serial", f"file:{self.log_file}", "-serial", "chardev:tpm"]
        command += ["-device", f"loader,file={bootloader().hex}"]
        for slot, image in slots.items():
            command += ["-device", f"loader,file={image},addr={SLOTS[slot]:#x},force-raw=on"]
        with (folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_DIES_WITH_US, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )

    @classmethod
    @contextmanager
    def running_in(cls, folder: Path, *, tpm: Swtpm, slots: Mapping[int, Path] | None = None) -> "Iterator[McuBoard]":
        """Switch a board on until the end of the with block, and its TPM where that does not run yet.

        slots: images that are in its slots from the start, written there again at each reset.
        """
        folder.mkdir(parents=True, exist_ok=True)
        ours = tpm.pid is None
        if ours:
            tpm.start()
        try:
            board = cls(folder, tpm=tpm, slots=slots or {})
            try:
                yield board
            finally:
                board.switch_off()
        finally:
            if ours:
                tpm.stop()

    @property
    def address(self) -> str:
        """What `smp:` takes."""
        return f"tcp:127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has said so far on UART1."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def wait_log(self, text: str, *, count: int = 1, timeout_s: float = 60) -> None:
        """Return when `text` stands in its log `count` times."""
        until = time.monotonic() + timeout_s
        while self.log.count(text) < count:
            assert self._process.poll() is None, f"QEMU ended with {self._process.returncode}\n{self.log}"
            assert time.monotonic() < until, f"no {text!r} x {count} in:\n{self.log}"
            time.sleep(0.02)

    def switch_off(self) -> None:
        """Cut the power, and with it every cable. Fine to repeat."""
        self._process.kill()
        self._process.wait()
        self.bridge.close()
        shutil.rmtree(self._run, ignore_errors=True)
