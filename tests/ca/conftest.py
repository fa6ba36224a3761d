"""Fixtures of the CA's room: one installation for all tests that only read it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.pki import Pki, make_pki

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An installation with a CRL address, seen on 1 March 2026."""
    return make_pki(
        tmp_path_factory.mktemp("pki") / "ca",
        now=NOW,
        public_url="http://pki.fleet.example",
        dns_domains=("fleet.example",),
    )


@pytest.fixture
def ca_folder(tmp_path: Path) -> Path:
    return tmp_path / "ca"
