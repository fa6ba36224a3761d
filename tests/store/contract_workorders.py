"""The contract: work orders, blocks of serial numbers, what stations sign; lines taken off the manifest."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any

import pytest

from birthmark_server.domain import CertificateProfile, DeviceModel, DeviceState, ManifestEntry, RevocationReason
from birthmark_server.store.errors import (
    AlreadyExists,
    BornAlready,
    DeniedDevice,
    DuplicateEk,
    DuplicateMac,
    DuplicateSerial,
    EntryOutOfTime,
    EntryWithdrawn,
    ForeignModel,
    SerialNotGiven,
    SerialsExhausted,
    StationRevoked,
    UnknownEnrollment,
    UnknownLine,
    UnknownModel,
    UnknownUnit,
    UnknownWorkOrder,
    WorkOrderClosed,
)
from birthmark_server.store.journal import read_journal
from birthmark_server.store.journal_entries import Entry, ManifestRemoved, from_json, to_json
from birthmark_server.store.sql.store import SqlStore
from birthmark_server.workorders import StationEntry, UnitOnRecord, WorkOrder, WorkOrderCount
from store.values import (
    DAY,
    HOUR,
    MINUTE,
    MODEL,
    NOW,
    batch,
    bear,
    birth,
    certificate,
    denial,
    device,
    ek,
    manifest_entry,
    pending,
)
from store.world import World, outcomes, race

ORDER = WorkOrder("WO-1", MODEL.name, 20, "SN-{:06}@0", "carol", NOW, NOW + 30 * DAY)


STATION = certificate("line-1", profile=CertificateProfile.STATION)


def create(store: SqlStore, order: WorkOrder = ORDER) -> WorkOrder:
    """And the station that works on it."""
    if store.certificate_by_sha256(STATION.sha256) is None:
        store.add_infrastructure_certificate(STATION, by="carol")
    return store.workorders.create(order.name, lambda _known: order)


def take(store: SqlStore, count: int = 5, *, station: str = "line-1", **changes: Any) -> tuple[int, int]:
    block = store.workorders.take_serials(
        changes.pop("name", ORDER.name), station=station, count=count, at=NOW, **changes
    )
    return block.first, block.count


def entry(place: int, **changes: Any) -> StationEntry:
    """As the server makes it of what a station signed."""
    new = StationEntry(
        sha256="",
        workorder=ORDER.name,
        place=place,
        serial=f"SN-{place:06}",
        model=MODEL.name,
        ek_sha256=ek(place),
        mac=f"02:00:00:00:00:{place:02x}",
        device_id=f"dev-{place:06}",
        station="line-1",
        station_sha256=STATION.sha256,
        operator="erin",
        made_at=NOW + MINUTE,
        brought_by="station:line-1",
        brought_at=NOW + HOUR,
        jws=b"",
    )
    new = replace(new, **changes)
    jws = changes.get("jws", repr(new).encode())
    return replace(new, jws=jws, sha256=sha256(jws).hexdigest())


class WorkOrderContract:
    """`store` has MODEL."""

    def test_a_station_that_was_revoked_a_moment_ago_has_nobody_expected(self, store: SqlStore) -> None:
        create(store)
        take(store)
        store.workorders.admit(entry(0))
        store.revoke_certificate(STATION.sha256, reason=RevocationReason.KEY_COMPROMISE, at=NOW, by="carol")
        with pytest.raises(StationRevoked):
            store.workorders.admit(entry(1))
        assert store.workorders.count(ORDER.name).entries == 1

    def test_a_work_order_comes_back_as_it_went_in_and_is_there_once(self, store: SqlStore) -> None:
        assert create(store) == ORDER
        assert store.workorders.get("WO-1") == ORDER
        with pytest.raises(AlreadyExists, match="WO-1"):
            create(store, replace(ORDER, quantity=3))
        with pytest.raises(UnknownModel):
            create(store, replace(ORDER, name="WO-2", model="none"))
        with pytest.raises(UnknownWorkOrder):
            store.workorders.get("WO-2")
        assert store.workorders.count("WO-1") == WorkOrderCount(0, 0, 0)

    def test_a_new_one_is_decided_knowing_all_that_are_there(self, store: SqlStore) -> None:
        create(store)
        seen: list[Sequence[WorkOrder]] = []

        def decide(known: Sequence[WorkOrder]) -> WorkOrder:
            seen.append(known)
            return replace(ORDER, name="WO-2")

        assert store.workorders.create("WO-2", decide).name == "WO-2"
        assert seen == [[ORDER]]
        assert [order.name for order in store.workorders.page(limit=1)] == ["WO-1"]
        assert [order.name for order in store.workorders.page(after="WO-1")] == ["WO-2"]

    def test_a_batch_and_a_work_order_never_have_one_name(self, store: SqlStore) -> None:
        create(store)
        with pytest.raises(AlreadyExists, match="a work order WO-1"):
            store.open_batch(batch("WO-1"))
        store.open_batch(batch("lot-1"))
        with pytest.raises(AlreadyExists, match="a batch lot-1"):
            create(store, replace(ORDER, name="lot-1"))

    def test_closing_closes_for_good(self, store: SqlStore) -> None:
        create(store)
        closed = store.workorders.close("WO-1", at=NOW + HOUR, by="carol")
        assert closed == replace(ORDER, closed_at=NOW + HOUR, closed_by="carol")
        assert store.workorders.close("WO-1", at=NOW + DAY, by="dave") == closed
        with pytest.raises(UnknownWorkOrder):
            store.workorders.close("WO-2", at=NOW, by="carol")

    # -- blocks
    def test_blocks_follow_one_another_until_the_quantity_is_reached(self, store: SqlStore) -> None:
        create(store)
        assert [take(store, 8), take(store, 8, station="line-2"), take(store, 8)] == [(0, 8), (8, 8), (16, 4)]
        with pytest.raises(SerialsExhausted, match="all its 20"):
            take(store, 1)
        assert [block.station for block in store.workorders.blocks("WO-1")] == ["line-1", "line-2", "line-1"]
        assert store.workorders.count("WO-1").given == 20

    def test_a_closed_or_ended_work_order_gives_none(self, store: SqlStore) -> None:
        create(store)
        with pytest.raises(WorkOrderClosed, match="ended"):
            store.workorders.take_serials("WO-1", station="line-1", count=1, at=ORDER.closes_at)
        store.workorders.close("WO-1", at=NOW, by="carol")
        with pytest.raises(WorkOrderClosed, match="closed"):
            take(store)
        with pytest.raises(UnknownWorkOrder):
            take(store, name="WO-2")

    def test_two_stations_that_take_blocks_at_once_never_share_a_place(self, store: SqlStore, world: World) -> None:
        create(store, replace(ORDER, quantity=200))
        stores = [store, world.open(), store, world.open()]
        works: list[Callable[[], Any]] = [
            partial(take, one, 7, station=f"line-{number}") for number, one in enumerate(stores * 8)
        ]
        results = race(*works)
        given = [place for result in results if isinstance(result, tuple) for place in range(result[0], sum(result))]
        assert sorted(given) == list(range(200))
        assert outcomes(results) == {"ok": 29, "SerialsExhausted": 3}

    # -- entries
    def test_an_entry_makes_the_device_expected_for_its_work_order(self, store: SqlStore) -> None:
        create(store)
        take(store)
        assert store.workorders.admit(entry(2)) == entry(2)
        line = ManifestEntry(ek(2), "SN-000002", MODEL.name, "dev-000002", "station:line-1", NOW + HOUR, "WO-1")
        assert store.list_manifest() == [line]
        assert store.admission_facts([ek(2)], at=NOW).manifest == line
        assert store.workorders.unit("SN-000002") == UnitOnRecord(entry(2), None)
        assert store.workorders.count("WO-1") == WorkOrderCount(5, 1, 0)

    def test_its_birth_counts_for_the_work_order_and_needs_no_batch(self, store: SqlStore) -> None:
        create(store)
        take(store)
        store.workorders.admit(entry(1))
        born = bear(store, 1, batch="WO-1")
        assert born.batch == "WO-1"
        assert store.workorders.unit("SN-000001").device == born
        assert store.workorders.count("WO-1") == WorkOrderCount(5, 1, 1)

    def test_the_same_unit_again_changes_nothing(self, store: SqlStore) -> None:
        create(store)
        take(store)
        first = store.workorders.admit(entry(1))
        again = entry(1, made_at=NOW + 2 * MINUTE, brought_at=NOW + 2 * HOUR)  # signed anew: another JWS
        assert store.workorders.admit(again) == first
        assert store.workorders.admit(entry(1)) == first
        bear(store, 1, batch="WO-1")
        assert store.workorders.admit(entry(1)) == first
        assert len(store.list_manifest()) == 1
        assert store.workorders.count("WO-1").entries == 1

    @pytest.mark.parametrize(
        ("place", "changes", "error", "names"),
        [
            (1, {"ek_sha256": ek(2), "mac": ""}, DuplicateSerial, ek(1)),
            (2, {"ek_sha256": ek(1)}, DuplicateEk, "serial number SN-000001"),
            (2, {"mac": "02:00:00:00:00:01"}, DuplicateMac, "serial number SN-000001"),
        ],
        ids=["serial", "ek", "mac"],
    )
    def test_what_another_unit_has_is_refused_naming_it(
        self, store: SqlStore, place: int, changes: dict[str, Any], error: type[Exception], names: str
    ) -> None:
        create(store)
        take(store)
        store.workorders.admit(entry(1))
        with pytest.raises(error, match=names):
            store.workorders.admit(entry(place, **changes))
        assert store.workorders.count("WO-1").entries == 1
        assert len(store.list_manifest()) == 1

    def test_devices_without_a_mac_do_not_share_one(self, store: SqlStore) -> None:
        create(store)
        take(store)
        for place in (1, 2):
            store.workorders.admit(entry(place, mac=""))
        assert store.workorders.count("WO-1").entries == 2

    def test_what_a_device_on_record_has_is_refused_too(self, store: SqlStore) -> None:
        create(store)
        take(store)
        bear(store, 1)
        with pytest.raises(DuplicateSerial, match="device dev-000001"):
            store.workorders.admit(entry(1, ek_sha256=ek(77)))
        with pytest.raises(DuplicateEk, match="device dev-000001"):
            store.workorders.admit(entry(2, ek_sha256=ek(1)))
        with pytest.raises(DuplicateSerial, match="dev-000001"):
            store.workorders.admit(entry(2, device_id="dev-000001"))
        assert store.workorders.admit(entry(1)) == entry(1)  # it is this very device

    def test_a_manifest_line_that_came_another_way_counts(self, store: SqlStore) -> None:
        create(store)
        take(store)
        store.import_manifest([manifest_entry(1), manifest_entry(9, serial="SN-000002")])
        assert store.workorders.admit(entry(1)) == entry(1)
        with pytest.raises(DuplicateSerial, match="imported by alice"):
            store.workorders.admit(entry(2))

    def test_a_serial_number_must_be_in_a_block_of_that_station(self, store: SqlStore) -> None:
        create(store)
        take(store, 2)
        take(store, 2, station="line-2")
        with pytest.raises(SerialNotGiven, match="given to station line-2, not to line-1"):
            store.workorders.admit(entry(2))
        with pytest.raises(SerialNotGiven, match="given to no station yet"):
            store.workorders.admit(entry(4))
        with pytest.raises(UnknownWorkOrder):
            store.workorders.admit(entry(0, workorder="WO-2"))
        assert store.list_manifest() == []

    def test_a_foreign_model_is_refused(self, store: SqlStore) -> None:
        create(store)
        take(store)
        store.add_model(DeviceModel("edge-2", "rsa-2048"), by="alice")
        with pytest.raises(ForeignModel, match="is for model edge-1, the entry is for edge-2"):
            store.workorders.admit(entry(1, model="edge-2"))

    def test_the_work_order_is_judged_as_it_was_when_the_station_signed(self, store: SqlStore) -> None:
        create(store)
        take(store)
        store.workorders.close("WO-1", at=NOW + HOUR, by="carol")
        late = {"brought_at": NOW + 60 * DAY}
        assert store.workorders.admit(entry(1, **late)).place == 1
        with pytest.raises(WorkOrderClosed, match="closed"):
            store.workorders.admit(entry(2, made_at=NOW + HOUR, **late))
        with pytest.raises(WorkOrderClosed):
            store.workorders.admit(entry(2, made_at=ORDER.closes_at + MINUTE, **late))

    @pytest.mark.parametrize("off", [timedelta(days=-365), timedelta(days=365)], ids=["behind", "ahead"])
    def test_a_clock_that_is_wrong_by_a_year_is_refused_with_both_times(self, store: SqlStore, off: timedelta) -> None:
        create(store)
        take(store)
        with pytest.raises(EntryOutOfTime, match=f"{NOW + off:%Y}-.*which is now"):
            store.workorders.admit(entry(1, made_at=NOW + off))
        assert store.workorders.admit(entry(1, made_at=NOW - MINUTE)).place == 1

    def test_what_is_denied_is_not_expected_again(self, store: SqlStore) -> None:
        create(store)
        take(store)
        store.deny(denial(ek_sha256=(ek(1),)))
        with pytest.raises(DeniedDevice):
            store.workorders.admit(entry(1))
        assert store.list_manifest() == []

    def test_of_two_entries_that_share_a_tpm_one_is_taken_however_close(self, store: SqlStore, world: World) -> None:
        create(store)
        take(store, 20)
        stores = [store, world.open()]
        for place in range(0, 10, 2):
            entries = [entry(place), entry(place + 1, ek_sha256=ek(place))]
            works = [partial(one.workorders.admit, told) for one, told in zip(stores, entries, strict=True)]
            assert outcomes(race(*works)) == {"ok": 1, "DuplicateEk": 1}

    def test_an_unknown_unit_is_refused(self, store: SqlStore) -> None:
        with pytest.raises(UnknownUnit):
            store.workorders.unit("SN-000001")

    # -- removal
    def test_a_line_that_is_removed_leaves_room_for_the_right_one(self, store: SqlStore) -> None:
        store.import_manifest([manifest_entry(1)])
        assert store.remove_line("SN-000001", at=NOW + MINUTE, by="dave") == manifest_entry(1)
        assert store.list_manifest() == []
        assert store.admission_facts([ek(1)], at=NOW).manifest is None
        assert store.import_manifest([manifest_entry(1, ek_sha256=ek(1, 5))]) == 1
        with pytest.raises(UnknownLine):
            store.remove_line("SN-000009", at=NOW, by="dave")

    def test_a_removed_line_ends_what_was_begun_by_it(self, store: SqlStore) -> None:
        store.import_manifest([manifest_entry(1)])
        store.add_pending(pending(1), most_per_source=8)
        store.remove_line("SN-000001", at=NOW + MINUTE, by="dave")
        with pytest.raises(UnknownEnrollment):
            store.commit_birth(birth(pending(1), device(1)))
        assert store.count_devices().get(DeviceState.ACTIVE, 0) == 0

    def test_a_line_by_which_a_device_was_born_stays(self, store: SqlStore) -> None:
        store.import_manifest([manifest_entry(1)])
        bear(store, 1)
        with pytest.raises(BornAlready, match="dev-000001"):
            store.remove_line("SN-000001", at=NOW, by="dave")
        assert store.list_manifest() == [manifest_entry(1)]

    def test_a_removed_unit_frees_its_serial_number_its_ek_and_its_mac(self, store: SqlStore) -> None:
        create(store)
        take(store)
        store.workorders.admit(entry(1))
        store.remove_line("SN-000001", at=NOW + 2 * HOUR, by="dave")
        with pytest.raises(UnknownUnit):
            store.workorders.unit("SN-000001")
        with pytest.raises(EntryWithdrawn, match="SN-000001"):
            store.workorders.admit(entry(1))
        again = entry(2, ek_sha256=ek(1), mac=entry(1).mac, made_at=NOW + 3 * HOUR, brought_at=NOW + 3 * HOUR)
        assert store.workorders.admit(again) == again
        other = entry(1, ek_sha256=ek(9), mac="", made_at=NOW + 3 * HOUR, brought_at=NOW + 3 * HOUR)
        assert store.workorders.admit(other) == other

    # -- restore
    def test_a_restored_backup_forgets_no_work_order_no_block_and_no_entry(
        self, store: SqlStore, world: World, other_world: World
    ) -> None:
        _a_shift(store)
        restored = _backup(other_world)
        told = _told(world)
        assert restored.replay(told) == len(told)
        assert _record(restored) == _record(store)
        assert restored.replay(told) == 0
        assert take(restored, 3, name="WO-2") == (5, 3)
        with pytest.raises(EntryWithdrawn):
            restored.workorders.admit(entry(3))

    def test_the_order_of_the_journal_does_not_matter(self, store: SqlStore, world: World, other_world: World) -> None:
        _a_shift(store)
        restored = _backup(other_world)
        restored.replay(_told(world)[::-1])
        assert _record(restored) == _record(store)

    def test_the_journals_lines_hold_them(self, store: SqlStore, world: World) -> None:
        _a_shift(store)
        told = _told(world)
        assert [from_json(to_json(each)) for each in told] == told
        assert ManifestRemoved(ek(3), "SN-000003", NOW + HOUR, NOW + 2 * HOUR, "dave") in told
        old = to_json(manifest_entry(1))
        del old["batch"]
        assert from_json(old) == manifest_entry(1)


def _a_shift(store: SqlStore) -> None:
    create(store)
    create(store, replace(ORDER, name="WO-2"))
    take(store, 5)
    take(store, 5, name="WO-2")
    for place in (1, 3):
        store.workorders.admit(entry(place))
    bear(store, 1, batch="WO-1")
    store.remove_line("SN-000003", at=NOW + 2 * HOUR, by="dave")
    store.workorders.close("WO-1", at=NOW + 3 * HOUR, by="carol")


def _record(store: SqlStore) -> list[Any]:
    orders = store.workorders.page()
    return [
        orders,
        [store.workorders.blocks(order.name) for order in orders],
        [store.workorders.count(order.name) for order in orders],
        store.list_manifest(),
        store.workorders.unit("SN-000001"),
    ]


def _told(world: World) -> list[Entry]:
    return [each for line in read_journal(world.folder / "journal-0") for each in line.entries]


def _backup(other_world: World) -> SqlStore:
    return other_world.open(create=True)
