"""The disk: a GPT with boot partition, two roots, what the station writes, and the agent's state; and its block map.

    1 esp         FAT    the boot file                    ESP_MB
    2 root-a      squashfs                                ROOT_MB
    3 root-b      empty until an update                   ROOT_MB
    4 provision   FAT    device.json                      PROVISION_MB
    5 state       ext4   the agent's own                  STATE_MB

The block map (bmap 2.0) leaves out only blocks that no file system reads: unused clusters, unused ends of the roots.
State is written whole, so that a device that is flashed again begins again.
"""

from datetime import datetime
from pathlib import Path
from typing import Final

from birthmark_server.factory.image.errors import ImageFailed
from birthmark_server.factory.image.root import AGENT_UID
from birthmark_server.factory.image.spec import ImageSpec
from birthmark_server.factory.image.tools import run

ESP_MB: Final = 96
ROOT_MB: Final = 96
PROVISION_MB: Final = 8
STATE_MB: Final = 16
_MIB: Final = 1 << 20


def build(*, boot: bytes, root: Path, spec: ImageSpec, built_at: datetime, work: Path, out: Path) -> None:
    """Write the disk image to `out`. boot: the boot file; root: the squashfs."""
    if root.stat().st_size > ROOT_MB * _MIB:
        raise ImageFailed(f"the root is {root.stat().st_size // _MIB} MiB; its partitions have {ROOT_MB}")
    parts = work / "parts"
    parts.mkdir()
    epoch = int(built_at.timestamp())
    (parts / "boot.efi").write_bytes(boot)
    _esp(parts / "esp.img", parts / "boot.efi", spec, epoch)
    _fat(parts / "provision.img", PROVISION_MB, "PROVISION", spec.uuid("provision").hex[:8], epoch)
    _state(parts / "state.img", spec, epoch)
    (parts / "root.img").symlink_to(root.resolve())
    config = parts / "genimage.cfg"
    config.write_text(_config(spec, out.name), encoding="utf-8")
    (work / "none").mkdir()
    folders: list[str | Path] = ["--rootpath", work / "none", "--tmppath", work / "tmp"]
    folders += ["--inputpath", parts, "--outputpath", out.parent]
    run(["genimage", "--config", config, *folders], env={"SOURCE_DATE_EPOCH": str(epoch)})


def block_map(image: Path, into: Path) -> None:
    """Write the image's block map, by bmaptool."""
    run(["bmaptool", "--quiet", "create", "-o", into, image])


def _esp(image: Path, boot: Path, spec: ImageSpec, epoch: int) -> None:
    _fat(image, ESP_MB, "ESP", spec.uuid("esp").hex[:8], epoch)
    environment = {"SOURCE_DATE_EPOCH": str(epoch)}
    run(["mmd", "-i", image, "::EFI", "::EFI/BOOT"], env=environment)
    run(["mcopy", "-i", image, boot, f"::EFI/BOOT/{spec.arch.efi}"], env=environment)


def _fat(image: Path, megabytes: int, label: str, volume_id: str, epoch: int) -> None:
    with image.open("wb") as file:
        file.truncate(megabytes * _MIB)
    options = ["--invariant", "-i", volume_id, "-n", label]
    run(["mkfs.vfat", *options, image], env={"SOURCE_DATE_EPOCH": str(epoch)})


def _state(image: Path, spec: ImageSpec, epoch: int) -> None:
    with image.open("wb") as file:
        file.truncate(STATE_MB * _MIB)
    number = spec.uuid("state")
    owner = f"root_owner={AGENT_UID}:{AGENT_UID}"
    extended = f"{owner},hash_seed={number},lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    options = ["-q", "-F", "-t", "ext4", "-b", "1024", "-L", "state", "-U", str(number), "-E", extended, "-m", "0"]
    run(["mke2fs", *options, image], env={"E2FSPROGS_FAKE_TIME": str(epoch)})
    image.write_bytes(image.read_bytes())  # no holes: see above


def _config(spec: ImageSpec, name: str) -> str:
    def partition(part: str, kind: str, rest: str) -> str:
        return (
            f'    partition {part} {{\n        partition-uuid = "{spec.uuid(part)}"\n'
            f'        partition-type-uuid = "{kind}"\n        {rest}\n    }}\n'
        )

    return (
        f"image {name} {{\n"
        f'    hdimage {{\n        partition-table-type = "gpt"\n        disk-uuid = "{spec.uuid("disk")}"\n'
        "        align = 1M\n    }\n"
        + partition("esp", "U", 'image = "esp.img"')
        + partition("root-a", "L", f'image = "root.img"\n        size = {ROOT_MB}M')
        + partition("root-b", "L", f"size = {ROOT_MB}M")
        + partition("provision", "F", 'image = "provision.img"')
        + partition("state", "L", 'image = "state.img"')
        + "}\n"
    )
