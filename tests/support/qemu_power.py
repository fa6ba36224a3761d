"""A slot's power switch in the demo and the tests: QEMU boots the slot's disk, until it ends or is told to.

    python -m support.qemu_power --disk FILE --tpm FOLDER --boot device.efi --console PATH [--port N]...

--console: where the socket of the device's serial line is found. --tpm: swtpm's state, made by swtpm_setup.
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from support.qemu_device import QemuDevice


def main() -> int:
    """Run until the device is off."""
    parser = argparse.ArgumentParser()
    for name in ("disk", "tpm", "boot", "console"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--arch", default="amd64")
    parser.add_argument("--mac", default="52:54:00:12:34:56")
    parser.add_argument("--port", type=int, action="append", default=[])
    asked = parser.parse_args()

    def off(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, off)
    device = QemuDevice(asked.disk, asked.tpm, arch=asked.arch, boot=asked.boot, ports=asked.port, mac=asked.mac)
    with device:
        device.start()
        asked.console.unlink(missing_ok=True)
        asked.console.symlink_to(device.console)
        while device.running:
            time.sleep(0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
