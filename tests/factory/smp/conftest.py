"""TPMs for boards, and one folder for each."""

import os

import pytest

from support.tpm_stock import TpmStock


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> TpmStock:
    """TPMs, made once for all workers."""
    own = tmp_path_factory.getbasetemp()
    return TpmStock((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "tpm-stock")
