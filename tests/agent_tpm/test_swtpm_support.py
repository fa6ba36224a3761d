"""The emulated TPMs that other tests build on are what they say."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from support.swtpm import CHAIN_NV_INDEX, Swtpm, SwtpmFailed, VendorCa

pytestmark = pytest.mark.parts


def test_intermediate_chains_to_the_vendor_root(swtpm: Swtpm, vendor_ca: VendorCa) -> None:
    root = x509.load_pem_x509_certificate(vendor_ca.root_pem.read_bytes())
    intermediate = x509.load_pem_x509_certificate(vendor_ca.intermediate_pem.read_bytes())
    intermediate.verify_directly_issued_by(root)


def test_many_are_made_at_once_from_a_ca_that_is_not_there_yet(tmp_path: Path) -> None:
    ca = VendorCa.create(tmp_path / "vendor")
    with ThreadPoolExecutor(4) as pool:
        tpms = list(pool.map(lambda n: ca.make(tmp_path / f"tpm-{n}"), range(4)))
    assert len({(tpm.state / "tpm2-00.permall").read_bytes() for tpm in tpms}) == 4
    for tpm in tpms:
        tpm.close()


def test_restart_keeps_nv(swtpm: Swtpm) -> None:
    swtpm.write_vendor_nv(0x01C00101, b"kept")
    swtpm.restart()
    swtpm.erase_vendor_nv(0x01C00101)
    swtpm.restart(orderly=True)
    swtpm.erase_vendor_nv(CHAIN_NV_INDEX)


def test_starting_twice_is_refused(swtpm: Swtpm) -> None:
    with pytest.raises(SwtpmFailed, match="runs already"):
        swtpm.start()


def test_stopped_tpm_leaves_no_process(make_swtpm: Callable[[], Swtpm]) -> None:
    tpm = make_swtpm()
    pid = tpm.pid
    tpm.stop()
    tpm.stop()
    assert not Path(f"/proc/{pid}").exists()
