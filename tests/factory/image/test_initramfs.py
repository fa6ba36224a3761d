"""The initial RAM file system: modules in order, an archive that others read."""

import stat
import subprocess
from pathlib import Path

import pytest

from birthmark_server.factory.image.errors import ImageFailed
from birthmark_server.factory.image.initramfs import Entry, cpio, in_order


def module(folder: Path, name: str, *depends: str) -> None:
    file = folder / "kernel" / f"{name}.ko"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"\x7fELF\0license=GPL\0depends=" + ",".join(depends).encode() + b"\0name=x\0")


def test_a_module_comes_behind_those_that_it_depends_on(tmp_path: Path) -> None:
    module(tmp_path, "virtio_blk", "virtio", "virtio_ring")
    module(tmp_path, "virtio_ring", "virtio")
    module(tmp_path, "virtio")
    module(tmp_path, "snd-hda-intel")
    assert [file.stem for file in in_order(tmp_path)] == ["virtio", "virtio_ring", "virtio_blk"]


def test_names_with_dashes_are_the_same_as_with_underscores(tmp_path: Path) -> None:
    module(tmp_path, "nls_cp437", "nls_base")
    module(tmp_path, "nls-base")
    assert [file.stem for file in in_order(tmp_path)] == ["nls-base", "nls_cp437"]


def test_a_folder_without_modules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageFailed, match="has no kernel modules"):
        in_order(tmp_path)


@pytest.mark.parts
def test_others_read_the_archive(tmp_path: Path) -> None:
    archive = cpio(
        [
            Entry("bin", stat.S_IFDIR | 0o755),
            Entry("bin/one", stat.S_IFREG | 0o755, b"1"),
            Entry("three", stat.S_IFREG | 0o644, b"abc" * 1001),
        ]
    )
    subprocess.run(["cpio", "-idm", "--quiet"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "bin/one").read_bytes() == b"1"
    assert (tmp_path / "bin/one").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "three").read_bytes() == b"abc" * 1001
