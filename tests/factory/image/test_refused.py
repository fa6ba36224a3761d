"""Why no image was built: what is missing, and what to do about it. Nothing is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from birthmark_server.ca.errors import CeremonyRefused, KeyUnusable
from birthmark_server.factory.image import keys, tools
from birthmark_server.factory.image.arch import ARCHS
from birthmark_server.factory.image.errors import ImageFailed, NoPackages, NoRoom, ToolMissing
from birthmark_server.factory.image.packages import Archive
from support.pki import make_pki
from support.server import now


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_SBIN", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing, match="not on this machine: genimage, mcopy; apt-get install genimage mtools"):
        tools.need({"genimage": "genimage", "mcopy": "mtools"})


def test_a_disk_that_is_too_full_is_named_with_what_the_build_needs(tmp_path: Path) -> None:
    with pytest.raises(NoRoom, match=rf"{tmp_path} has \d+ MB free; the build needs 999999999 MB there"):
        tools.need_room(tmp_path, 999_999_999)


def test_a_disk_that_fills_midway_is_no_mystery(tmp_path: Path) -> None:
    with pytest.raises(NoRoom, match="no space left on the disk"):
        tools.run(["dd", "if=/dev/zero", "of=/dev/full", "count=1"])


def test_a_tools_own_words_are_told() -> None:
    with pytest.raises(ImageFailed, match="sh ended with 3: it is broken"):
        tools.run(["sh", "-c", "echo it is broken >&2; exit 3"])


def test_a_machine_without_apt_sources_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "etc/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/sources.list").write_text("# deb http://commented.example bookworm main\n")
    archive = Archive(tmp_path / "cache", ARCHS["amd64"], etc=tmp_path / "etc")
    with pytest.raises(NoPackages, match="names no apt sources"):
        archive.update()


@pytest.mark.parts
def test_sources_that_do_not_answer_are_told(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/sources.list").write_text(f"deb [trusted=yes] file:{tmp_path}/nowhere bookworm main\n")
    archive = Archive(tmp_path / "cache", ARCHS["amd64"], etc=tmp_path / "etc")
    with pytest.raises(NoPackages, match="apt reaches no source"):
        archive.update()
    with pytest.raises(NoPackages, match="apt can't give what the image needs"):
        archive.with_depends(["python3"])


def test_keys_are_private_and_never_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keys.make(folder, product="sensor-2", now=now())
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.glob("*.key")} == dict.fromkeys(
        ("PK.key", "KEK.key", "db.key"), 0o600
    )
    before = (folder / "PK.key").read_bytes()
    with pytest.raises(CeremonyRefused, match=r"PK\.key is there already"):
        keys.make(folder, product="sensor-2", now=now())
    assert (folder / "PK.key").read_bytes() == before


def test_a_key_that_others_may_read_signs_nothing(tmp_path: Path) -> None:
    keys.make(tmp_path / "keys", product="sensor-2", now=now())
    (tmp_path / "keys/db.key").chmod(0o644)
    with pytest.raises(KeyUnusable, match="may be read by others"):
        keys.signing(tmp_path / "keys")


def birthmark(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from birthmark_server.entry import main; main()", "image", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


def test_the_command_line_says_what_is_wrong_in_one_sentence_and_leaves_nothing_behind(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "ca", public_url="http://localhost/pki", now=now())
    out = tmp_path / "out"
    options = ["build", "--server", "https://enroll.example:8443", "--model", "sensor-2", "--out", out]
    done = birthmark(*options, "--anchors", pki.root_pem, "--arch", "vax")
    assert (done.returncode, done.stderr) == (65, "birthmark: --arch: want one of amd64, arm64, got 'vax'\n")
    done = birthmark(*options, "--anchors", tmp_path / "none.pem")
    assert (done.returncode, done.stderr) == (66, f"birthmark: {tmp_path}/none.pem: No such file or directory\n")
    done = birthmark(*options, "--anchors", pki.root_pem, SOURCE_DATE_EPOCH="yesterday")
    assert done.returncode == 65
    assert "SOURCE_DATE_EPOCH: want seconds since 1970" in done.stderr
    assert not out.exists()


@pytest.mark.parts
def test_an_output_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "ca", public_url="http://localhost/pki", now=now())
    options = ["build", "--server", "https://enroll.example:8443", "--model", "sensor-2", "--out", tmp_path / "ca"]
    done = birthmark(*options, "--anchors", pki.root_pem)
    assert done.returncode == 65
    assert "is there already; nothing was overwritten" in done.stderr
