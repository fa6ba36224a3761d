"""The firmware's own C tests, its analyzer, and its fuzzers for a few seconds each."""

import os
import subprocess
from pathlib import Path

import pytest

from support.firmware import Firmware

pytestmark = [pytest.mark.parts, pytest.mark.timeout(240)]  # compiles BearSSL twice, on a machine under load

FUZZ_SECONDS = int(os.environ.get("BIRTHMARK_FUZZ_SECONDS", "4"))


def test_the_units_pass_under_both_sanitizers(firmware: Firmware) -> None:
    assert firmware.make("test", timeout_s=200).count("ok  ") >= 38


def test_the_analyzer_finds_nothing(firmware: Firmware) -> None:
    assert firmware.make("host").count("ok  ") >= 13


def test_it_fits_into_forty_kilobytes(firmware: Firmware) -> None:
    firmware.image("1.2.0")
    text, data, bss = (int(word) for word in firmware.make("size", below="1.2.0").splitlines()[1].split()[:3])
    assert text + data < 40 * 1024
    assert bss < 24 * 1024


@pytest.mark.parametrize("target", ["frame", "packet", "image", "tis"])
def test_any_bytes_are_read_or_refused(target: str, firmware: Firmware, tmp_path: Path) -> None:
    program = firmware.folder / "all" / "fuzz" / target
    firmware.make(str(program), timeout_s=200)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    if target == "image":
        for image in (firmware.folder / "all" / "test" / "images").glob("*.bin"):
            (corpus / image.name).write_bytes(image.read_bytes())
    done = subprocess.run(
        [program, f"-max_total_time={FUZZ_SECONDS}", "-verbosity=0", "-max_len=5000", "-rss_limit_mb=1024", corpus],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-4000:]
