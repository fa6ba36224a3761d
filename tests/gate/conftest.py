"""One PKI and one broker for all attempts of this folder; whoever changes the broker runs one of its own."""

from collections.abc import Iterator

import pytest

from support.broker_pki import BrokerPki
from support.gate_site import Site, open_site


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> BrokerPki:
    """One PKI."""
    return BrokerPki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def site(pki: BrokerPki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One broker that stays as it is."""
    with open_site(pki, tmp_path_factory.mktemp("broker")) as broker:
        yield Site(pki, broker)
