"""TPMs for boards, and one folder for each."""

import os

import pytest

from support.tpm_stock import TpmStock


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> TpmStock:
    """TPMs, made once for all workers."""
    own = tmp_path_factory.getbasetemp()
    return TpmStock((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "tpm-stock")


@pytest.fixture
def ready(tmp_path, stock):
    from pathlib import Path
    import hashlib
    from factory.smp.ready import Ready
    from support.smp_peer import peer
    from support.tpm_uart import Bridge
    record = [b""]
    locked = [False]
    with stock.copy(0, tmp_path / "tpm").running() as tpm:
        bridge = Bridge(tmp_path / "b", Path(tpm.tcti.removeprefix("swtpm:path=")))
        def answer(q):
            if q.group == 0: return {"buf_size": 4600, "buf_count": 1}
            if q.command == 1: return {"r": bridge.ask_tpm(q.members["c"])}
        with peer(answer) as p:
            yield Ready(p.address, tpm, stock.vendor)
