"""`scripts/bench factory`: every part of it runs, on real parts. No timing means anything here; what it counts does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.factory_killed import Killed
from benchmark.factory_pace import Pace
from benchmark.of_factory import FactoryFigures, lines

ROOT = Path(__file__).parents[2]


@pytest.mark.parts
@pytest.mark.timeout(300)  # a dozen emulated TPMs, three servers, a station that is killed three times
def test_a_killed_station_makes_each_device_once_and_every_pace_is_measured() -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "benchmark", "factory", "--quick", "--json"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["killed"].pop("per_minute") > 0
    assert told["killed"] == {"devices": 40, "kills": 3, "born": 40, "twice": 0, "lost": 0}
    assert set(told["pace"]) == {"1", "4"}
    assert all(figure > 0 for figure in told["pace"].values())


def test_the_table_says_what_is_wrong() -> None:
    figures = FactoryFigures(Killed(1000, 3, 998, 1, 2, 60.0), [Pace(4, 24, 6.0)])
    shown = [(line.what, line.figure, line.most, line.least) for line in lines(figures)]
    wanted: list[tuple[str, float, float | None, float | None]] = [
        ("killed: 1,000 devices, the station killed 3 times: born", 998, None, 1000),
        ("killed: there twice", 1, 0.0, None),
        ("killed: orphans", 2, 0.0, None),
        ("killed: TPMs in software", 998, None, None),
        ("pace: 4 slots, 24 devices, each an swtpm", 240.0, None, None),
    ]
    assert shown == wanted
