"""A station's word admits a TPM that proves itself, and makes up for no proof."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from unittest.mock import sentinel

import pytest

from birthmark_server.admission import admit
from birthmark_server.domain import AdmissionFacts, Batch, Caller, Device, ManifestEntry
from support.server import now

EK = "ab" * 32
LISTED = ManifestEntry(EK, "SN-1", "EDGE-7", "sn-1", "alice", now())


@dataclass
class Expecting:
    """A record on which one device is expected."""

    line: ManifestEntry

    def admission_facts(self, ek_sha256: Sequence[str], *, at: datetime) -> AdmissionFacts:
        return AdmissionFacts(manifest=self.line, device=None, denied=None, swap=None)

    def get_device(self, device_id: str) -> Device:
        raise AssertionError

    def get_batch(self, name: str) -> Batch:
        raise AssertionError


@pytest.mark.parametrize(
    ("by", "listed"), [("alice", frozenset({EK})), ("local:root", frozenset({EK})), ("station:line-2", frozenset())]
)
def test_only_people_vouch_for_an_ek_without_a_certificate(by: str, listed: frozenset[str]) -> None:
    store = Expecting(replace(LISTED, imported_by=by))
    admitted = admit(store, [EK], None, Caller(sentinel.request, "192.0.2.1"), now=now())
    assert (admitted.device_id, admitted.listed_ek) == ("sn-1", listed)
