"""Images for tests' devices, and disks that are flashed with them.

What images share is kept in the checkout's .birthmark (factory/image/base.py, under a file lock), so each of a test
run's images takes a few seconds, whoever builds it. The first one fetches some 100 MB of packages.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

from birthmark_server.factory.disk.flash import flash, open_image
from birthmark_server.factory.image import build
from birthmark_server.factory.image.spec import ImageSpec, read_spec
from birthmark_wire.factory import ProvisionRecord
from support.agent_site import MODEL, AgentSite
from support.qemu_device import HOST

CACHE = Path(__file__).resolve().parents[2] / ".birthmark" / "image"


def spec_for(site: AgentSite, *, arch: str = "amd64", **more: Any) -> ImageSpec:
    """An image whose devices find the site's server, and its broker, at 10.0.2.100 by the name that both have."""
    return read_spec(
        server=f"https://localhost:{site.installation.port}",
        anchors=site.installation.pki.root_pem,
        model=MODEL.name,
        arch=arch,
        hosts=[f"localhost={HOST}"],
        **{"version": "1.0.0", **more},
    )


def build_image(spec: ImageSpec, out: Path, *, cache: Path = CACHE) -> Path:
    """Build into `out` and return it."""
    return build.build(spec, out, cache=cache, told=lambda *_: None).folder


def flash_device(image: Path, disk: Path, record: ProvisionRecord) -> Path:
    """Write an image, as the station does, to a file that stands for a blank disk; return that file."""
    with disk.open("wb") as blank:
        blank.truncate((image / build.IMAGE).stat().st_size)
    flash(open_image(image), disk, record, lambda _done, _all: None)
    return disk


def partition_start(disk: Path, number: int) -> int:
    """Where a partition begins, in bytes, by sgdisk."""
    return int(_sector(disk, number, "First")) * 512


def partition_bytes(disk: Path, number: int) -> bytes:
    """A whole partition."""
    start = partition_start(disk, number)
    with disk.open("rb") as file:
        file.seek(start)
        return file.read((int(_sector(disk, number, "Last")) + 1) * 512 - start)


def _sector(disk: Path, number: int, which: str) -> str:
    said = subprocess.run(["sgdisk", "-i", str(number), disk], capture_output=True, text=True, check=True).stdout
    found = re.search(rf"{which} sector: (\d+)", said)
    assert found, said
    return found[1]
