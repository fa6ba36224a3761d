"""The real server's core, without sockets, for the agent's flows to talk to."""

from collections.abc import Iterator

import pytest

from support.core import Core
from support.server import Clock, Installation


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.create(tmp_path_factory.mktemp("agent")) as installation:
        yield installation


@pytest.fixture
def core(site: Installation) -> Iterator[Core]:
    clock = Clock()
    with site.services(clock) as services:
        yield Core(site, services, clock)
