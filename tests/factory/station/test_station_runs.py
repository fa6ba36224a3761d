"""Runs of a station with devices in software: what comes of each, and what of the others."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birthmark_server.factory.desk import FactoryRefused, ServerUnreachable
from birthmark_server.factory.errors import FactoryError
from birthmark_server.factory.station.courier import Courier
from birthmark_server.factory.station.errors import LineStopped, RecordNotWritten
from birthmark_server.factory.station.events import AttemptBegun, AttemptEnded, Event, PhaseEnded, Quarantined
from birthmark_server.factory.station.known import EntryStanding
from birthmark_server.factory.target import Target
from birthmark_server.factory.values import PHASES, Outcome, Phase
from support.factory_plant import Plant, serial_of
from support.factory_sim import Broken, CableOut, Cut, SimulatedDevice, SimulatedTarget, Steps

Make = Callable[[int], Plant]


def all_made(plant: Plant, quantity: int) -> None:
    """Each unit passed, was born once, as one device of its own, and nothing waits."""
    known = plant.known()
    serials = {serial_of(place) for place in range(quantity)}
    assert {serial for serial, unit in known.units.items() if unit.is_made} == serials
    assert set(plant.desk.births) == serials
    assert len({unit.ek_sha256 for unit in known.units.values()}) == quantity
    assert not known.waiting
    assert sorted(plant.desk.brought) == sorted(serials)
    assert {device.record.serial for device in plant.devices if device.is_locked and device.record} == serials


@pytest.mark.parametrize("slots", [1, 4])
def test_a_work_order_is_made(make_plant: Make, slots: int) -> None:
    plant = make_plant(9)
    runner = plant.run(slots)
    all_made(plant, 9)
    phases = [event.result.phase for event in plant.events() if isinstance(event, PhaseEnded)]
    assert len(phases) == 9 * len(PHASES)
    view = runner.view()
    assert (view.made, view.first_pass_yield, view.failed, view.awaiting) == (9, 1.0, 0, 0)
    assert sorted(plant.labels) == [serial_of(place) for place in range(9)]


def test_a_second_run_has_nothing_to_do(make_plant: Make) -> None:
    plant = make_plant(2)
    plant.run()
    plant.run()
    all_made(plant, 2)
    assert sum(isinstance(event, AttemptBegun) for event in plant.events()) == 2


def test_a_device_that_passed_is_done_again_when_asked(make_plant: Make) -> None:
    plant = make_plant(1)
    plant.run(feeding=False)
    plant.run(again=(serial_of(0),), feeding=False)
    all_made(plant, 1)
    assert plant.devices[0].flashes == 2
    assert plant.known().units[serial_of(0)].attempts == 2


def test_another_device_in_the_place_of_one_to_do_again_is_refused(make_plant: Make) -> None:
    plant = make_plant(1)
    plant.run()
    plant.in_slot[1] = plant.device()
    plant.run(again=(serial_of(0),), feeding=False)
    assert plant.known().units[serial_of(0)].code == "wrong-device"
    assert len(plant.desk.births) == 1


def stepping(steps: Steps) -> Callable[[Event], None]:
    """Each line of the record is a step."""
    return lambda event: steps.step(type(event).__name__)()


def total_steps(make_plant: Make, *, later: bool = False, down_at: int = -1) -> int:
    """How many steps an uninterrupted run takes."""
    plant = make_plant(2)
    steps = Steps()
    plant.power(steps)
    runner = plant.runner(later=later, watcher=stepping(steps))
    runner.work_at(runner.slots[0])
    runner.bench.line.close()
    return len(steps.taken)


@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
def test_the_power_may_go_at_any_step(make_plant: Make, behind: bool) -> None:
    total = total_steps(make_plant)
    assert total > 30
    for cut in range(total):
        plant = make_plant(2)
        steps = Steps(cut, behind)
        plant.power(steps)
        runner = plant.runner(watcher=stepping(steps))
        with suppress(Cut):  # behind what the server refused, it does not go
            runner.work_at(runner.slots[0])
        runner.bench.line.close()
        plant.power()
        plant.run()
        all_made(plant, 2)
        assert len(plant.devices) == 2, steps.taken[cut]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=6))
def test_the_power_may_go_again_and_again(make_plant: Make, cuts: list[tuple[int, bool]]) -> None:
    plant = make_plant(3)
    for cut, behind in cuts:
        steps = Steps(cut, behind)
        plant.power(steps)
        runner = plant.runner(watcher=stepping(steps))
        with suppress(Cut):
            runner.work_at(runner.slots[0])
        runner.bench.line.close()
    plant.power()
    plant.run()
    all_made(plant, 3)
    assert len(plant.devices) == 3


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_power_and_server_may_go_and_come_and_nothing_is_lost_or_there_twice(
    make_plant: Make, runs: list[tuple[int, bool, bool]]
) -> None:
    plant = make_plant(3)
    for cut, behind, down in runs:
        steps = Steps(cut, behind)
        plant.power(steps)
        plant.desk.is_down = down
        runner = plant.runner(later=True, watcher=stepping(steps))
        with suppress(Cut):
            runner.work_at(runner.slots[0])
        runner.bench.line.close()
    plant.desk.is_down = False
    plant.power()
    plant.run(later=True)
    _courier(plant, later=True)
    for device in plant.devices:  # those that left unborn boot, far away
        if device.record is not None and device.record.serial not in plant.desk.births:
            plant.desk.prove(device.tpm, device.record)
    plant.desk.seen = set(plant.desk.births)
    _courier(plant, later=True)
    all_made(plant, 3)
    assert len(plant.devices) == 3


def test_an_error_is_tried_again_in_the_same_slot_with_the_same_serial_number(make_plant: Make) -> None:
    plant = make_plant(1)
    plant.in_slot[1] = device = plant.device()
    device.faults["identify"] = [CableOut("no answer within 10 s")]
    plant.run(feeding=False)
    all_made(plant, 1)
    unit = plant.known().units[serial_of(0)]
    assert (unit.attempts, unit.stumbles) == (2, 1)
    assert device.flashes == 2


@pytest.mark.parametrize("method", ["flash", "identify", "attest", "self_test", "lock"])
def test_a_device_that_fails_stops_no_other(make_plant: Make, method: str) -> None:
    plant = make_plant(5)
    plant.in_slot[2] = bad = plant.device()
    bad.faults[method] = [Broken("want 1, got 0")]
    slots = {1: plant.next_device(1), 2: lambda _: True}
    runner = plant.runner(2)
    runner.slots = [type(slot)(slot.number, slot.open, slot.limits, ready=slots[slot.number]) for slot in runner.slots]
    failed_once = threading.Event()

    def open_bad(serial: str) -> Target:
        device = plant.device() if failed_once.is_set() else bad
        failed_once.set()
        return SimulatedTarget(device, plant.desk, plant.steps)

    runner.slots[1] = type(runner.slots[1])(2, open_bad, runner.slots[1].limits, ready=lambda _: True)
    runner.run()
    runner.bench.line.close()
    ended = [event for event in plant.events() if isinstance(event, AttemptEnded)]
    assert [event.code for event in ended if event.outcome is Outcome.FAIL] == ["broken"]
    nobody_knew_it = method in ("flash", "identify")
    assert sum(unit.is_made for unit in plant.known().units.values()) == (5 if nobody_knew_it else 4)
    assert runner.view().failed == 1


def test_a_slot_where_nothing_passes_stops_and_the_others_go_on(make_plant: Make) -> None:
    plant = make_plant(20)
    runner = plant.runner(2)

    def open_bad(serial: str) -> Target:
        device = plant.device()
        device.faults["identify"] = [Broken("want an answer, got none")]
        return SimulatedTarget(device, plant.desk, plant.steps)

    good, bad = runner.slots
    runner.slots = [good, replace(bad, open=open_bad)]
    runner.run()
    runner.bench.line.close()
    slot = runner.bench.slots.all()[1]
    assert (slot.state, slot.detail) == ("stopped", "5 attempts in a row did not pass here")
    assert len(plant.desk.births) == 20


def test_what_nobody_foresaw_is_an_error_of_its_slot_alone(make_plant: Make) -> None:
    plant = make_plant(3)
    plant.in_slot[1] = device = plant.device()
    device.faults["flash"] = [ZeroDivisionError("division by zero")] * 2
    runner = plant.runner(2)
    runner.run()
    runner.bench.line.close()
    results = [event.result for event in plant.events() if isinstance(event, PhaseEnded)]
    faults = [result for result in results if result.code == "slot-fault"]
    assert all("ZeroDivisionError: division by zero" in result.detail for result in faults)
    all_but = [unit for unit in plant.known().units.values() if unit.is_made]
    assert len(all_but) >= 2


def test_a_device_that_hangs_is_let_go_of(make_plant: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("birthmark_server.factory.station.attempt.GRACE_S", 0.05)
    plant = make_plant(1)
    device = plant.device()

    def open_target(serial: str) -> Target:
        return SimulatedTarget(device, plant.desk, plant.steps, {"identify": threading.Event()})

    plant.run(feeding=False, open_target=lambda _: open_target, limit=timedelta(seconds=0.05))
    results = [event.result for event in plant.events() if isinstance(event, PhaseEnded)]
    assert [result.code for result in results if result.phase is Phase.IDENTIFY] == ["phase-too-long"] * 2


def test_a_flash_that_takes_too_long_ends(make_plant: Make) -> None:
    plant = make_plant(1)
    plant.run(feeding=False, limit=timedelta(seconds=-1))
    results = [event.result for event in plant.events() if isinstance(event, PhaseEnded)]
    assert {(result.phase, result.code) for result in results} == {(Phase.FLASH, "phase-too-long")}


def test_a_line_that_is_stopped_records_it_and_goes_on_later(make_plant: Make) -> None:
    plant = make_plant(2)
    runner = plant.runner(watcher=lambda event: _stop_at(plant, event, Phase.IDENTIFY))
    runner.run()
    runner.bench.line.close()
    *_, ended = [event for event in plant.events() if isinstance(event, AttemptEnded)]
    assert (ended.outcome, ended.code) == (Outcome.ABORTED, "stopped")
    plant.power()
    plant.run()
    all_made(plant, 2)
    assert plant.devices[0].flashes == 1


def _stop_at(plant: Plant, event: object, phase: Phase) -> None:
    if isinstance(event, PhaseEnded) and event.result.phase is phase:
        plant.stopping.ask()


def test_a_line_that_is_stopped_twice_lets_go_of_what_hangs(make_plant: Make) -> None:
    plant = make_plant(1)
    event = threading.Event()
    device = plant.device()
    runner = plant.runner(
        feeding=False,
        open_target=lambda _: lambda serial: SimulatedTarget(device, plant.desk, plant.steps, {"identify": event}),
    )
    calls = iter(range(100))

    def watch() -> None:
        if next(calls) < 2:
            plant.stopping.ask()

    runner.run(watch=watch)
    runner.bench.line.close()
    results = [one.result for one in plant.events() if isinstance(one, PhaseEnded)]
    assert (results[-1].outcome, results[-1].code) == (Outcome.ABORTED, "stopped")


def test_a_disk_that_is_full_midway_stops_all_slots_and_half_a_line_stays_nowhere(
    make_plant: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = make_plant(6)
    whole, calls = os.pwrite, iter(range(1000))

    def full(descriptor: int, data: bytes, at: int) -> int:
        if next(calls) < 20:
            return whole(descriptor, data, at)
        if len(data) > 40:
            return whole(descriptor, data[:40], at)  # what there was room for
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("birthmark_server.factory.station.record.os.pwrite", full)
    with pytest.raises(RecordNotWritten, match="No space left on device; line 2"):
        plant.run(2)
    monkeypatch.undo()
    assert len(plant.events()) in (20, 21)
    plant.power()
    plant.run(2)
    all_made(plant, 6)


def test_who_looks_on_stops_no_line(make_plant: Make) -> None:
    plant = make_plant(2)
    told: list[Event] = []

    def pipe(event: Event) -> None:
        told.append(event)
        raise BrokenPipeError(32, "Broken pipe")

    runner = plant.runner(watcher=pipe)
    runner.run()
    runner.bench.line.close()
    all_made(plant, 2)
    assert len(told) == 1


# -- duplicates


def test_a_twin_in_another_slot_is_refused_and_quarantined(make_plant: Make) -> None:
    plant = make_plant(2)
    first = plant.in_slot[1] = plant.device()
    twin = SimulatedDevice(first.tpm, "02:00:00:00:99:99")
    plant.in_slot[2] = twin
    plant.run(2, feeding=False)
    (bad,) = [event for event in plant.events() if isinstance(event, Quarantined)]
    assert bad.code == "twin-device"
    assert "which" in bad.reason
    assert len(plant.desk.births) == 1


def test_the_same_mac_with_another_ek_is_refused_and_quarantined(make_plant: Make) -> None:
    plant = make_plant(2)
    plant.in_slot[1] = plant.device()
    plant.run(feeding=False)
    thief = plant.in_slot[1] = plant.device()
    thief.mac = plant.devices[0].mac
    plant.run(feeding=False)
    (bad,) = [event for event in plant.events() if isinstance(event, Quarantined)]
    assert bad.ek_sha256 == thief.tpm.ek_sha256
    assert f"its MAC {thief.mac} is that of SN-0001" in bad.reason
    plant.run(feeding=False)
    assert [e.code for e in plant.events() if isinstance(e, AttemptEnded)] == ["", "twin-device", "in-quarantine"]
    plant.in_slot[1] = plant.device()
    plant.run(feeding=False)
    assert [unit.is_made for unit in plant.known().units.values()] == [True, True]


def test_a_device_that_passed_and_comes_back_is_refused_without_quarantine(make_plant: Make) -> None:
    plant = make_plant(2)
    plant.run(feeding=False)
    plant.run(feeding=False)
    ended = [event for event in plant.events() if isinstance(event, AttemptEnded)]
    assert [event.code for event in ended] == ["", "made-already"]
    assert not [event for event in plant.events() if isinstance(event, Quarantined)]
    assert plant.known().units["SN-0001"].is_made


def test_a_device_that_comes_back_unfinished_keeps_its_serial_number(make_plant: Make) -> None:
    plant = make_plant(2)
    plant.in_slot[1] = device = plant.device()
    device.faults["self_test"] = [Broken("no message")]
    plant.run(feeding=False)
    plant.run(feeding=False)
    all_but_one = plant.known().units
    assert all_but_one["SN-0001"].is_made
    assert all_but_one["SN-0002"].is_free
    assert device.record is not None
    assert device.record.serial == "SN-0001"
    assert set(plant.desk.births) == {"SN-0001"}


def test_a_device_that_was_swapped_after_an_interruption_gets_a_serial_number_of_its_own(make_plant: Make) -> None:
    plant = make_plant(2)
    runner = plant.runner(feeding=False, watcher=lambda event: _stop_at(plant, event, Phase.IDENTIFY))
    runner.run()
    runner.bench.line.close()
    plant.power()
    other = plant.in_slot[1] = plant.device()
    other.record = plant.devices[0].record  # somebody had flashed it with the same record
    plant.run(feeding=False)
    assert other.record is not None
    assert other.record.serial == "SN-0002"
    assert set(plant.desk.births) == {"SN-0002"}


# -- the server


def test_without_the_server_devices_that_prove_themselves_later_are_flashed_locked_and_labelled(
    make_plant: Make,
) -> None:
    plant = make_plant(2)
    runner = plant.runner(later=True, watcher=lambda event: _down_after_block(plant, event))
    runner.run()
    runner.bench.line.close()
    known = plant.known()
    assert list(known.waiting) == ["SN-0001", "SN-0002"]
    assert all(unit.labelled and unit.locked and unit.awaits_birth for unit in known.units.values())
    assert not plant.desk.births
    assert runner.view().awaiting == 2
    assert runner.view().failed == 0

    plant.desk.is_down = False
    for device in plant.devices:  # the courier brings the entries; then they boot, far away
        device.is_locked = True
    plant.power()
    _courier(plant, later=True)
    assert plant.desk.brought == ["SN-0001", "SN-0002"]
    for device in plant.devices:
        assert device.record is not None
        plant.desk.prove(device.tpm, device.record)
    _courier(plant, later=True)
    assert all(unit.certificate and not unit.is_made for unit in plant.known().units.values())
    plant.desk.seen = {"SN-0001", "SN-0002"}
    _courier(plant, later=True)
    all_made(plant, 2)


def _down_after_block(plant: Plant, event: object) -> None:
    if isinstance(event, AttemptBegun):
        plant.desk.is_down = True


def _courier(plant: Plant, *, later: bool) -> None:
    runner = plant.runner(later=later)
    Courier(runner.bench.line, runner.bench.outbox, runner.bench.stopping, every_s=1).go()
    runner.bench.line.close()


def test_without_the_server_other_devices_wait_and_go_on_when_they_come_back(make_plant: Make) -> None:
    plant = make_plant(2)
    runner = plant.runner(watcher=lambda event: _down_after_block(plant, event))
    runner.run()
    runner.bench.line.close()
    known = plant.known()
    assert list(known.waiting) == ["SN-0001", "SN-0002"]
    assert [(unit.code, unit.locked) for unit in known.units.values()] == [(ServerUnreachable.code, False)] * 2
    plant.desk.is_down = False
    plant.power()
    for device in list(plant.devices):
        plant.in_slot[1] = device
        assert device.record is not None
        plant.run(feeding=False, again=(device.record.serial,))
    all_made(plant, 2)
    assert [device.flashes for device in plant.devices] == [1, 1]


def test_without_serial_numbers_and_server_the_slot_says_so(make_plant: Make) -> None:
    plant = make_plant(2)
    plant.desk.is_down = True
    runner = plant.run()
    (slot,) = runner.bench.slots.all()
    assert slot.state == "stopped"
    assert "no serial numbers at hand" in slot.detail
    assert not plant.devices


def test_an_entry_that_the_server_refuses_puts_the_device_into_quarantine(make_plant: Make) -> None:
    plant = make_plant(2)
    plant.desk.refuses["SN-0001"] = ("ek-conflict", "the EK is another device's")
    plant.in_slot[1] = plant.device()
    plant.run(feeding=False)
    known = plant.known()
    assert known.bad_ek == {plant.devices[0].tpm.ek_sha256: "ek-conflict: the EK is another device's"}
    ended = [event for event in plant.events() if isinstance(event, AttemptEnded)]
    assert (ended[-1].outcome, ended[-1].code) == (Outcome.FAIL, "server-refused")
    assert known.units["SN-0001"].is_free


@pytest.mark.parametrize(
    ("code", "standing"),
    [("certificate-revoked", EntryStanding.WAITING), ("workorder-closed", EntryStanding.NONE)],
)
def test_a_station_that_the_server_will_not_have_stops_and_loses_nothing(
    make_plant: Make, code: str, standing: EntryStanding
) -> None:
    """Where it is the entry that is no good, another one is signed when the device is put in again."""
    plant = make_plant(4)
    plant.desk.refuses["SN-0001"] = (code, "since yesterday")
    with pytest.raises(LineStopped, match=f"{code}: since yesterday"):
        plant.run(2)
    assert plant.known().units["SN-0001"].entry is standing
    plant.desk.refuses.clear()
    plant.power()
    plant.run(2)
    all_made(plant, 4)


def test_an_entry_that_is_void_by_now_stops_no_other_and_its_unit_was_not_made(make_plant: Make) -> None:
    """Signed without the server, for a work order that was closed meanwhile, say."""
    plant = make_plant(3)
    offline = plant.runner(later=True, watcher=lambda event: _down_after_block(plant, event))
    offline.run()
    offline.bench.line.close()
    assert len(plant.known().waiting) == 3
    plant.desk.is_down = False
    plant.desk.refuses["SN-0001"] = ("entry-out-of-time", "signed after it was closed")
    plant.power()
    runner = plant.runner(1, later=True)
    assert runner.bench.outbox.bring_all() == 2
    runner.bench.line.close()
    known = plant.known()
    assert not known.waiting
    assert (known.units["SN-0001"].entry, known.units["SN-0001"].is_made) == (EntryStanding.NONE, False)
    assert "SN-0001" in known.unfinished
    assert known.units["SN-0002"].entry is EntryStanding.BROUGHT


def test_what_a_device_says_never_makes_the_record_unreadable(make_plant: Make) -> None:
    class Talkative(SimulatedDevice):
        def identity(self):  # type: ignore[no-untyped-def]
            return replace(super().identity(), firmware="f" * 5000)

    plant = make_plant(2)
    plant.in_slot[1] = Talkative(plant.device().tpm, "02:00:00:00:00:77")
    plant.run(feeding=False)
    result = [event.result for event in plant.events() if isinstance(event, PhaseEnded)][-1]  # it can be read
    assert (result.outcome, result.code) == (Outcome.FAIL, "not-for-the-record")
    del plant.in_slot[1]
    plant.power()
    plant.run()
    all_made(plant, 2)


def test_a_foreign_device_is_refused_and_quarantined(make_plant: Make) -> None:
    plant = make_plant(1)
    plant.in_slot[1] = device = plant.device()

    device.faults["attest"] = [FactoryRefused("its EK certificate leads to no vendor", server_code="ek-untrusted")]
    plant.run(feeding=False)
    unit = plant.known().units["SN-0001"]
    assert unit.quarantine == "server-refused: ek-untrusted: its EK certificate leads to no vendor"
    assert not plant.desk.births


def test_a_device_that_says_garbage_of_itself_fails(make_plant: Make) -> None:
    class Garbled(SimulatedDevice):
        def identity(self):  # type: ignore[no-untyped-def]
            return replace(super().identity(), ek_public=b"garbage")

    plant = make_plant(1)
    plant.in_slot[1] = Garbled(plant.device().tpm)
    plant.run(feeding=False)
    result = [event.result for event in plant.events() if isinstance(event, PhaseEnded)][-1]
    assert (result.outcome, result.code) == (Outcome.FAIL, "identity-garbled")


def test_every_error_has_a_next_step() -> None:
    def below(kind: type[FactoryError]) -> list[type[FactoryError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in below(child))]

    for kind in below(FactoryError):
        assert kind.next_step.endswith((".", "!")), kind
        assert kind.code, kind


def test_two_twins_at_the_same_moment_are_never_both_born(make_plant: Make) -> None:
    for _ in range(5):
        plant = make_plant(4)
        tpm = plant.device().tpm
        for slot in range(1, 5):
            plant.in_slot[slot] = SimulatedDevice(tpm, f"02:00:00:00:aa:0{slot}")
        plant.run(4, feeding=False)
        assert len(plant.desk.births) == 1
        assert sum(isinstance(event, Quarantined) for event in plant.events()) == 3


@pytest.mark.parametrize(("certificates", "outcome"), [(6, Outcome.PASS), (8, Outcome.FAIL)])
def test_a_tpm_with_many_certificates_leaves_a_record_that_can_be_read(
    make_plant: Make, certificates: int, outcome: Outcome
) -> None:
    plant = make_plant(1)
    device = plant.in_slot[1] = plant.device()
    (certificate,) = device.tpm.ek_certificates
    device.tpm = replace(device.tpm, ek_certificates=(certificate.ljust(4096, b"\xff"),) * certificates)  # as NV has it
    plant.run(feeding=False)
    ended = [event for event in plant.events() if isinstance(event, AttemptEnded)]
    assert ended[0].outcome is outcome
