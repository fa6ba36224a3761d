"""The birth certificate's copy in NV: it outlives the disk, not TPM2_Clear, and is never half there."""

from pathlib import Path

import pytest

from birthmark_agent.errors import TpmFull
from birthmark_agent.tpm import nv
from birthmark_agent.tpm.device import Tpm
from birthmark_agent.tpm.esapi import Esapi, Handle
from support.swtpm import Swtpm, SwtpmFailed

pytestmark = pytest.mark.parts

OLD = (b"old leaf" * 90, b"old CA" * 100)
NEW = (b"new leaf" * 95, b"new CA" * 110, b"new root" * 80)


class _PowerCut(Exception):
    pass


class _DyingEsapi(Esapi):
    """Fails before its n-th change of NV, as a power cut would."""

    def __init__(self, tcti: str, changes: int) -> None:
        super().__init__(tcti)
        self.left = changes

    def _change(self) -> None:
        if not self.left:
            raise _PowerCut
        self.left -= 1

    def nv_define(self, index: int, size: int, attributes: int) -> Handle:
        self._change()
        return super().nv_define(index, size, attributes)

    def nv_write(self, index: Handle, data: bytes, offset: int) -> None:
        self._change()
        super().nv_write(index, data, offset)

    def nv_undefine(self, index: Handle) -> None:
        self._change()
        super().nv_undefine(index)


def _read(swtpm: Swtpm) -> tuple[bytes, ...]:
    with Tpm.open(swtpm.tcti) as tpm:
        return tpm.read_birth_certificate()


def _write(swtpm: Swtpm, chain: tuple[bytes, ...]) -> None:
    with Tpm.open(swtpm.tcti) as tpm:
        tpm.write_birth_certificate(chain)


def test_there_is_none_at_first(swtpm: Swtpm) -> None:
    assert _read(swtpm) == ()


def test_it_survives_a_power_cut(swtpm: Swtpm) -> None:
    _write(swtpm, NEW)
    swtpm.restart()
    assert _read(swtpm) == NEW


def test_tpm2_clear_takes_it_away(swtpm: Swtpm) -> None:
    _write(swtpm, NEW)
    swtpm.clear()
    assert _read(swtpm) == ()


def test_a_new_one_replaces_a_longer_old_one(swtpm: Swtpm) -> None:
    _write(swtpm, NEW)
    _write(swtpm, OLD)
    assert _read(swtpm) == OLD


def test_the_same_one_again_does_not_wear_the_tpm(swtpm: Swtpm) -> None:
    _write(swtpm, NEW)
    esapi = _DyingEsapi(swtpm.tcti, 0)
    nv.write_birth_chain(esapi, NEW)
    esapi.close()


def test_a_power_cut_at_any_change_leaves_a_whole_chain_or_none(swtpm: Swtpm) -> None:
    _write(swtpm, OLD)
    seen = set()
    for changes in range(100):
        esapi = _DyingEsapi(swtpm.tcti, changes)
        try:
            nv.write_birth_chain(esapi, NEW)
        except _PowerCut:
            esapi.close()
            swtpm.restart()
            seen.add(_read(swtpm))
            _write(swtpm, OLD)
            continue
        esapi.close()
        break
    assert changes >= 8  # two removals, three definitions, at least three pieces
    assert seen == {OLD, ()}
    assert _read(swtpm) == NEW


def test_a_full_tpm_says_so_and_keeps_nothing(swtpm: Swtpm) -> None:
    index = 0x01C10000
    while True:
        try:
            swtpm.write_vendor_nv(index, bytes(2048))
        except RuntimeError:
            break
        index += 1
    with Tpm.open(swtpm.tcti) as tpm, pytest.raises(TpmFull):
        tpm.write_birth_certificate((bytes(1800), bytes(1800), bytes(1800), bytes(1800)))
    assert _read(swtpm) == ()


def test_what_somebody_else_wrote_there_is_not_taken_for_a_certificate(swtpm: Swtpm) -> None:
    swtpm.write_vendor_nv(nv.BIRTH_CHAIN_NV[0], b"BMC1" + bytes(60))
    assert _read(swtpm) == ()


def test_stopped_tpm_must_be_stopped_to_be_copied(swtpm: Swtpm, tmp_path: Path) -> None:
    with pytest.raises(SwtpmFailed, match="stop the TPM"):
        swtpm.copy(tmp_path / "copy")
