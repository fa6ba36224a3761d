"""The contract: a birth is all of it or nothing; and the ways home of a device that is on record."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from birthmark_server.domain import CertificateProfile, Device, DeviceState, RevocationReason
from birthmark_server.errors import BirthmarkError
from birthmark_server.store.errors import (
    AlreadyConsumed,
    AlreadyExists,
    BatchClosed,
    DeniedDevice,
    DeviceNotActive,
    DuplicateDevice,
    EpochChanged,
    QuotaExhausted,
    RekeyQuota,
    StationRevoked,
    SwapNotApproved,
    UnknownBatch,
    UnknownDevice,
    UnknownEnrollment,
)
from birthmark_server.store.protocol import Birth, Store
from store.contract_denials import approved_swap
from store.values import (
    DAY,
    EVIDENCE,
    HOUR,
    MINUTE,
    NOW,
    batch,
    bear,
    birth,
    certificate,
    come_home,
    denial,
    device,
    digest,
    ek,
    issuance,
    pending,
)

NEW_KEY = digest("another birth key")


class BirthContract:
    """`store` has MODEL."""

    def test_a_birth_writes_device_certificate_evidence_and_answer(self, store: Store) -> None:
        begun = pending(1)
        store.add_pending(begun, most_per_source=8)
        told = birth(begun, device(1, epoch=77, last_seen_at=None))
        store.commit_birth(told)
        assert store.get_device("dev-000001") == device(1, epoch=1, last_seen_at=NOW)
        assert told.certificate is not None
        assert store.device_certificates("dev-000001") == [told.certificate]
        assert store.device_evidence("dev-000001") == [(NOW, EVIDENCE)]
        assert store.get_pending(begun.enrollment_id) == replace(
            begun, request_sha256=told.request_sha256, answer=told.answer, answer_expires_at=told.answer_expires_at
        )

    def test_an_enrollment_counts_once(self, store: Store) -> None:
        bear(store, 1)
        with pytest.raises(AlreadyConsumed):
            store.commit_birth(birth(pending(1), device(1)))

    def test_an_unknown_enrollment_bears_nothing(self, store: Store) -> None:
        refused(store, birth(pending(1), device(1)), UnknownEnrollment)

    @pytest.mark.parametrize(
        "changes",
        [
            {"device_id": "dev-000001"},
            {"serial": "SN-000001"},
            {"ek_sha256": ek(1)},
            {"other_ek_sha256": (ek(2, 1), ek(1))},
        ],
        ids=["id", "serial", "ek", "claim"],
    )
    def test_no_two_devices_share_id_serial_or_ek_and_none_claims_anothers(
        self, store: Store, changes: dict[str, Any]
    ) -> None:
        first = bear(store, 1)
        store.add_pending(pending(2), most_per_source=8)
        refused(store, birth(pending(2), device(2, **changes)), DuplicateDevice)
        assert store.list_devices() == [first]

    @pytest.mark.parametrize(
        "changes", [{"ek_sha256": ek(1, 1)}, {"other_ek_sha256": (ek(1, 2),)}], ids=["ek", "claim"]
    )
    def test_anothers_claim_bars_nobody(self, store: Store, changes: dict[str, Any]) -> None:
        """An EK certificate is no secret: an insider must not be able to take a stranger's EK by showing it."""
        first = bear(store, 1)
        second = bear(store, 2, **changes)
        assert store.list_devices() == [first, second]
        assert store.admission_facts([second.ek_sha256], at=NOW).device == second

    def test_what_a_denied_device_claimed_bars_who_would_come_by_a_batch(self, store: Store) -> None:
        store.open_batch(batch())
        bear(store, 1)
        store.deny(denial(device_id="dev-000001"))
        store.add_pending(pending(2), most_per_source=8)
        refused(store, birth(pending(2), device(2, ek_sha256=ek(1, 1), batch="lot-1")), DeniedDevice)
        bear(store, 3, batch="lot-1", other_ek_sha256=(ek(1, 1),))  # its own EK is another: the claim may be true

    def test_a_device_keeps_eight_claims_however_many_it_makes(self, store: Store) -> None:
        known = bear(store, 1, other_ek_sha256=tuple(ek(1, i) for i in range(1, 10)))
        assert known.other_ek_sha256 == tuple(ek(1, i) for i in range(1, 9))
        for i in range(3):
            shown = replace(known, other_ek_sha256=tuple(ek(100 + i, j) for j in range(7)))
            store.commit_birth(come_home(store, shown, str(i), at=NOW + HOUR))
        assert store.get_device(known.device_id) == replace(known, last_seen_at=NOW + HOUR)

    def test_a_revoked_stations_devices_are_not_born(self, store: Store) -> None:
        relay = certificate("line-1", profile=CertificateProfile.STATION)
        store.add_infrastructure_certificate(relay, by="alice")
        store.add_pending(pending(1), most_per_source=8)
        told = birth(pending(1), device(1), station_sha256=relay.sha256)
        store.commit_birth(told)
        store.add_pending(pending(2), most_per_source=8)
        store.revoke_certificate(relay.sha256, reason=RevocationReason.KEY_COMPROMISE, at=NOW, by="alice")
        refused(store, birth(pending(2), device(2), station_sha256=relay.sha256), StationRevoked)

    @pytest.mark.parametrize(
        "names",
        [{"device_id": "dev-000001"}, {"serial": "SN-000001"}, {"ek_sha256": (ek(1),)}, {"ek_sha256": (ek(1, 2),)}],
        ids=["id", "serial", "ek", "other-ek"],
    )
    def test_what_is_denied_is_not_born(self, store: Store, names: dict[str, Any]) -> None:
        store.deny(denial(**names))
        store.add_pending(pending(1), most_per_source=8)
        refused(store, birth(pending(1), device(1)), DeniedDevice)

    def test_a_certificate_is_recorded_once(self, store: Store) -> None:
        bear(store, 1)
        store.add_pending(pending(2), most_per_source=8)
        same_serial = certificate("x", "dev-000002", serial_number=certificate(pending(1).enrollment_id).serial_number)
        refused(store, birth(pending(2), device(2), certificate=same_serial), AlreadyExists)

    def test_a_batch_counts_its_devices_up_to_its_quota(self, store: Store) -> None:
        store.open_batch(batch(quota=2))
        for number in (1, 2):
            bear(store, number, batch="lot-1")
        assert store.get_batch("lot-1").used == 2
        store.add_pending(pending(3), most_per_source=8)
        refused(store, birth(pending(3), device(3, batch="lot-1")), QuotaExhausted)
        assert store.get_batch("lot-1").used == 2

    def test_a_batch_that_is_closed_over_or_unknown_admits_nobody(self, store: Store) -> None:
        store.open_batch(batch("closed"))
        store.close_batch("closed", at=NOW, by="alice")
        store.open_batch(batch("over", closes_at=NOW))
        store.add_pending(pending(1), most_per_source=8)
        for name, error in (("closed", BatchClosed), ("over", BatchClosed), ("none", UnknownBatch)):
            refused(store, birth(pending(1), device(1, batch=name)), error)


class HomecomingContract:
    """`store` has MODEL."""

    def test_with_its_key_it_gets_the_certificate_that_it_has(self, store: Store) -> None:
        known = bear(store, 1)
        before = store.device_certificates(known.device_id)
        store.commit_birth(come_home(store, known, "again", at=NOW + HOUR))
        assert store.get_device(known.device_id) == replace(known, last_seen_at=NOW + HOUR)
        assert store.device_certificates(known.device_id) == before
        assert len(store.device_evidence(known.device_id)) == 2

    def test_a_new_birth_key_revokes_all_that_was_issued_before(self, store: Store) -> None:
        known = bear(store, 1)
        store.commit_issuance(issuance(known, "ldevid", None))
        rekeyed = rekey(store, known, "rekey", at=NOW + HOUR)
        store.commit_birth(rekeyed)
        now_known = store.get_device(known.device_id)
        assert now_known == replace(known, birth_spki_sha256=NEW_KEY, epoch=2, last_seen_at=NOW + HOUR)
        new, *old = store.device_certificates(known.device_id)
        assert new == rekeyed.certificate
        by = f"device:{known.device_id}"
        assert [(one.revoked_at, one.reason, one.revoked_by) for one in old] == [
            (NOW + HOUR, RevocationReason.SUPERSEDED, by)
        ] * 2

    def test_a_new_birth_key_is_granted_once_a_day(self, store: Store) -> None:
        known = bear(store, 1)
        store.commit_birth(rekey(store, known, "first", at=NOW + MINUTE))
        known = store.get_device(known.device_id)
        soon = rekey(store, known, "soon", key="third key", at=NOW + HOUR)
        with pytest.raises(RekeyQuota) as caught:
            store.commit_birth(soon)
        assert caught.value.retry_after_s == 23 * 3600 + 60 + 1
        store.commit_birth(replace(soon, at=NOW + DAY + MINUTE))

    def test_a_rekey_must_come_with_a_certificate(self, store: Store) -> None:
        known = bear(store, 1)
        with pytest.raises(ValueError, match="without a certificate"):
            store.commit_birth(rekey(store, known, "rekey", certificate=None))
        assert store.get_device(known.device_id) == known

    def test_a_new_ak_raises_the_epoch(self, store: Store) -> None:
        known = bear(store, 1)
        store.commit_birth(come_home(store, replace(known, ak_public=b"new ak"), "again"))
        assert store.get_device(known.device_id) == replace(known, ak_public=b"new ak", epoch=2)

    def test_eks_shown_later_are_added_and_none_is_forgotten(self, store: Store) -> None:
        known = bear(store, 1)
        shown = replace(known, other_ek_sha256=(ek(1, 3),))
        store.commit_birth(come_home(store, shown, "again"))
        eks = store.get_device(known.device_id).other_ek_sha256
        assert eks == (ek(1, 1), ek(1, 2), ek(1, 3))
        assert store.deny(denial(ek_sha256=(ek(1, 3),))) == [known.device_id]

    def test_who_shows_anothers_ek_does_not_come_home(self, store: Store) -> None:
        known = bear(store, 1)
        bear(store, 2)
        refused(store, come_home(store, replace(known, other_ek_sha256=(ek(2),)), "b"), DuplicateDevice)

    @pytest.mark.parametrize(
        "changes", [{"ek_sha256": ek(9)}, {"serial": "SN-9"}, {"model": "edge-2"}], ids=["ek", "serial", "model"]
    )
    def test_a_device_never_takes_its_id_elsewhere(self, store: Store, changes: dict[str, Any]) -> None:
        known = bear(store, 1)
        refused(store, come_home(store, replace(known, **changes), "x"), DuplicateDevice)

    def test_nothing_begun_before_a_revocation_ends_after_it(self, store: Store) -> None:
        known = bear(store, 1)
        begun = come_home(store, known, "again")
        store.revoke_device(known.device_id, reason=RevocationReason.UNSPECIFIED, at=NOW, by="alice")
        refused(store, begun, DeviceNotActive)
        store.readmit_device(known.device_id, at=NOW, by="alice")
        refused(store, begun, EpochChanged)

    def test_one_begun_as_a_stranger_does_not_end_as_a_device_on_record(self, store: Store) -> None:
        store.add_pending(pending(1, "late"), most_per_source=8)
        bear(store, 1)
        refused(store, birth(pending(1, "late"), device(1)), DuplicateDevice)

    def test_a_homecoming_to_no_record_is_refused(self, store: Store) -> None:
        store.add_pending(pending(1, epoch=1), most_per_source=8)
        refused(store, birth(pending(1, epoch=1), device(1)), UnknownDevice)

    def test_a_readmitted_device_gets_a_new_certificate_for_its_key(self, store: Store) -> None:
        known = bear(store, 1)
        store.revoke_device(known.device_id, reason=RevocationReason.UNSPECIFIED, at=NOW, by="alice")
        known = store.readmit_device(known.device_id, at=NOW, by="alice")
        again = certificate("again", known.device_id, profile=CertificateProfile.IDEVID)
        store.commit_birth(come_home(store, known, "again", certificate=again))
        assert [one for one in store.device_certificates(known.device_id) if one.revoked_at is None] == [again]

    def test_a_swapped_board_takes_the_place_of_the_old_one(self, store: Store) -> None:
        known = bear(store, 1)
        swap = approved_swap(store, known, ek(50))
        known = store.get_device(known.device_id)
        new_board = on_new_board(known)
        new = certificate("new board", known.device_id, profile=CertificateProfile.IDEVID)
        home = come_home(store, new_board, "swap", swap=swap, certificate=new, at=NOW + HOUR)
        store.commit_birth(home)
        now_known = store.get_device(known.device_id)
        assert now_known == replace(new_board, epoch=known.epoch + 1, last_seen_at=NOW + HOUR)
        facts = store.admission_facts([ek(50)], at=NOW + HOUR)
        assert (facts.device, facts.swap) == (now_known, None)
        old = store.admission_facts([ek(1)], at=NOW)
        assert (old.device, old.denied is None) == (None, False)
        assert store.deny(denial(ek_sha256=(ek(1, 1),))) == []  # claimed by the old board, which is gone
        again = come_home(store, replace(new_board, epoch=now_known.epoch), "b", swap=swap, certificate=new)
        refused(store, again, SwapNotApproved)

    def test_another_devices_swap_to_the_same_board_is_not_this_ones(self, store: Store) -> None:
        """Begun under a swap of this device that expired meanwhile; now the board was given to another device."""
        first, second = bear(store, 1), bear(store, 2)
        swap = approved_swap(store, second, ek(50))
        new = certificate("new board", first.device_id, profile=CertificateProfile.IDEVID)
        home = come_home(store, on_new_board(first), "swap", swap=swap, certificate=new)
        refused(store, home, SwapNotApproved)

    def test_a_swap_admits_neither_another_ek_nor_a_late_one(self, store: Store) -> None:
        known = bear(store, 1)
        swap = approved_swap(store, known, ek(50))
        known = store.get_device(known.device_id)
        new = certificate("new board", known.device_id, profile=CertificateProfile.IDEVID)
        home = come_home(store, on_new_board(known), "swap", swap=swap, certificate=new)
        other = replace(home, device=replace(home.device, ek_sha256=ek(51)))
        refused(store, other, SwapNotApproved)
        refused(store, replace(home, at=NOW + DAY), SwapNotApproved)
        store.commit_birth(home)


def on_new_board(known: Device) -> Device:
    return replace(
        known, ek_sha256=ek(50), other_ek_sha256=(ek(50, 1),), ak_public=b"ak 50", birth_spki_sha256=digest("key 50")
    )


def rekey(store: Store, known: Device, name: str, *, key: str = "another birth key", **changes: Any) -> Birth:
    told = {
        "certificate": certificate(name, known.device_id, profile=CertificateProfile.IDEVID, issued_at=NOW + MINUTE),
        "revoke_previous": True,
    }
    return come_home(store, replace(known, birth_spki_sha256=digest(key)), name, **(told | changes))


def refused(store: Store, told: Birth, error: type[BirthmarkError]) -> None:
    """The birth raises `error` and leaves no trace at all."""
    before = footprint(store, told)
    with pytest.raises(error):
        store.commit_birth(told)
    assert footprint(store, told) == before


def footprint(store: Store, told: Birth) -> list[object]:
    return [
        store.list_devices(),
        store.count_devices()[DeviceState.ACTIVE],
        store.list_certificates(),
        store.list_batches(),
        store.list_denied(),
        store.device_evidence(told.device.device_id),
        store.admission_facts([told.device.ek_sha256, *told.device.other_ek_sha256], at=NOW),
        attempt(lambda: store.get_pending(told.enrollment_id)),
    ]


def attempt(work: Callable[[], object]) -> object:
    try:
        return work()
    except BirthmarkError as error:
        return error.code
