"""The TIS driver, bare metal in QEMU's `virt` machine, against QEMU's own tpm-tis-device with swtpm behind it."""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.firmware import Firmware

pytestmark = [pytest.mark.parts, pytest.mark.timeout(240)]  # compiles, on a machine under load

_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


def test_a_real_tpm_answers_through_it(firmware: Firmware) -> None:
    firmware.make("tis")
    run = Path(tempfile.mkdtemp(prefix="tis-"))  # short: a socket's path is
    control, said = run / "control", run / "said"
    swtpm = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={run}", "--ctrl", f"type=unixio,path={control}"]
    qemu = ["qemu-system-arm", "-M", "virt", "-cpu", "cortex-a15", "-accel", "tcg", "-m", "64", "-display", "none"]
    qemu += ["-monitor", "none", "-serial", f"file:{said}", "-chardev", f"socket,id=c,path={control}"]
    qemu += ["-tpmdev", "emulator,id=t,chardev=c", "-device", "tpm-tis-device,tpmdev=t"]
    qemu += ["-kernel", str(firmware.folder / "all" / "tis" / "tis.elf")]
    try:
        with subprocess.Popen([*_DIES_WITH_US, *swtpm], stdin=subprocess.DEVNULL) as tpm:
            _wait(control.exists, "swtpm")
            with subprocess.Popen([*_DIES_WITH_US, *qemu], stdin=subprocess.DEVNULL) as machine:
                _wait(lambda: said.exists() and re.search("done|failed", said.read_text()) is not None, "the driver")
                machine.kill()
            tpm.kill()
        lines = said.read_text().splitlines()
    finally:
        shutil.rmtree(run)
    assert [bool(re.fullmatch("random [0-9a-f]{16}", line)) for line in lines] == [True, True, False]
    assert lines[0] != lines[1]
    assert lines[2] == "done"


def _wait(ready: Callable[[], bool], who: str) -> None:
    until = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < until, f"{who} says nothing"
        time.sleep(0.02)
