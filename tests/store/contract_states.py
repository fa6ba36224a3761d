"""The contract: where a device may be moved from and to, and what becomes of its certificates."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product

import pytest

from birthmark_server.domain import Device, DeviceRevocation, DeviceState, RevocationReason
from birthmark_server.store.device_states import MOVES, Act
from birthmark_server.store.errors import DeviceNotActive, EpochChanged, IllegalMove, UnknownDevice
from birthmark_server.store.protocol import Store
from store.values import HOUR, NOW, bear, come_home, denial, issuance
from store.world import World, race

COMPROMISE = RevocationReason.KEY_COMPROMISE
RETIRED = RevocationReason.CESSATION_OF_OPERATION
ROUNDS = 5

ACTS: dict[Act, Callable[[Store, str], object]] = {
    Act.QUARANTINE: lambda store, of: store.quarantine_device(of, at=NOW, by="alice", note="odd traffic"),
    Act.RESTORE: lambda store, of: store.restore_device(of, at=NOW, by="bob"),
    Act.REVOKE: lambda store, of: store.revoke_device(of, reason=COMPROMISE, at=NOW, by="alice"),
    Act.READMIT: lambda store, of: store.readmit_device(of, at=NOW, by="bob"),
    Act.RETIRE: lambda store, of: store.retire_device(of, reason=RETIRED, at=NOW, by="alice", note="sold"),
    Act.DENY: lambda store, of: store.deny(denial(device_id=of)),
}
WAY: dict[DeviceState, tuple[Act, ...]] = {
    DeviceState.ACTIVE: (),
    DeviceState.QUARANTINED: (Act.QUARANTINE,),
    DeviceState.REVOKED: (Act.REVOKE,),
    DeviceState.RETIRED: (Act.RETIRE,),
    DeviceState.DENIED: (Act.DENY,),
}


def living(store: Store, of: Device) -> int:
    return sum(one.revoked_at is None for one in store.device_certificates(of.device_id))


class StateContract:
    """`store` has MODEL; `world` opens it again."""

    @pytest.mark.parametrize(("state", "act"), list(product(DeviceState, Act)))
    def test_a_device_moves_as_the_table_says_and_no_other_way(
        self, store: Store, state: DeviceState, act: Act
    ) -> None:
        known = bear(store, 1)
        for step in WAY[state]:
            ACTS[step](store, known.device_id)
        before = store.get_device(known.device_id)
        assert before.state is state
        after = MOVES.get((state, act))
        if after is None:
            with pytest.raises(IllegalMove, match=f"{known.device_id} is {state}"):
                ACTS[act](store, known.device_id)
            assert store.get_device(known.device_id) == before
        else:
            ACTS[act](store, known.device_id)
            now_known = store.get_device(known.device_id)
            assert (now_known.state, now_known.epoch) == (after, before.epoch + 1)
            assert (living(store, known) > 0) == (after is DeviceState.QUARANTINED or act is Act.RESTORE), (
                "only what was never more than quarantined has its certificates"
            )

    @pytest.mark.parametrize("act", [act for act in Act if act is not Act.DENY])
    def test_what_is_not_on_record_is_not_moved(self, store: Store, act: Act) -> None:
        with pytest.raises(UnknownDevice):
            ACTS[act](store, "none")

    def test_a_quarantine_shuts_out_and_its_end_gives_back_what_was_there(self, store: Store) -> None:
        known = bear(store, 1)
        told = issuance(known, "x", None)
        store.commit_issuance(told)
        count = store.count_revoked(told.certificate.issuer_sha256)
        shut_out = store.quarantine_device(known.device_id, at=NOW, by="alice", note="odd traffic")
        with pytest.raises(DeviceNotActive):
            store.commit_issuance(issuance(shut_out, "y", None))
        with pytest.raises(DeviceNotActive):
            store.commit_birth(come_home(store, shut_out, "home"))
        found = store.certificate_by_sha256(told.certificate.sha256)
        assert found == (told.certificate, store.get_device(known.device_id))
        assert store.count_revoked(told.certificate.issuer_sha256) == count
        restored = store.restore_device(known.device_id, at=NOW + HOUR, by="bob")
        with pytest.raises(EpochChanged):  # what began before the quarantine
            store.commit_issuance(issuance(known, "y", None))
        store.commit_issuance(issuance(restored, "y", None))
        assert store.device_revocations(known.device_id) == [
            DeviceRevocation(
                known.device_id,
                2,
                RevocationReason.UNSPECIFIED,
                NOW,
                "alice",
                NOW + HOUR,
                "bob",
                DeviceState.QUARANTINED,
                "odd traffic",
            )
        ]

    def test_a_retired_device_loses_every_certificate_and_says_why(self, store: Store) -> None:
        known = bear(store, 1)
        (taken,) = store.retire_device(known.device_id, reason=RETIRED, at=NOW, by="alice", note="sold")
        assert (taken.reason, taken.revoked_by) == (RETIRED, "alice")
        (row,) = store.device_revocations(known.device_id)
        assert (row.state, row.note, row.reason) == (DeviceState.RETIRED, "sold", RETIRED)

    def test_a_readmission_after_a_quarantine_lifts_both(self, store: Store) -> None:
        known = bear(store, 1)
        for act in (Act.QUARANTINE, Act.REVOKE, Act.READMIT):
            ACTS[act](store, known.device_id)
        assert [row.lifted_by for row in store.device_revocations(known.device_id)] == ["bob", "bob"]

    @pytest.mark.parametrize("act", [Act.QUARANTINE, Act.REVOKE, Act.RETIRE, Act.DENY])
    def test_nothing_in_flight_is_issued_after_the_device_was_shut_out(
        self, store: Store, world: World, act: Act
    ) -> None:
        """Renewal, repeated birth and the act at one moment: whatever was issued, was issued before."""
        other, third = world.open(), world.open()
        for number in range(ROUNDS):
            known = bear(store, number)
            home = come_home(store, known, f"home {number}")
            results = race(
                partial(other.commit_issuance, issuance(known, "x", None)),
                partial(ACTS[act], store, known.device_id),
                partial(third.commit_birth, home),
            )
            assert not isinstance(results[1], Exception)
            for result in (results[0], results[2]):
                assert result is None or isinstance(result, DeviceNotActive | EpochChanged) or act is Act.DENY
            shut_out = store.get_device(known.device_id)
            assert shut_out.state is MOVES[DeviceState.ACTIVE, act]
            issued = len(store.device_certificates(known.device_id))
            assert issued == (2 if results[0] is None else 1)
            assert living(store, known) == (issued if act is Act.QUARANTINE else 0)
            for epoch in (known.epoch, shut_out.epoch):  # whatever a request in flight knows of it
                with pytest.raises(DeviceNotActive):
                    other.commit_issuance(issuance(replace(known, epoch=epoch), "late", None))
            assert len(store.device_certificates(known.device_id)) == issued
