"""One build of the firmware, and TPMs for boards."""

import os
from pathlib import Path

import pytest

from support.firmware import Firmware
from support.tpm_stock import TpmStock


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def firmware(shared: Path) -> Firmware:
    """Our firmware, built when it is first asked for."""
    return Firmware.in_folder(shared / "firmware")


@pytest.fixture(scope="session")
def stock(shared: Path) -> TpmStock:
    """TPMs, made once for all workers."""
    return TpmStock(shared / "tpm-stock")
