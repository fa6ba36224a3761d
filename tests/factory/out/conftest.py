"""Stations that made something."""

from pathlib import Path

import pytest

from support.factory_out import Made, make_station
from support.factory_sim import Broken, CableOut, SimulatedDevice
from support.pki import Pki, make_pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An installation's certificates."""
    return make_pki(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def made(tmp_path: Path, pki: Pki) -> Made:
    """Three devices, made without a fault."""
    station = make_station(tmp_path / "line", pki, 3)
    station.plant.run(2)
    return station


@pytest.fixture
def stumbled(tmp_path: Path, pki: Pki) -> Made:
    """Four devices made, of which one erred once; a fifth one failed for good."""
    station = make_station(tmp_path / "line", pki, 4)
    faults: dict[int, dict[str, list[Exception]]] = {
        1: {"identify": [CableOut("no answer")]},
        2: {"self_test": [Broken("says nothing")] * 9},
    }
    device = station.plant.device

    def faulty() -> SimulatedDevice:
        board = device()
        board.faults = faults.get(len(station.plant.devices) - 1, {})
        return board

    station.plant.device = faulty  # type: ignore[method-assign]
    station.plant.run(1)
    return station
