"""`scripts/demo --factory`: what leaves the line, and what stays behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.parts, pytest.mark.timeout(900)]  # two minutes here; QEMU is slow where much else runs

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}", "COLUMNS": "200"}


def demo(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "demo_story", "--factory", *words],
        capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, check=False, timeout=850,
    )  # fmt: skip


def test_two_stations_make_two_kinds_of_device_and_refuse_a_foreign_tpm() -> None:
    before = set((ROOT / ".birthmark").glob("demo-*"))
    done = demo("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["complete"] is True
    assert [unit["made"] for unit in told["units"]].count(False) == 1
    assert told["born"] == 4
    folder = Path(told["folder"])
    assert json.loads((folder / "report.json").read_text())["total"]["made"] == 4
    for unit in told["units"]:
        assert len(list(folder.glob(f"line-*/{unit['serial']}.svg"))) == unit["made"]
    manifests = list(folder.glob("line-*/*.manifest.json"))
    assert sum(len(json.loads(manifest.read_text())) for manifest in manifests) == 4
    assert set((ROOT / ".birthmark").glob("demo-*")) <= before


def test_it_wants_no_other_story_beside_it() -> None:
    done = demo("--campaign")
    assert done.returncode == 2
    assert "want neither --campaign" in done.stderr
