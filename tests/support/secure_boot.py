"""UEFI firmware (OVMF) that knows a product's keys and no others: Secure Boot is on.

The keys are put into the firmware's variables by virt-fw-vars (virt-firmware, PyPI), as a factory's line does it by the
board's own tool.
"""

import subprocess
import sys
from pathlib import Path

from support.qemu_device import Firmware

_OVMF = Path("/usr/share/OVMF")
_OWNER = "0f6a1c3e-7c1d-4c53-9a4b-6d3e5a2b8c90"


def firmware(folder: Path, keys: Path) -> Firmware:
    """Return firmware with the keys of a folder that `birthmark image keys` made. folder: for its variables."""
    variables = folder / "variables.fd"
    command: list[str | Path] = [
        Path(sys.executable).with_name("virt-fw-vars"),
        "-i",
        _OVMF / "OVMF_VARS_4M.fd",
        "-o",
        variables,
    ]
    command += ["--set-pk", _OWNER, keys / "PK.pem", "--add-kek", _OWNER, keys / "KEK.pem"]
    command += ["--add-db", _OWNER, keys / "db.pem", "--secure-boot"]
    subprocess.run(command, check=True, capture_output=True)
    return Firmware(_OVMF / "OVMF_CODE_4M.secboot.fd", variables)
