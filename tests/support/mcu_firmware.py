"""Our own firmware (firmware_stubs/) for boards in tests, built once in the checkout's .birthmark folder.

One key signs all of it, made for this checkout; `ImageSigner` has it, so a test can sign and spoil images too.
"""

import fcntl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.mcu_image import ImageSigner

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ROOT / "firmware_stubs"
_HOME: Final = ROOT / ".birthmark" / "firmware"


@dataclass(frozen=True, slots=True)
class Firmware:
    """image: signed, for MCUboot. signer: whose key it is built to believe."""

    image: Path
    signer: ImageSigner
    version: str


def firmware(version: str = "1.2.0") -> Firmware:
    """Return the firmware of that version. Several processes may ask at once."""
    _HOME.mkdir(parents=True, exist_ok=True)
    build = _HOME / version
    with (_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        signer = ImageSigner(_HOME / "image.key", _HOME / "image.pem")
        if not signer.public.exists():
            ImageSigner.create(_HOME)
        tools = Path(sys.executable).parent
        make = ["make", "--silent", "--directory", str(SOURCES), "mps2", f"BUILD={build}", f"THIRD={_HOME / 'third'}"]
        make += [f"KEY={signer.private}", f"VERSION={version}"]
        make += [f"PYTHON={sys.executable}", f"IMGTOOL={tools / 'imgtool'}"]
        done = subprocess.run(make, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    return Firmware(build / "mps2/app.signed.bin", signer, version)
