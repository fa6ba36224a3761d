"""How fast an image is flashed, against those who do nothing else: `dd` and `bmaptool copy`, on the same files.

Each turn writes the same image, nearly all of it mapped, three times onto a file that stands for a blank disk: by
us, by `dd conv=fdatasync`, by `bmaptool copy`. All three end when the disk has it (fdatasync, fsync).
"""

import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from birthmark_server.factory.disk.blockmap import read_block_map
from birthmark_server.factory.disk.flash import IMAGE, flash, open_image
from birthmark_wire.factory import ProvisionRecord
from support.small_image import small_image

_RECORD = ProvisionRecord("SN-1", "EDGE-1", "WO-1", "bench")


@dataclass(frozen=True, slots=True)
class FlashRate:
    """Bytes in a second, medians of all turns. writing: until the first piece of what was read back came; whole: with
    all of it read back and compared, and the record. over_dd, over_bmaptool: medians of the turns' ratios."""

    writing: float
    whole: float
    dd: float
    bmaptool: float
    over_dd: float
    over_bmaptool: float


def measure_flash(mib: int, turns: int, say: Callable[[str], None]) -> FlashRate:
    """Flash an image of so many MiB in so many turns."""
    with tempfile.TemporaryDirectory(prefix="flash-", dir=Path(__file__).parents[2] / ".birthmark") as name:
        folder = Path(name)
        say("an image")
        image = small_image(folder / "image", root_mib=mib, data_mib=mib)
        open_image(image)  # its hash is worked out once for a whole work order
        mapped = read_block_map(image / "device.bmap").mapped
        rates: list[tuple[float, float, float, float]] = []
        for turn in range(turns):
            say(f"turn {turn + 1} of {turns}")
            writing_s, whole_s = _ours(image, _blank(folder, image))
            dd: list[str | Path] = [
                "dd",
                f"if={image / IMAGE}",
                f"of={_blank(folder, image)}",
                "bs=4M",
                "conv=fdatasync,notrunc",
            ]
            dd_s = _timed(dd)
            bmaptool_s = _timed(["bmaptool", "--quiet", "copy", image / IMAGE, _blank(folder, image)])
            size = (image / IMAGE).stat().st_size
            rates.append((mapped / writing_s, mapped / whole_s, size / dd_s, mapped / bmaptool_s))
    writing, whole, dd_rate, bmaptool = (median(column) for column in zip(*rates, strict=True))
    over_dd, over_bmaptool = (median(rate[0] / rate[place] for rate in rates) for place in (2, 3))
    return FlashRate(writing, whole, dd_rate, bmaptool, over_dd, over_bmaptool)


def _blank(folder: Path, image: Path) -> Path:
    disk = folder / "disk"
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate((image / IMAGE).stat().st_size)
    return disk


def _ours(image: Path, disk: Path) -> tuple[float, float]:
    """Return how long the writing took, and all of it."""
    told: list[tuple[int, float]] = []
    began = time.monotonic()
    flash(open_image(image), disk, _RECORD, lambda done, _total: told.append((done, time.monotonic())))
    ended = time.monotonic()
    written = next(at for done, at in told if 2 * done > told[-1][0])
    return written - began, ended - began


def _timed(command: list[str | Path]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - began
