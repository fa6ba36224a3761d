"""Pytest's way to emulated TPMs. A conftest.py takes its fixtures: `from support.tpm_fixtures import swtpm, vendor_ca`.

`swtpm` is quick (30 ms): a running copy of one TPM made per session. Use `make_swtpm` where devices must differ.
Whoever uses these marks the test `parts`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.swtpm import Swtpm, VendorCa


@pytest.fixture(scope="session")
def vendor_ca(tmp_path_factory: pytest.TempPathFactory) -> VendorCa:
    """A TPM vendor for this session."""
    return VendorCa.create(tmp_path_factory.mktemp("vendor"))


@pytest.fixture(scope="session")
def swtpm_original(vendor_ca: VendorCa, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    """The stopped TPM that `swtpm` copies."""
    tpm = vendor_ca.make(tmp_path_factory.mktemp("tpm") / "original")
    yield tpm
    tpm.close()


@pytest.fixture
def swtpm(swtpm_original: Swtpm, tmp_path: Path) -> Iterator[Swtpm]:
    """A running TPM as it left its vendor, for this test alone."""
    tpm = swtpm_original.copy(tmp_path / "swtpm")
    tpm.start()
    yield tpm
    tpm.close()


@pytest.fixture
def make_swtpm(vendor_ca: VendorCa, tmp_path: Path) -> Iterator[Callable[[], Swtpm]]:
    """Make and start as many different TPMs as the test wants; all are stopped at its end."""
    made: list[Swtpm] = []

    def make() -> Swtpm:
        tpm = vendor_ca.make(tmp_path / f"swtpm-{len(made)}")
        made.append(tpm)
        tpm.start()
        return tpm

    yield make
    for tpm in made:
        tpm.close()
