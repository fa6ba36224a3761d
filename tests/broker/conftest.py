"""A PKI for all, and a broker where a test asks for one."""

from collections.abc import Iterator

import pytest

from broker.contract import Ear
from support.broker_pki import BrokerPki
from support.gate_site import Site, open_site


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> BrokerPki:
    """One PKI."""
    return BrokerPki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def ear() -> Ear:
    """Who hears the devices."""
    return Ear()


@pytest.fixture
def site(pki: BrokerPki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A broker for one test."""
    with open_site(pki, tmp_path_factory.mktemp("broker")) as broker:
        yield Site(pki, broker)
