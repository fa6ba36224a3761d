"""One site for all tests of a module: making one takes a second, a device another."""

from collections.abc import Iterator

import pytest

from support.agent_site import AgentSite
from support.server import Server


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentSite]:
    """Installation, vendor and a running broker."""
    with AgentSite.create(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="module")
def server(site: AgentSite) -> Iterator[Server]:
    """The enrollment server, running."""
    with site.server() as running:
        yield running
