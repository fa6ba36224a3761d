"""What is next for a unit, and whose serial number a device has: for whatever the record may say."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.factory.desk import ServerUnreachable
from birthmark_server.factory.station.errors import MadeAlready
from birthmark_server.factory.station.known import EntryStanding, Known, KnownUnit
from birthmark_server.factory.station.plan import (
    IsOf,
    IsRefused,
    Last,
    Stays,
    TakesNew,
    begin_with,
    last_of,
    waits_for_its_slot,
    whose,
)
from birthmark_server.factory.values import PHASES, Outcome, Phase

units = st.builds(
    KnownUnit,
    serial=st.just("SN-1"),
    workorder=st.just("W1"),
    model=st.just("model-a"),
    outcome=st.none() | st.sampled_from(Outcome),
    code=st.sampled_from(["", "broken", ServerUnreachable.code]),
    passed=st.none() | st.sampled_from(Phase),
    image_sha256=st.sampled_from(["", "old", "new"]),
    locked=st.booleans(),
)


@given(units, st.booleans())
def test_there_is_always_an_answer(unit: KnownUnit, again: bool) -> None:
    if last_of(unit) is Last.PASSED and not again:
        with pytest.raises(MadeAlready):
            begin_with(unit, image_sha256="new", again=again)
        return
    assert begin_with(unit, image_sha256="new", again=again) in PHASES


@given(units)
def test_nothing_that_an_attempt_needs_is_skipped(unit: KnownUnit) -> None:
    if last_of(unit) is Last.PASSED:
        return
    begin = PHASES.index(begin_with(unit, image_sha256="new"))
    passed = -1 if unit.passed is None else PHASES.index(unit.passed)
    assert begin <= passed + 1 or unit.passed is Phase.LABEL


@given(units)
def test_a_locked_device_is_not_flashed_by_itself(unit: KnownUnit) -> None:
    locked = replace(unit, locked=True, passed=Phase.LOCK)
    if last_of(locked) is not Last.PASSED:
        assert begin_with(locked, image_sha256="new") is Phase.LABEL


@given(units)
def test_what_failed_or_waits_makes_way_for_the_next(unit: KnownUnit) -> None:
    stays = waits_for_its_slot(unit, tries=2, tried=2)
    assert stays == (unit.outcome in (None, Outcome.ABORTED))


@pytest.mark.parametrize(("must_start", "phase"), [(False, Phase.LOCK), (True, Phase.IDENTIFY)])
def test_a_device_that_is_off_is_identified_before_it_is_locked(must_start: bool, phase: Phase) -> None:
    unit = KnownUnit("SN-1", "W1", "model-a", passed=Phase.SELF_TEST, image_sha256="new")
    assert begin_with(unit, image_sha256="new", must_start=must_start) is phase


def test_a_new_unit_is_flashed() -> None:
    assert begin_with(None, image_sha256="new") is Phase.FLASH


names = st.sampled_from(["", "a", "b"])
serials = st.sampled_from(["SN-1", "SN-2", "SN-3"])


@st.composite
def knowledge(draw: st.DrawFn) -> Known:
    """Three units, each with an EK and a MAC, or none."""
    known = Known()
    for serial in ("SN-1", "SN-2", "SN-3"):
        ek, mac = draw(names), draw(names)
        if ek in known.by_ek or mac in known.by_mac:
            ek = mac = ""
        entry = EntryStanding.WAITING if ek else EntryStanding.NONE
        outcome, locked = draw(st.none() | st.sampled_from(Outcome)), draw(st.booleans())
        unit = KnownUnit(serial, "W1", "model-a", outcome=outcome, locked=locked, entry=entry)
        known.units[serial] = replace(unit, ek_sha256=ek, mac=mac if ek else "")
        if ek:
            known.by_ek[ek] = serial
            if mac:
                known.by_mac[mac] = serial
    return known


@given(knowledge(), serials, st.sampled_from(["a", "b", "c"]), names, st.booleans())
def test_no_two_units_ever_share_an_ek_or_a_mac(known: Known, serial: str, ek: str, mac: str, again: bool) -> None:
    verdict = whose(known, serial, ek_sha256=ek, mac=mac, again=again)
    match verdict:
        case Stays():
            assert known.by_ek.get(ek, serial) == serial
            assert known.units[serial].ek_sha256 in ("", ek)
            assert not mac or known.by_mac.get(mac, serial) == serial
        case IsOf(other):
            assert known.by_ek[ek] == other != serial
            assert not known.units[other].locked
            assert not known.units[other].is_made
        case TakesNew():
            assert known.units[serial].ek_sha256 not in ("", ek)
            assert ek not in known.by_ek
        case IsRefused(_, bad_ek, _):
            assert not bad_ek or bad_ek not in known.by_ek


@given(knowledge(), serials)
def test_what_is_in_quarantine_goes_nowhere(known: Known, serial: str) -> None:
    known.bad_ek["c"] = "stolen"
    verdict = whose(known, serial, ek_sha256="c", mac="")
    assert isinstance(verdict, IsRefused)
    assert verdict.why.code == "in-quarantine"


def test_a_device_that_is_in_another_slot_at_this_moment_is_a_twin() -> None:
    known = Known()
    known.units = {name: KnownUnit(name, "W1", "model-a") for name in ("SN-1", "SN-2")}
    known.units["SN-1"] = replace(known.units["SN-1"], ek_sha256="a")
    known.by_ek["a"] = "SN-1"
    assert whose(known, "SN-2", ek_sha256="a", mac="") == IsOf("SN-1")
    verdict = whose(known, "SN-2", ek_sha256="a", mac="", busy={"SN-1"})
    assert isinstance(verdict, IsRefused)
    assert verdict.why.code == "twin-device"
