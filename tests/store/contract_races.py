"""The contract under contention: several openings of one database, each with connections and locks of its own."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from birthmark_server.domain import BoardSwap, CertificateProfile, DeviceState, RevocationReason
from birthmark_server.store.protocol import Store
from store.values import (
    DAY,
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
    give_nonce,
    issuance,
    pending,
)
from store.world import World, outcomes, race

ROUNDS = 5


class RaceContract:
    """`store` has MODEL; `world` opens it again."""

    def test_what_one_replica_began_another_finishes(self, store: Store, world: World) -> None:
        other = world.open()
        begun = pending(1)
        store.add_pending(begun, most_per_source=8)
        other.commit_birth(birth(other.get_pending(begun.enrollment_id), device(1)))
        known = store.get_device("dev-000001")
        nonce = give_nonce(store, known.device_id)
        other.commit_issuance(issuance(known, "x", nonce))
        assert store.get_pending(begun.enrollment_id).answer == b"the answer"
        assert len(store.device_certificates(known.device_id)) == 2

    def test_of_two_ends_of_one_enrollment_exactly_one_wins(self, store: Store, world: World) -> None:
        stores = [store, world.open(), store, world.open()]
        for number in range(ROUNDS):
            begun = pending(number)
            store.add_pending(begun, most_per_source=8)
            births = [
                birth(begun, device(number), certificate=certificate(f"{number} {i}", f"dev-{number:06}"))
                for i in range(len(stores))
            ]
            results = race(*(partial(one.commit_birth, told) for one, told in zip(stores, births, strict=True)))
            assert outcomes(results) == {"ok": 1, "AlreadyConsumed": 3}
            assert len(store.device_certificates(f"dev-{number:06}")) == 1

    def test_of_two_enrollments_of_one_ek_exactly_one_is_born(self, store: Store, world: World) -> None:
        stores = [store, world.open()]
        for number in range(ROUNDS):
            births = []
            for name in ("a", "b"):
                store.add_pending(pending(number, name), most_per_source=8)
                births.append(birth(pending(number, name), device(number)))
            results = race(*(partial(one.commit_birth, told) for one, told in zip(stores, births, strict=True)))
            assert outcomes(results) == {"ok": 1, "DuplicateDevice": 1}

    def test_two_devices_never_share_an_ek_however_close(self, store: Store, world: World) -> None:
        stores = [store, world.open()]
        for number in range(0, 2 * ROUNDS, 2):
            births = []
            for each in (number, number + 1):
                store.add_pending(pending(each), most_per_source=8)
                births.append(birth(pending(each), device(each, ek_sha256=ek(number, 9))))
            results = race(*(partial(one.commit_birth, told) for one, told in zip(stores, births, strict=True)))
            assert outcomes(results) == {"ok": 1, "DuplicateDevice": 1}

    def test_no_certificate_is_born_after_a_revocation(self, store: Store, world: World) -> None:
        other = world.open()
        for number in range(2 * ROUNDS):
            known = bear(store, number)
            home = come_home(
                store,
                known,
                f"home {number}",
                certificate=certificate(f"home {number}", known.device_id, profile=CertificateProfile.IDEVID),
            )
            works: list[Callable[[], object]] = [
                partial(store.commit_issuance, issuance(known, "x", give_nonce(store, known.device_id))),
                partial(other.commit_birth, home),
                partial(other.revoke_device, known.device_id, reason=RevocationReason.UNSPECIFIED, at=NOW, by="alice"),
            ]
            results = race(*works)
            assert not isinstance(results[2], Exception), results
            assert set(outcomes(results[:2])) <= {"ok", "DeviceNotActive", "EpochChanged"}
            assert all(one.revoked_at is not None for one in store.device_certificates(known.device_id))

    def test_no_device_is_born_beside_its_denial(self, store: Store, world: World) -> None:
        other = world.open()
        for number in range(2 * ROUNDS):
            store.add_pending(pending(number), most_per_source=8)
            results = race(
                partial(store.commit_birth, birth(pending(number), device(number))),
                partial(other.deny, denial(ek_sha256=(ek(number),))),
            )
            assert results[1] == ([f"dev-{number:06}"] if results[0] is None else [])
            if results[0] is None:  # born first: then the denial found it
                assert store.get_device(f"dev-{number:06}").state is DeviceState.DENIED
                assert all(one.revoked_at for one in store.device_certificates(f"dev-{number:06}"))
            else:
                assert outcomes(results) == {"ok": 1, "DeniedDevice": 1}

    def test_a_quota_is_never_exceeded(self, store: Store, world: World) -> None:
        store.open_batch(batch(quota=3))
        stores = [store, world.open()] * 4
        works = []
        for number, each in enumerate(stores):
            store.add_pending(pending(number), most_per_source=8)
            works.append(partial(each.commit_birth, birth(pending(number), device(number, batch="lot-1"))))
        assert outcomes(race(*works)) == {"ok": 3, "QuotaExhausted": 5}
        assert store.get_batch("lot-1").used == 3
        assert len(store.list_devices(batch="lot-1")) == 3

    def test_a_nonce_is_consumed_once(self, store: Store, world: World) -> None:
        known = bear(store, 1)
        stores = [store, world.open(), store, world.open()]
        for number in range(ROUNDS):
            nonce = give_nonce(store, known.device_id, str(number))
            works = [
                partial(each.commit_issuance, issuance(known, f"{number} {i}", nonce)) for i, each in enumerate(stores)
            ]
            assert outcomes(race(*works)) == {"ok": 1, "NonceUnknown": 3}
        assert len(store.device_certificates(known.device_id)) == 1 + ROUNDS

    def test_a_source_never_gets_more_challenges_than_it_may(self, store: Store, world: World) -> None:
        stores = [store, world.open()] * 4
        works = [partial(each.add_pending, pending(1, str(i)), most_per_source=3) for i, each in enumerate(stores)]
        assert outcomes(race(*works)) == {"ok": 3, "TooManyPending": 5}

    def test_a_new_birth_key_is_granted_once_however_many_ask(self, store: Store, world: World) -> None:
        known = bear(store, 1)
        works = []
        for i, each in enumerate([store, world.open()]):
            home = come_home(
                store,
                replace(known, birth_spki_sha256=digest(f"key {i}")),
                f"rekey {i}",
                certificate=certificate(f"rekey {i}", known.device_id),
                revoke_previous=True,
            )
            works.append(partial(each.commit_birth, home))
        assert outcomes(race(*works)) == {"ok": 1, "EpochChanged": 1}
        assert sum(one.revoked_at is None for one in store.device_certificates(known.device_id)) == 1

    def test_a_swap_is_approved_once(self, store: Store, world: World) -> None:
        known = bear(store, 1)
        store.request_swap(BoardSwap(known.device_id, ek(50), "alice", NOW))
        works = [
            partial(each.approve_swap, known.device_id, by="bob", at=NOW, expires_at=NOW + DAY)
            for each in (store, world.open())
        ]
        assert outcomes(race(*works)) == {"ok": 1, "UnknownSwap": 1}

    def test_a_quota_of_certificates_holds_for_requests_that_come_together(self, store: Store, world: World) -> None:
        stores = [store, world.open()] * 3
        for number in range(ROUNDS):
            known = bear(store, number)
            works = [
                partial(each.commit_issuance, issuance(known, str(i), None, most_per_day=3))
                for i, each in enumerate(stores)
            ]
            assert outcomes(race(*works)) == {"ok": 2, "TooManyCertificates": 4}

    def test_a_key_is_certified_once_for_requests_that_come_together(self, store: Store, world: World) -> None:
        stores = [store, world.open()] * 2
        for number in range(ROUNDS):
            known = bear(store, number)
            records = [certificate(f"{number} {i}", known.device_id, spki_sha256="05" * 32) for i in range(4)]
            works = [
                partial(each.commit_issuance, issuance(known, "x", None, certificate=record))
                for each, record in zip(stores, records, strict=True)
            ]
            assert outcomes(race(*works)) == {"ok": 1, "KeyUsedBefore": 3}

    def test_crl_numbers_are_each_given_once(self, store: Store, world: World) -> None:
        stores = [store, world.open()] * 5
        numbers = race(*(partial(each.next_crl, "15" * 32, at=NOW) for each in stores))
        assert sorted(issue.number for issue in numbers) == list(range(1, 11))

    @pytest.mark.timeout(60)
    def test_denials_swaps_births_and_revocations_together_never_lock_up(self, store: Store, world: World) -> None:
        other = world.open()
        for number in range(0, 3 * ROUNDS, 3):
            first, second = bear(store, number), bear(store, number + 1)
            store.add_pending(pending(number + 2), most_per_source=8)
            results = race(
                partial(store.deny, denial(device_id=first.device_id, ek_sha256=(ek(number + 1, 1),))),
                partial(other.revoke_device, second.device_id, reason=RevocationReason.UNSPECIFIED, at=NOW, by="alice"),
                partial(other.commit_issuance, issuance(first, "x", None)),
                partial(store.request_swap, BoardSwap(second.device_id, ek(1000 + number), "alice", NOW)),
                partial(other.commit_birth, birth(pending(number + 2), device(number + 2))),
                partial(store.touch_device, second.device_id, at=NOW + MINUTE),
            )
            assert set(outcomes(results)) <= {"ok", "DeviceNotActive", "EpochChanged"}
            assert store.get_device(first.device_id).state is DeviceState.DENIED
            assert store.get_device(second.device_id).state is DeviceState.DENIED
