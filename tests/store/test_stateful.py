"""Any sequence of enrollments, issuances, revocations, denials, restarts: what must always hold, holds.

Requests are begun at one moment and ended at another, so whatever lies between them is in their way.
"""

import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from birthmark_server.domain import CertificateRecord, DeviceState, RevocationReason
from birthmark_server.errors import BirthmarkError
from birthmark_server.store.device_states import Act
from birthmark_server.store.journal import read_journal
from birthmark_server.store.open import open_store
from birthmark_server.store.protocol import Birth, Issuance
from birthmark_server.store.sql.store import SqlStore
from store.contract_restore import record
from store.contract_states import ACTS
from store.values import DAY, MODEL, NOW, birth, denial, device, digest, ek, issuance, pending

numbers = st.integers(0, 3)


class StoreMachine(RuleBasedStateMachine):
    """Four devices. seen: the last that was seen of each certificate; epochs: of each device."""

    births = Bundle("births")
    issuances = Bundle("issuances")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._count = 0
        self.store = self._open("birthmark", create=True)
        self.store.add_model(MODEL, by="alice")
        self.seen: dict[str, CertificateRecord] = {}
        self.epochs: dict[str, int] = {}

    def _open(self, name: str, *, create: bool = False) -> SqlStore:
        folder = Path(self._folder.name)
        return open_store(f"sqlite:///{folder}/{name}.db", journal=folder / f"{name}-journal", create=create)

    def teardown(self) -> None:
        self.store.close()
        self._folder.cleanup()

    # -- what is begun

    @rule(target=births, number=numbers, key=st.integers(0, 1), other=numbers)
    def begin_a_birth(self, number: int, key: int, other: int) -> Birth:
        """Of a device, new or known, with either of two keys; sometimes it shows an EK of another one."""
        self._count += 1
        told = device(
            number, birth_spki_sha256=digest(f"{number} {key}"), other_ek_sha256=(ek(number, 1), ek(other, 2))
        )
        facts = self.store.admission_facts([told.ek_sha256], at=NOW)
        epoch = facts.device.epoch if facts.device else 0
        begun = pending(number, str(self._count), epoch=epoch)
        self.store.add_pending(begun, most_per_source=10_000)
        return birth(begun, told, at=NOW + self._count * DAY)

    @rule(target=issuances, number=numbers)
    def begin_an_issuance(self, number: int) -> Issuance | None:
        self._count += 1
        found = self.store.list_devices(after=f"dev-{number - 1:06}" if number else "", limit=1)
        return issuance(found[0], str(self._count), None) if found else None

    # -- what ends

    @rule(told=births)
    def end_a_birth(self, told: Birth) -> None:
        """Perhaps for the second time."""
        with suppress(BirthmarkError):
            self.store.commit_birth(told)
            now_known = self.store.get_device(told.device.device_id)
            assert now_known.state is DeviceState.ACTIVE
            assert now_known.birth_spki_sha256 == told.device.birth_spki_sha256
            assert told.expected_epoch <= now_known.epoch <= told.expected_epoch + 1

    @rule(told=consumes(issuances))
    def end_an_issuance(self, told: Issuance | None) -> None:
        if told is None:
            return
        with suppress(BirthmarkError):
            self.store.commit_issuance(told)
            now_known = self.store.get_device(told.device_id)
            assert (now_known.state, now_known.epoch) == (DeviceState.ACTIVE, told.expected_epoch)

    # -- what comes between

    @rule(number=numbers)
    def revoke(self, number: int) -> None:
        with suppress(BirthmarkError):
            self.store.revoke_device(f"dev-{number:06}", reason=RevocationReason.UNSPECIFIED, at=NOW, by="alice")

    @rule(number=numbers)
    def readmit(self, number: int) -> None:
        with suppress(BirthmarkError):
            self.store.readmit_device(f"dev-{number:06}", at=NOW, by="alice")

    @rule(number=numbers, act=st.sampled_from([Act.QUARANTINE, Act.RESTORE, Act.RETIRE]))
    def move(self, number: int, act: Act) -> None:
        with suppress(BirthmarkError):
            ACTS[act](self.store, f"dev-{number:06}")

    @rule(number=numbers)
    def deny_an_ek(self, number: int) -> None:
        self.store.deny(denial(ek_sha256=(ek(number),)))

    @rule(number=numbers)
    def deny_a_claim(self, number: int) -> None:
        self.store.deny(denial(ek_sha256=(ek(number, 2),)))

    @rule(data=st.data())
    def revoke_one_certificate(self, data: st.DataObject) -> None:
        if self.seen:
            sha256 = data.draw(st.sampled_from(sorted(self.seen)))
            self.store.revoke_certificate(sha256, reason=RevocationReason.UNSPECIFIED, at=NOW, by="alice")

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self._open("birthmark")

    @rule()
    def restore_from_nothing(self) -> None:
        """The journal alone makes the record again."""
        self._count += 1
        restored = self._open(f"restored-{self._count}", create=True)
        lines = read_journal(Path(self._folder.name) / "birthmark-journal")
        restored.replay(entry for line in lines for entry in line.entries)
        assert record(restored) == record(self.store)
        restored.close()

    # -- what always holds

    @invariant()
    def no_certificate_is_lost_or_unrevoked(self) -> None:
        now = {one.sha256: one for one in self.store.list_certificates(limit=10_000)}
        for sha256, before in self.seen.items():
            as_it_was = replace(
                now[sha256], revoked_at=before.revoked_at, reason=before.reason, revoked_by=before.revoked_by
            )
            assert as_it_was == before
            assert before.revoked_at in (None, now[sha256].revoked_at)
        self.seen = now

    @invariant()
    def only_active_and_quarantined_devices_hold_living_certificates_and_one_birth_key(self) -> None:
        for known in self.store.list_devices():
            assert known.epoch >= self.epochs.get(known.device_id, 1)
            self.epochs[known.device_id] = known.epoch
            living = [one for one in self.store.device_certificates(known.device_id) if one.revoked_at is None]
            if known.state not in (DeviceState.ACTIVE, DeviceState.QUARANTINED):
                assert living == []

    @invariant()
    def each_proven_ek_has_one_owner_and_the_denied_have_none_active(self) -> None:
        owners: dict[str, str] = {}
        denied = {key for entry in self.store.list_denied() for key in entry.ek_sha256}
        for known in self.store.list_devices():
            assert owners.setdefault(known.ek_sha256, known.device_id) == known.device_id
            assert known.ek_sha256 not in denied or known.state is DeviceState.DENIED
        assert self.store.check() == []


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=8, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
