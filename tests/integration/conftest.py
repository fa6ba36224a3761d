"""One installation and one server for all tests of this folder that need nothing special."""

from collections.abc import Iterator

import pytest

from support.server import Installation, Server

LIMITS = "[limits]\nrequests_per_s = 10000\nburst = 10000\nbody_timeout_s = 1.0\nidle_timeout_s = 2.0\n"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.create(tmp_path_factory.mktemp("site")) as installation:
        yield installation


@pytest.fixture(scope="session")
def server(site: Installation) -> Iterator[Server]:
    with site.start(extra=LIMITS) as running:
        yield running
