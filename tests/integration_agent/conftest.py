"""One site for all tests of a module: making one takes a second, a device another."""

import os
from collections.abc import Iterator

import pytest

from support.agent_site import AgentSite
from support.server import Server
from support.tpm_stock import TpmStock


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> TpmStock:
    """TPMs for all sites, and for all workers: each of those has a folder of its own below one for the run."""
    own = tmp_path_factory.getbasetemp()
    return TpmStock((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "tpm-stock")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, stock: TpmStock) -> Iterator[AgentSite]:
    """Installation, vendor and a running broker."""
    with AgentSite.create(tmp_path_factory.mktemp("site"), stock=stock) as made:
        yield made


@pytest.fixture(scope="module")
def server(site: AgentSite) -> Iterator[Server]:
    """The enrollment server, running."""
    with site.server() as running:
        yield running
