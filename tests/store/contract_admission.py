"""The contract: what is known of the EKs shown, and the challenges between two requests."""

from dataclasses import replace
from typing import Any

import pytest

from birthmark_server.domain import AdmissionFacts
from birthmark_server.store.errors import AlreadyExists, TooManyPending, UnknownEnrollment
from birthmark_server.store.protocol import Store
from store.contract_denials import approved_swap
from store.values import DAY, HOUR, MINUTE, NOW, bear, birth, denial, device, digest, ek, manifest_entry, pending

NOTHING = AdmissionFacts(manifest=None, device=None, denied=None, swap=None)


class AdmissionContract:
    """`store` has MODEL."""

    def test_nothing_is_known_of_a_strangers_eks(self, store: Store) -> None:
        bear(store, 1)
        assert store.admission_facts([ek(2), ek(2, 1)], at=NOW) == NOTHING
        assert store.admission_facts([], at=NOW) == NOTHING

    def test_the_manifest_admits_by_the_first_ek_only(self, store: Store) -> None:
        store.import_manifest([manifest_entry(1)])
        assert store.admission_facts([ek(1), ek(7)], at=NOW) == replace(NOTHING, manifest=manifest_entry(1))
        assert store.admission_facts([ek(7), ek(1)], at=NOW) == NOTHING

    @pytest.mark.parametrize("shown", [[ek(1)], [ek(9), ek(1)]], ids=["first", "beside"])
    def test_a_device_is_known_by_the_ek_that_it_has_proven(self, store: Store, shown: list[str]) -> None:
        known = bear(store, 1)
        assert store.admission_facts(shown, at=NOW).device == known
        assert store.admission_facts([ek(1, 1), ek(1, 2)], at=NOW).device is None

    def test_the_device_of_the_first_ek_comes_before_that_of_another(self, store: Store) -> None:
        bear(store, 1)
        second = bear(store, 2)
        assert store.admission_facts([ek(2), ek(1)], at=NOW).device == second

    def test_a_denial_of_any_ek_shown_is_found(self, store: Store) -> None:
        store.deny(denial(ek_sha256=(ek(1, 1), ek(1, 2))))
        for shown in ([ek(1, 2)], [ek(9), ek(1, 1)]):
            assert store.admission_facts(shown, at=NOW).denied == denial(ek_sha256=(ek(1, 1), ek(1, 2)))
        assert store.admission_facts([ek(1)], at=NOW).denied is None

    def test_an_approved_swap_admits_its_ek_until_it_expires(self, store: Store) -> None:
        known = bear(store, 1)
        swap = approved_swap(store, known, ek(50))
        assert store.admission_facts([ek(50)], at=NOW + HOUR).swap == swap
        assert store.admission_facts([ek(9), ek(50)], at=NOW + HOUR).swap is None
        assert store.admission_facts([ek(50)], at=NOW + DAY).swap is None

    def test_everything_known_comes_at_once(self, store: Store) -> None:
        store.import_manifest([manifest_entry(1)])
        known = bear(store, 1)
        store.deny(denial(ek_sha256=(ek(5),)))
        facts = store.admission_facts([ek(1), ek(5)], at=NOW)
        assert facts == AdmissionFacts(manifest_entry(1), known, denial(ek_sha256=(ek(5),)), None)

    def test_a_denial_matches_id_or_serial_and_never_an_empty_one(self, store: Store) -> None:
        entry = denial(device_id="dev-000001", serial="SN-000001")
        store.deny(entry)
        store.deny(denial(ek_sha256=(ek(7),)))
        assert store.denied_match(device_id="dev-000001", serial="") == entry
        assert store.denied_match(device_id="dev-000009", serial="SN-000001") == entry
        assert store.denied_match(device_id="dev-000009", serial="SN-000009") is None
        assert store.denied_match(device_id="", serial="") is None

    def test_a_pending_enrollment_comes_back_as_it_went_in(self, store: Store) -> None:
        begun = pending(1, station="station-1", batch="lot-1", epoch=7)
        store.add_pending(begun, most_per_source=8)
        assert store.get_pending(begun.enrollment_id) == begun

    def test_an_unknown_or_repeated_enrollment_id_is_refused(self, store: Store) -> None:
        with pytest.raises(UnknownEnrollment):
            store.get_pending("none")
        store.add_pending(pending(1), most_per_source=8)
        with pytest.raises(AlreadyExists):
            store.add_pending(pending(1, nonce=b"other"), most_per_source=8)
        assert store.get_pending(pending(1).enrollment_id).nonce == b"nonce"

    @pytest.mark.parametrize(
        "changes",
        [{"source": "198.51.100.1"}, {"ak_name": b"another"}, {"key_name": b"another"}, {"ek_sha256": ek(2)}],
        ids=["source", "ak", "key", "ek"],
    )
    def test_too_many_challenges_of_one_source_hinder_no_other_source_ek_or_key(
        self, store: Store, changes: dict[str, Any]
    ) -> None:
        """A stranger behind the victim's own address knows its EK, which is no secret, but shows keys of his own."""
        store.add_pending(pending(1, "a"), most_per_source=2)
        store.add_pending(pending(1, "b"), most_per_source=2)
        with pytest.raises(TooManyPending) as caught:
            store.add_pending(pending(1, "c", created_at=NOW + MINUTE), most_per_source=2)
        assert caught.value.retry_after_s == 4 * 60 + 1
        store.add_pending(pending(1, "d", **changes), most_per_source=2)
        with pytest.raises(UnknownEnrollment):
            store.get_pending(pending(1, "c").enrollment_id)

    def test_expired_and_answered_challenges_do_not_count(self, store: Store) -> None:
        store.add_pending(pending(1, "old", created_at=NOW - HOUR, expires_at=NOW), most_per_source=1)
        store.add_pending(pending(1, "a"), most_per_source=1)
        store.commit_birth(birth(pending(1, "a"), device(1)))
        store.add_pending(pending(1, "b"), most_per_source=1)

    def test_an_expired_challenge_is_returned_until_it_is_purged(self, store: Store) -> None:
        begun = pending(1)
        store.add_pending(begun, most_per_source=8)
        assert store.purge_expired(at=NOW) == 0
        assert store.get_pending(begun.enrollment_id) == begun
        assert store.purge_expired(at=NOW + HOUR) == 1
        with pytest.raises(UnknownEnrollment):
            store.get_pending(begun.enrollment_id)

    def test_a_stored_answer_is_kept_for_its_time(self, store: Store) -> None:
        bear(store, 1)
        assert store.purge_expired(at=NOW + HOUR) == 0
        kept = store.get_pending(pending(1).enrollment_id)
        assert (kept.answer, kept.request_sha256) == (b"the answer", digest("activation"))
        assert kept.answer_expires_at == NOW + DAY
        assert store.purge_expired(at=NOW + 2 * DAY) == 2
        with pytest.raises(UnknownEnrollment):
            store.get_pending(pending(1).enrollment_id)
