"""A plant for each test."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from birthmark_server.domain import CertificateProfile
from birthmark_server.factory.station.signer import StationKey
from birthmark_server.factory.values import WorkOrder
from support.factory_plant import Plant
from support.factory_sim import MemoryDesk
from support.pki import Pki, make_pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An installation's certificates."""
    return make_pki(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def station_key(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> StationKey:
    """A station's key with its certificate."""
    leaf = pki.infra(CertificateProfile.STATION, "st-1")
    return StationKey.load(*leaf.write(tmp_path_factory.mktemp("station"), "station"))


@pytest.fixture
def make_plant(tmp_path: Path, station_key: StationKey) -> Callable[[int], Plant]:
    """A plant with a work order of so many devices; a folder of its own each time."""
    count = 0

    def make(quantity: int) -> Plant:
        nonlocal count
        count += 1
        now = datetime.now(UTC)
        order = WorkOrder("W1", "model-a", quantity, "SN-{:04}@1", "alice", now, now + timedelta(days=30))
        plant = Plant(tmp_path / f"station-{count}", station_key, MemoryDesk(order))
        plant.power()
        return plant

    return make
