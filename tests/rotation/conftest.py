"""An installation for each test of rotation: a round sees all jobs that there are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.core import Core
from support.server import Clock, Installation


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Installation]:
    with Installation.create(tmp_path) as installation:
        yield installation


@pytest.fixture
def core(site: Installation) -> Iterator[Core]:
    clock = Clock()
    with site.services(clock, broker=site.broker_lines(8883)) as services:
        yield Core(site, services, clock)
