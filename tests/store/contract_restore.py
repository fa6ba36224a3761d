"""The contract: after a restore from an older backup, the journal un-revokes nothing and forgets no certificate.

A restored backup is played by `other`: an empty database, or one that got the journal only up to some line.
"""

from dataclasses import replace
from typing import Any

import pytest

from birthmark_server.domain import UNKNOWN, BoardSwap, CertificateProfile, DeviceState, RevocationReason
from birthmark_server.store.errors import DeviceNotActive, DuplicateDevice, QuotaExhausted
from birthmark_server.store.journal import merged, read_journal
from birthmark_server.store.journal_entries import (
    BatchClosed,
    CertificateRevoked,
    DeviceRevoked,
    Entry,
    RevocationLifted,
    from_json,
    to_json,
)
from birthmark_server.store.protocol import Store
from birthmark_server.store.sql.store import SqlStore
from store.contract_births import on_new_board, rekey
from store.contract_denials import approved_swap
from store.values import (
    DAY,
    HOUR,
    ISSUER,
    MODEL,
    NOW,
    batch,
    bear,
    certificate,
    come_home,
    denial,
    device,
    digest,
    ek,
    issuance,
    manifest_entry,
)
from store.world import World

UNSPECIFIED = RevocationReason.UNSPECIFIED
COMPROMISE = RevocationReason.KEY_COMPROMISE


class RestoreContract:
    """`store` has MODEL and writes `journal-0`; `other_world` is a second, empty database."""

    def test_the_whole_journal_makes_the_whole_record_again(
        self, store: Store, world: World, other_world: World
    ) -> None:
        live_a_little(store)
        restored = backup(other_world)
        entries = told(world)
        assert restored.replay(entries) == len(entries)
        assert record(restored) == record(store)
        assert restored.next_crl(ISSUER, at=NOW).number == 3
        assert restored.check() == []

    def test_replaying_twice_changes_nothing(self, store: Store, world: World, other_world: World) -> None:
        live_a_little(store)
        restored = backup(other_world)
        restored.replay(told(world))
        before = record(restored)
        assert restored.replay(told(world)) == 0
        assert record(restored) == before

    def test_a_database_that_lost_nothing_gains_nothing(self, store: Store, world: World) -> None:
        live_a_little(store)
        before = record(store)
        assert store.replay(told(world)) == 0
        assert record(store) == before

    def test_from_any_older_backup_the_record_comes_back(self, store: Store, world: World, other_world: World) -> None:
        live_a_little(store)
        entries = told(world)
        restored = backup(other_world)
        for length in range(len(entries)):
            restored.replay(entries[:length])
        restored.replay(entries)
        assert record(restored) == record(store)

    def test_journals_whose_clocks_disagree_say_the_same_in_any_order(
        self, store: Store, world: World, other_world: World
    ) -> None:
        live_a_little(store)
        restored = backup(other_world)
        restored.replay(told(world)[::-1])
        assert record(restored) == record(store)

    def test_two_replicas_journals_together_tell_all(self, store: Store, world: World, other_world: World) -> None:
        replica = world.open(journal="replica")
        known = bear(store, 1)
        replica.commit_issuance(issuance(known, "x", None))
        store.revoke_device(known.device_id, reason=UNSPECIFIED, at=NOW, by="alice")
        bear(replica, 2)
        restored = backup(other_world)
        lines = merged([world.folder / "journal-0", world.folder / "replica"])
        restored.replay(entry for line in lines for entry in line.entries)
        assert record(restored) == record(store)

    def test_a_revocation_after_a_commit_that_failed_is_not_forgotten(
        self, store: Store, world: World, other_world: World
    ) -> None:
        """Both lines give the device epoch 2: the re-key that was never committed, and the revocation that was."""
        known = bear(store, 1)
        before = told(world)
        new_key = replace(known, birth_spki_sha256=digest("new key"), epoch=2)
        uncommitted: list[Entry] = [new_key, certificate("x", known.device_id, profile=CertificateProfile.IDEVID)]
        store.revoke_device(known.device_id, reason=COMPROMISE, at=NOW, by="alice")
        after = told(world)[len(before) :]
        restored = backup(other_world)
        restored.replay([*before, *uncommitted, *after])
        assert record(restored)[0] == record(store)[0]
        assert all(one.revoked_at for one in restored.device_certificates(known.device_id))
        store.readmit_device(known.device_id, at=NOW, by="alice")
        restored.replay(told(world))
        assert record(restored)[0] == record(store)[0]

    @pytest.mark.parametrize("rekeys", [1, 2, 5])
    def test_a_replicas_revocation_counts_however_late_its_journal_comes(
        self, store: Store, world: World, other_world: World, rekeys: int
    ) -> None:
        """Restored without that journal, the device went on, to the same epoch and beyond."""
        known = bear(store, 1)
        restored = backup(other_world)
        restored.replay(told(world))
        store.revoke_device(known.device_id, reason=COMPROMISE, at=NOW, by="alice")
        for number in range(rekeys):
            home = restored.get_device(known.device_id)
            restored.commit_birth(rekey(restored, home, str(number), key=f"{number}", at=NOW + 2 * number * DAY))
        restored.replay(told(world))
        now_known = restored.get_device(known.device_id)
        assert now_known.state is DeviceState.REVOKED
        assert all(one.revoked_at for one in restored.device_certificates(known.device_id))
        assert restored.readmit_device(known.device_id, at=NOW, by="alice").epoch > now_known.epoch
        assert restored.replay(told(world)) == 0
        assert restored.get_device(known.device_id).state is DeviceState.ACTIVE

    def test_only_the_readmission_that_lifted_a_revocation_takes_it_back(
        self, store: Store, world: World, other_world: World
    ) -> None:
        """Of two revocations in two histories, readmitting after one says nothing about the other."""
        known = bear(store, 1)
        restored = backup(other_world)
        restored.replay(told(world))
        store.revoke_device(known.device_id, reason=COMPROMISE, at=NOW, by="alice")
        restored.commit_birth(rekey(restored, restored.get_device(known.device_id), "x", at=NOW + DAY))
        restored.revoke_device(known.device_id, reason=UNSPECIFIED, at=NOW + DAY, by="alice")
        restored.readmit_device(known.device_id, at=NOW + DAY, by="alice")
        restored.replay(told(world))
        assert restored.get_device(known.device_id).state is DeviceState.REVOKED

    @pytest.mark.parametrize("late", ["there", "here"])
    def test_two_revocations_of_one_epoch_are_two(
        self, store: Store, world: World, other_world: World, late: str
    ) -> None:
        """Each history gave its revocation the same epoch; lifting one leaves the other, whichever is told last."""
        known = bear(store, 1)
        restored = backup(other_world)
        restored.replay(told(world))
        restored.revoke_device(known.device_id, reason=UNSPECIFIED, at=NOW + DAY, by="bob")
        restored.readmit_device(known.device_id, at=NOW + DAY, by="bob")
        store.revoke_device(known.device_id, reason=COMPROMISE, at=NOW, by="alice")
        theirs: list[Entry] = [
            DeviceRevoked(known.device_id, 2, UNSPECIFIED, NOW + DAY, "bob"),
            RevocationLifted(known.device_id, 2, NOW + DAY, "bob"),
            restored.get_device(known.device_id),
        ]
        where = restored
        if late == "there":
            restored.replay(told(world))
        else:
            where = store  # type: ignore[assignment]
            store.replay(theirs)
        assert where.get_device(known.device_id).state is DeviceState.REVOKED
        assert {one.by for one in where.device_revocations(known.device_id)} == {"alice", "bob"}
        before = record(where)
        assert where.replay(told(world) if late == "there" else theirs) == 0
        assert record(where) == before
        where.readmit_device(known.device_id, at=NOW + 2 * DAY, by="carol")
        assert where.replay(told(world)) == 0
        assert where.get_device(known.device_id).state is DeviceState.ACTIVE

    def test_a_certificate_from_before_a_lifted_revocation_stays_nobodys(
        self, store: Store, world: World, other_world: World
    ) -> None:
        """It was issued in the history that was lost, so whoever revoked the device could not revoke it."""
        known = bear(store, 1)
        restored = backup(other_world)
        restored.replay(told(world))
        lost = certificate("lost", known.device_id, issued_at=NOW + HOUR)
        store.commit_issuance(issuance(known, "lost", None, certificate=lost, at=NOW + HOUR))
        restored.revoke_device(known.device_id, reason=COMPROMISE, at=NOW + DAY, by="alice")
        restored.readmit_device(known.device_id, at=NOW + DAY, by="alice")
        again = restored.get_device(known.device_id)
        since = certificate("since", known.device_id, issued_at=NOW + 2 * DAY)
        restored.commit_issuance(issuance(again, "since", None, certificate=since, at=NOW + 2 * DAY))
        restored.replay(told(world))
        assert restored.get_device(known.device_id).state is DeviceState.ACTIVE
        living = [one for one in restored.device_certificates(known.device_id) if one.revoked_at is None]
        assert [one.sha256 for one in living] == [since.sha256]
        assert restored.replay(told(world)) == 0

    def test_a_certificate_of_the_old_board_does_not_come_back_after_the_swap(
        self, store: Store, world: World, other_world: World
    ) -> None:
        known = bear(store, 1)
        restored = backup(other_world)
        restored.replay(told(world))
        lost = certificate("lost", known.device_id, issued_at=NOW - HOUR)
        store.commit_issuance(issuance(known, "lost", None, certificate=lost))
        swap = approved_swap(restored, known, ek(50))
        again = restored.get_device(known.device_id)
        new = certificate("new board", known.device_id, profile=CertificateProfile.IDEVID)
        restored.commit_birth(come_home(restored, on_new_board(again), "b", certificate=new, swap=swap))
        restored.replay(told(world))
        living = [one for one in restored.device_certificates(known.device_id) if one.revoked_at is None]
        assert [one.sha256 for one in living] == [new.sha256]

    @pytest.mark.parametrize("rekeys", [1, 2, 5])
    def test_a_replicas_quarantine_counts_however_late_its_journal_comes(
        self, store: Store, world: World, other_world: World, rekeys: int
    ) -> None:
        """And no certificate is revoked for it, until the restoration that lifts this very one."""
        known = bear(store, 1)
        restored = backup(other_world)
        restored.replay(told(world))
        store.quarantine_device(known.device_id, at=NOW, by="alice")
        for number in range(rekeys):
            home = restored.get_device(known.device_id)
            restored.commit_birth(rekey(restored, home, str(number), key=f"{number}", at=NOW + 2 * number * DAY))
        restored.replay(told(world))
        now_known = restored.get_device(known.device_id)
        assert now_known.state is DeviceState.QUARANTINED
        assert [one.revoked_at is None for one in restored.device_certificates(known.device_id)].count(True) == 1
        assert restored.restore_device(known.device_id, at=NOW, by="alice").epoch > now_known.epoch
        assert restored.replay(told(world)) == 0
        assert restored.get_device(known.device_id).state is DeviceState.ACTIVE

    def test_a_certificate_from_before_a_lifted_quarantine_is_good(
        self, store: Store, world: World, other_world: World
    ) -> None:
        """A quarantine takes no certificate away, so none that comes to light after it either."""
        known = bear(store, 1)
        restored = backup(other_world)
        restored.replay(told(world))
        store.commit_issuance(issuance(known, "lost", None, at=NOW))
        restored.quarantine_device(known.device_id, at=NOW + DAY, by="alice")
        restored.restore_device(known.device_id, at=NOW + DAY, by="alice")
        restored.replay(told(world))
        assert [one.revoked_at for one in restored.device_certificates(known.device_id)] == [None, None]

    def test_a_quarantine_told_late_does_not_soften_a_revocation(
        self, store: Store, world: World, other_world: World
    ) -> None:
        known = bear(store, 1)
        restored = backup(other_world)
        restored.replay(told(world))
        store.quarantine_device(known.device_id, at=NOW, by="alice")
        restored.revoke_device(known.device_id, reason=COMPROMISE, at=NOW, by="bob")
        restored.replay(told(world))
        assert restored.get_device(known.device_id).state is DeviceState.REVOKED

    @pytest.mark.parametrize("names", [{"device_id": "dev-000001"}, {"ek_sha256": (ek(1),)}], ids=["known", "unknown"])
    def test_a_replicas_denial_counts_however_late_its_journal_comes(
        self, store: Store, world: World, other_world: World, names: dict[str, Any]
    ) -> None:
        restored = backup(other_world)
        if "device_id" in names:
            bear(store, 1)
        store.deny(denial(**names))
        known = bear(restored, 1)
        restored.commit_birth(rekey(restored, known, "x", at=NOW + DAY))
        restored.commit_birth(rekey(restored, restored.get_device(known.device_id), "y", key="y", at=NOW + 3 * DAY))
        restored.replay(told(world))
        assert restored.get_device(known.device_id).state is DeviceState.DENIED
        assert all(one.revoked_at for one in restored.device_certificates(known.device_id))
        assert restored.replay(told(world)) == 0

    def test_a_swap_that_waits_for_its_board_is_no_denial_of_the_device(
        self, store: Store, world: World, other_world: World
    ) -> None:
        known = bear(store, 1)
        approved_swap(store, known, ek(50))
        restored = backup(other_world)
        restored.replay(told(world))
        assert restored.get_device(known.device_id).state is DeviceState.ACTIVE

    def test_a_swap_that_was_approved_after_the_backup_lets_its_board_in(
        self, store: Store, world: World, other_world: World
    ) -> None:
        known = bear(store, 1)
        restored = backup(other_world)
        restored.replay(told(world))
        swap = approved_swap(store, known, ek(50))
        restored.replay(told(world))
        assert restored.admission_facts([ek(50)], at=NOW).swap == swap
        home = on_new_board(restored.get_device(known.device_id))
        new = certificate("new board", known.device_id, profile=CertificateProfile.IDEVID)
        restored.commit_birth(come_home(restored, home, "swap", swap=swap, certificate=new))
        assert restored.replay(told(world)) == 0
        assert restored.get_swap(known.device_id) is None

    def test_a_batch_that_was_opened_after_the_backup_lets_no_more_in_than_its_quota(
        self, store: Store, world: World, other_world: World
    ) -> None:
        store.open_batch(batch(quota=3))
        for number in (1, 2):
            bear(store, number, batch="lot-1")
        restored = backup(other_world)
        restored.replay(told(world)[::-1])
        assert restored.get_batch("lot-1") == store.get_batch("lot-1")
        bear(restored, 3, batch="lot-1")
        with pytest.raises(QuotaExhausted):
            bear(restored, 4, batch="lot-1")

    def test_what_was_set_up_otherwise_since_the_restore_stands(
        self, store: Store, world: World, other_world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Two histories: the one that is there is what operators went on with."""
        store.import_manifest([manifest_entry(1), manifest_entry(2)])
        store.open_batch(batch(quota=9))
        restored = backup(other_world)
        other = replace(MODEL, ek_template="ecc-p384", added_by="bob")
        restored.add_model(other, by="bob")
        restored.import_manifest([manifest_entry(1, ek_sha256=ek(9))])
        restored.open_batch(batch(quota=1))
        restored.replay(told(world))
        assert restored.list_models() == [other]
        assert restored.list_manifest() == [manifest_entry(1, ek_sha256=ek(9)), manifest_entry(2)]
        assert restored.list_batches() == [batch(quota=1)]
        assert "left out: a model edge-1 that differs" in caplog.text
        assert "left out: device dev-000001" in caplog.text
        assert "left out: a batch lot-1 that differs" in caplog.text

    def test_a_long_manifest_is_told_in_lines_that_a_start_can_look_at(
        self, store: Store, world: World, other_world: World
    ) -> None:
        store.import_manifest([manifest_entry(number) for number in range(1000)])
        lines = list(read_journal(world.folder / "journal-0"))
        assert max(len(line.entries) for line in lines) <= 200
        restored = backup(other_world)
        assert restored.replay(told(world)) == 1001
        assert restored.list_manifest(limit=2000) == store.list_manifest(limit=2000)

    def test_journals_from_before_names_were_kept_are_told_too(self, other_world: World) -> None:
        restored = backup(other_world)
        restored.add_model(MODEL, by="alice")
        restored.open_batch(batch())
        born: list[Entry] = [
            device(1),
            certificate("x", "dev-000001"),
            certificate("op", profile=CertificateProfile.OPERATOR),
        ]
        acts: list[Entry] = [
            *born,
            CertificateRevoked(certificate("x").sha256, COMPROMISE, NOW),
            DeviceRevoked("dev-000001", 2, COMPROMISE, NOW),
            RevocationLifted("dev-000001", 2, NOW),
            BatchClosed("lot-1", NOW),
        ]
        old = [
            {name: value for name, value in to_json(entry).items() if name not in {"by", "issued_by", "revoked_by"}}
            for entry in acts
        ]
        assert restored.replay(map(from_json, old)) == len(old)
        assert restored.get_batch("lot-1").closed_by == UNKNOWN
        assert [(one.by, one.lifted_by) for one in restored.device_revocations("dev-000001")] == [(UNKNOWN, UNKNOWN)]
        assert {(one.issued_by, one.revoked_by) for one in restored.list_certificates()} == {(UNKNOWN, UNKNOWN)}

    def test_a_refused_transaction_leaves_no_line(self, store: Store, world: World) -> None:
        known = bear(store, 1)
        before = told(world)
        store.revoke_device(known.device_id, reason=UNSPECIFIED, at=NOW, by="alice")
        after = told(world)
        with pytest.raises(DeviceNotActive):
            store.commit_issuance(issuance(known, "x", None))
        with pytest.raises(DuplicateDevice):
            bear(store, 1, "b")
        assert len(before) < len(after) == len(told(world))

    def test_what_rests_on_nothing_is_left_out(self, other_world: World, store: Store) -> None:
        restored = backup(other_world)
        assert restored.replay([certificate("x", "dev-unknown")]) == 0
        assert restored.list_certificates() == []

    def test_an_unreleased_birth_that_was_journaled_comes_home_by_itself(
        self, store: Store, world: World, other_world: World
    ) -> None:
        """The commit failed after the line was written: on replay the device is on record, and attests again."""
        restored = backup(other_world)
        unreleased: list[Entry] = [
            device(1),
            certificate("unreleased", "dev-000001", profile=CertificateProfile.IDEVID),
        ]
        assert restored.replay(unreleased) == 2
        known = restored.get_device("dev-000001")
        restored.commit_birth(come_home(restored, known, "again"))
        assert len(restored.device_certificates(known.device_id)) == 1


def live_a_little(store: Store) -> None:
    """Births, renewals, revocations of each kind, a denial, swaps at each step, batches, a manifest."""
    store.open_batch(batch())
    store.open_batch(batch("lot-2"))
    store.import_manifest([manifest_entry(number) for number in (7, 8)])
    one, two, three, four = (bear(store, number, batch="lot-1" if number == 4 else "") for number in (1, 2, 3, 4))
    for each in (one, two, three, four):
        store.commit_issuance(issuance(each, "ldevid", None))
    store.revoke_device(one.device_id, reason=UNSPECIFIED, at=NOW + HOUR, by="alice")
    store.readmit_device(one.device_id, at=NOW + HOUR, by="alice")
    store.revoke_certificate(
        issuance(two, "ldevid", None).certificate.sha256, reason=UNSPECIFIED, at=NOW + HOUR, by="alice"
    )
    store.deny(denial(ek_sha256=(ek(2, 1),)))
    swap = approved_swap(store, three, ek(50))
    three = store.get_device(three.device_id)
    new = certificate("new board", three.device_id, profile=CertificateProfile.IDEVID, issued_at=NOW + HOUR)
    store.commit_birth(come_home(store, on_new_board(three), "swap", swap=swap, certificate=new, at=NOW + HOUR))
    store.add_infrastructure_certificate(certificate("op-1", profile=CertificateProfile.OPERATOR), by="alice")
    store.close_batch("lot-1", at=NOW + HOUR, by="bob")
    store.request_swap(BoardSwap(four.device_id, ek(60), "carol", NOW))
    five = bear(store, 5)
    store.request_swap(BoardSwap(five.device_id, ek(61), "carol", NOW))
    approved_swap(store, five, ek(62))
    six, seven, eight = (bear(store, number) for number in (6, 9, 10))
    store.quarantine_device(six.device_id, at=NOW + HOUR, by="alice", note="odd traffic")
    store.quarantine_device(seven.device_id, at=NOW + HOUR, by="alice")
    store.restore_device(seven.device_id, at=NOW + HOUR, by="bob")
    store.retire_device(
        eight.device_id, reason=RevocationReason.CESSATION_OF_OPERATION, at=NOW + HOUR, by="alice", note="sold"
    )
    for _ in range(2):
        store.next_crl(ISSUER, at=NOW)


def backup(world: World) -> SqlStore:
    return world.open(create=True)


def told(world: World) -> list[Entry]:
    return [entry for line in read_journal(world.folder / "journal-0") for entry in line.entries]


def record(store: Store) -> list[object]:
    """All that a restore must bring back; signs of life are not among it."""
    return [
        [replace(one, last_seen_at=None) for one in store.list_devices()],
        store.count_devices()[DeviceState.ACTIVE],
        store.list_certificates(),
        sorted(store.list_denied(), key=str),
        store.list_models(),
        store.list_manifest(),
        sorted(store.list_batches(), key=str),
        [sorted(store.device_swaps(one.device_id), key=str) for one in store.list_devices()],
        [store.device_revocations(one.device_id) for one in store.list_devices()],
        list(store.revoked_serials(ISSUER, profiles=list(CertificateProfile), at=NOW + DAY)),
        [admitted_as(store, ek(number)) for number in (1, 2, 50, 60, 61, 62)],
    ]


def admitted_as(store: Store, shown: str) -> tuple[str, bool, bool]:
    facts = store.admission_facts([shown], at=NOW)
    return facts.device.device_id if facts.device else "", facts.denied is not None, facts.swap is not None
