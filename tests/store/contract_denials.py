"""The contract: the deny list and board swaps."""

from dataclasses import replace
from typing import Any

import pytest

from birthmark_server.domain import BoardSwap, Device, DeviceState, RevocationReason
from birthmark_server.store.errors import (
    AlreadyExists,
    DeviceNotActive,
    IllegalMove,
    SameOperator,
    SwapNotApproved,
    UnknownDevice,
    UnknownSwap,
)
from birthmark_server.store.protocol import Store
from store.values import DAY, HOUR, NOW, bear, certificate, come_home, denial, digest, ek, issuance, manifest_entry


class DenialContract:
    """`store` has MODEL."""

    def test_a_denial_of_nobody_on_record_stands_as_it_was_made(self, store: Store) -> None:
        entry = denial(device_id="dev-9", serial="SN-9", ek_sha256=(ek(9), ek(9, 1)))
        assert store.deny(entry) == []
        assert store.deny(entry) == []
        assert store.list_denied() == [entry]

    @pytest.mark.parametrize(
        "names",
        [
            {"device_id": "dev-000001"},
            {"serial": "SN-000001"},
            {"ek_sha256": (ek(1),)},
            {"ek_sha256": (ek(7), ek(1, 2))},
        ],
        ids=["id", "serial", "ek", "other-ek"],
    )
    def test_a_denied_device_loses_everything_and_is_known_by_every_name(
        self, store: Store, names: dict[str, Any]
    ) -> None:
        known = bear(store, 1)
        bystander = bear(store, 2)
        store.commit_issuance(issuance(known, "ldevid", None))
        store.deny(denial(**names))
        assert store.get_device(known.device_id) == replace(known, state=DeviceState.DENIED, epoch=2)
        assert store.get_device(bystander.device_id) == bystander
        certificates = store.device_certificates(known.device_id)
        assert [(one.reason, one.revoked_by) for one in certificates] == [
            (RevocationReason.PRIVILEGE_WITHDRAWN, "alice")
        ] * 2
        (entry,) = store.list_denied()
        assert (entry.device_id, entry.serial) == ("dev-000001", "SN-000001")
        assert set(entry.ek_sha256) == {*names.get("ek_sha256", ()), ek(1)}
        assert entry.claimed_ek_sha256 == (ek(1, 1), ek(1, 2))
        assert store.admission_facts([ek(9), ek(1)], at=NOW).denied == entry

    def test_a_denial_that_names_two_devices_denies_both_under_their_own_names(self, store: Store) -> None:
        bear(store, 1)
        bear(store, 2)
        bear(store, 3)
        met = store.deny(denial(device_id="dev-000001", ek_sha256=(ek(2),)))
        assert sorted(met) == ["dev-000001", "dev-000002"]
        assert store.count_devices()[DeviceState.DENIED] == 2
        for number in (1, 2):
            found = store.denied_match(device_id=f"dev-{number:06}", serial="")
            assert found is not None
            assert found.serial == f"SN-{number:06}"

    def test_a_claimed_ek_is_its_owners_where_it_has_one(self, store: Store) -> None:
        claimer = bear(store, 1, other_ek_sha256=(ek(2), ek(3)))
        bear(store, 2)
        store.import_manifest([manifest_entry(3)])
        assert store.deny(denial(ek_sha256=(ek(2), ek(3)))) == ["dev-000002"]
        assert store.get_device(claimer.device_id) == claimer

    def test_what_a_denied_device_claimed_bars_no_device_on_record_and_none_on_the_manifest(self, store: Store) -> None:
        store.import_manifest([manifest_entry(3)])
        on_record = bear(store, 2, other_ek_sha256=(ek(8),))
        bear(store, 1, other_ek_sha256=(ek(3), ek(8), ek(9)))
        store.deny(denial(device_id="dev-000001"))
        for shown in (ek(3), ek(8), ek(9)):
            assert store.admission_facts([shown], at=NOW).denied is None
        assert bear(store, 3).state is DeviceState.ACTIVE
        store.commit_birth(come_home(store, on_record, "again"))

    def test_a_denied_device_can_be_neither_readmitted_nor_made_merely_revoked(self, store: Store) -> None:
        known = bear(store, 1)
        store.deny(denial(device_id=known.device_id))
        with pytest.raises(IllegalMove):
            store.readmit_device(known.device_id, at=NOW, by="alice")
        assert store.revoke_device(known.device_id, reason=RevocationReason.UNSPECIFIED, at=NOW, by="alice") == []
        assert store.get_device(known.device_id).state is DeviceState.DENIED


class SwapContract:
    """`store` has MODEL."""

    def test_a_swap_that_waits_can_be_read_and_is_approved_for_its_own_ek_only(self, store: Store) -> None:
        known = bear(store, 1)
        assert store.get_swap(known.device_id) is None
        asked = BoardSwap(known.device_id, ek(50), "alice", NOW)
        store.request_swap(asked)
        assert store.get_swap(known.device_id) == asked
        with pytest.raises(UnknownSwap, match="alice asked for EK"):
            store.approve_swap(known.device_id, new_ek_sha256=ek(51), by="bob", at=NOW, expires_at=NOW + DAY)
        assert store.get_swap(known.device_id) == asked
        swap = store.approve_swap(known.device_id, new_ek_sha256=ek(50), by="bob", at=NOW, expires_at=NOW + DAY)
        assert store.get_swap(known.device_id) == swap

    def test_an_approval_revokes_the_old_board_and_keeps_the_device(self, store: Store) -> None:
        known = bear(store, 1)
        swap = approved_swap(store, known, ek(50))
        assert swap == BoardSwap(known.device_id, ek(50), "alice", NOW, "bob", NOW, NOW + DAY)
        assert store.get_device(known.device_id) == replace(known, epoch=2)
        (birth,) = store.device_certificates(known.device_id)
        assert (birth.reason, birth.revoked_by) == (RevocationReason.SUPERSEDED, "bob")
        (entry,) = store.list_denied()
        assert (entry.device_id, entry.serial) == ("", "")
        assert (entry.ek_sha256, entry.claimed_ek_sha256) == ((ek(1),), (ek(1, 1), ek(1, 2)))
        assert store.denied_match(device_id=known.device_id, serial=known.serial) is None

    def test_who_asks_may_not_approve(self, store: Store) -> None:
        known = bear(store, 1)
        store.request_swap(BoardSwap(known.device_id, ek(50), "alice", NOW))
        with pytest.raises(SameOperator):
            store.approve_swap(known.device_id, by="alice", at=NOW, expires_at=NOW + DAY)
        assert store.get_device(known.device_id) == known

    def test_what_was_not_asked_for_or_approved_already_cannot_be_approved(self, store: Store) -> None:
        known = bear(store, 1)
        with pytest.raises(UnknownSwap):
            store.approve_swap(known.device_id, by="bob", at=NOW, expires_at=NOW + DAY)
        approved_swap(store, known, ek(50))
        with pytest.raises(UnknownSwap):
            store.approve_swap(known.device_id, by="bob", at=NOW, expires_at=NOW + DAY)

    def test_a_new_request_replaces_an_unapproved_or_expired_one(self, store: Store) -> None:
        known = bear(store, 1)
        store.request_swap(BoardSwap(known.device_id, ek(50), "alice", NOW - HOUR))
        approved_swap(store, known, ek(51))
        with pytest.raises(AlreadyExists):
            store.request_swap(BoardSwap(known.device_id, ek(52), "alice", NOW + HOUR))
        store.request_swap(BoardSwap(known.device_id, ek(52), "alice", NOW + DAY))
        assert store.admission_facts([ek(51)], at=NOW).swap is None
        assert [(swap.new_ek_sha256, swap.ended_at) for swap in store.device_swaps(known.device_id)] == [
            (ek(52), None),
            (ek(51), NOW + DAY),
            (ek(50), NOW),
        ]

    def test_asked_for_twice_in_one_moment_is_asked_for_once(self, store: Store) -> None:
        known = bear(store, 1)
        for name in ("alice", "bob"):
            store.request_swap(BoardSwap(known.device_id, ek(50), name, NOW))
        assert store.device_swaps(known.device_id) == [BoardSwap(known.device_id, ek(50), "alice", NOW)]

    def test_a_used_swap_stays_on_record_and_permits_nothing(self, store: Store) -> None:
        known = bear(store, 1)
        swap = approved_swap(store, known, ek(50))
        new = certificate("new board", known.device_id)
        told = replace(store.get_device(known.device_id), ek_sha256=ek(50), birth_spki_sha256=digest("new board"))
        store.commit_birth(come_home(store, told, "swap", swap=swap, certificate=new, at=NOW + HOUR))
        assert store.get_swap(known.device_id) is None
        assert store.device_swaps(known.device_id) == [replace(swap, ended_at=NOW + HOUR)]
        assert store.admission_facts([ek(50)], at=NOW).swap is None
        again = come_home(store, store.get_device(known.device_id), "again", swap=swap, at=NOW + HOUR)
        with pytest.raises(SwapNotApproved):
            store.commit_birth(again)
        approved_swap(store, store.get_device(known.device_id), ek(51))

    def test_a_request_is_never_approved_by_what_it_says_itself(self, store: Store) -> None:
        known = bear(store, 1)
        store.request_swap(BoardSwap(known.device_id, ek(50), "alice", NOW, "bob", NOW, NOW + DAY))
        assert store.admission_facts([ek(50)], at=NOW).swap is None

    def test_the_new_ek_must_be_nobodys(self, store: Store) -> None:
        known = bear(store, 1)
        other = bear(store, 2)
        store.import_manifest([manifest_entry(3)])
        store.deny(denial(ek_sha256=(ek(4),)))
        store.request_swap(BoardSwap(other.device_id, ek(5), "alice", NOW))
        for taken in (ek(2), ek(3), ek(4), ek(5), ek(1)):
            with pytest.raises(AlreadyExists):
                store.request_swap(BoardSwap(known.device_id, taken, "alice", NOW))
        assert approved_swap(store, known, ek(2, 1)).new_ek_sha256 == ek(2, 1)  # another one's mere claim

    def test_an_ek_taken_since_the_request_is_not_approved(self, store: Store) -> None:
        known = bear(store, 1)
        store.request_swap(BoardSwap(known.device_id, ek(2), "alice", NOW))
        bear(store, 2)
        with pytest.raises(AlreadyExists):
            store.approve_swap(known.device_id, by="bob", at=NOW, expires_at=NOW + DAY)
        assert store.get_device(known.device_id) == known

    def test_only_an_active_device_is_swapped(self, store: Store) -> None:
        with pytest.raises(UnknownDevice):
            store.request_swap(BoardSwap("dev-9", ek(50), "alice", NOW))
        known = bear(store, 1)
        store.request_swap(BoardSwap(known.device_id, ek(50), "alice", NOW))
        store.revoke_device(known.device_id, reason=RevocationReason.UNSPECIFIED, at=NOW, by="alice")
        with pytest.raises(DeviceNotActive):
            store.approve_swap(known.device_id, by="bob", at=NOW, expires_at=NOW + DAY)
        with pytest.raises(DeviceNotActive):
            store.request_swap(BoardSwap(known.device_id, ek(51), "alice", NOW))


def approved_swap(store: Store, known: Device, new_ek: str) -> BoardSwap:
    """Asked for by alice, approved by bob, good for a day."""
    store.request_swap(BoardSwap(known.device_id, new_ek, "alice", NOW))
    return store.approve_swap(known.device_id, by="bob", at=NOW, expires_at=NOW + DAY)
