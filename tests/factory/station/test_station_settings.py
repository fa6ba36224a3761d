"""station.toml: what is wrong in it is said by file and key; slots make targets of the kinds that are registered."""

import shlex
from pathlib import Path
from unittest.mock import sentinel

import pytest

from birthmark_server.factory.station import targets
from birthmark_server.factory.station.errors import SlotFault, StationSettingsBroken
from birthmark_server.factory.station.settings import SlotSettings, StationSettings, load_station
from birthmark_server.factory.station.stopping import Stopping
from birthmark_server.factory.station.targets import Place, TargetKind, kind_of, make_slot, register
from birthmark_server.factory.values import Phase
from support.factory_plant import Plant
from support.factory_sim import SimulatedTarget

HEAD = 'server = "https://localhost:1"\ncertificate = "s.pem"\nkey = "s.key"\nroot = "root.pem"\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "station.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"station\.toml: server is missing; certificate is missing; key is missing; root is missing"),
        (HEAD + "[[slot]]\n", r"station\.toml: slot 1: target is missing"),
        (
            HEAD + '[[slot]]\ntarget = "disk:a"\n[[slot]]\ntarget = "sdb"\n',
            r"slot 2: target: want KIND:ADDRESS, .*'sdb'",
        ),
        (HEAD + '[[slot]]\ntarget = "disk:a"\nconsol = "x"\n', r"slot 1: consol is no setting; did you mean console\?"),
        (HEAD + '[[slot]]\ntarget = "disk:a"\nlimits = { flash_s = 0 }\n', r"slot 1: limits\.flash_s: .* got 0"),
        (HEAD + "tries = 0\n", r"tries: .* got 0"),
        ("server = 1 2", r"station\.toml: want TOML: .*line 1"),
    ],
)
def test_what_is_wrong_is_said_by_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StationSettingsBroken, match=message):
        load_station(written(tmp_path, text))


def test_a_file_that_is_missing_is_said_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StationSettingsBroken, match="birthmark station init makes it"):
        load_station(tmp_path / "station.toml")


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    assert load_station(written(tmp_path, HEAD)).root == tmp_path / "root.pem"


def test_a_slot_is_filled_in_for_each_unit(tmp_path: Path) -> None:
    text = HEAD + '[[slot]]\ntarget = "disk:/line/{serial}.img"\npower_on = "start {slot} {serial}"\n'
    (slot,) = load_station(written(tmp_path, text)).slot
    filled = slot.filled(serial="SN-7", number=3)
    assert (filled.target, filled.power_on) == ("disk:/line/SN-7.img", "start 3 SN-7")
    assert slot.is_addressed
    assert slot.limits.by_phase()[Phase.SELF_TEST].total_seconds() == 180


def test_an_unknown_kind_of_target_is_said_with_those_that_there_are() -> None:
    with pytest.raises(StationSettingsBroken, match=r"no kind of target tape:; want one of disk:, .*smp:"):
        kind_of("tape")


def test_a_registered_kind_is_opened_for_each_unit(tmp_path: Path, make_plant: object) -> None:
    plant: Plant = make_plant(1)  # type: ignore[operator]
    opened = []
    register(
        "sim",
        TargetKind(lambda place: opened.append(place) or SimulatedTarget(plant.device(), plant.desk), True),  # type: ignore[func-returns-value]
    )
    station = load_station(written(tmp_path, HEAD + '[[slot]]\ntarget = "sim:{serial}"\n'))
    slot = make_slot(1, station.slot[0], station, folder=tmp_path, desk=plant.desk)
    slot.open("SN-0001")
    assert opened[0].slot.target == "sim:SN-0001"
    assert opened[0].folder == tmp_path / "units" / "SN-0001"
    assert slot.proves_itself_later
    assert slot.feeds


@pytest.mark.parametrize(("command", "there"), [("true", True), ("false", False)])
def test_the_ready_command_says_whether_there_is_a_device(
    tmp_path: Path, make_plant: object, command: str, there: bool
) -> None:
    plant: Plant = make_plant(1)  # type: ignore[operator]
    register("sim", TargetKind(lambda place: SimulatedTarget(plant.device(), plant.desk), True))
    station = load_station(written(tmp_path, HEAD + f'[[slot]]\ntarget = "sim:1"\nready = "{command}"\n'))
    slot = make_slot(1, station.slot[0], station, folder=tmp_path, desk=plant.desk)
    assert slot.ready is not None
    assert slot.ready(Stopping()) is there


def test_a_ready_command_that_breaks_is_an_error_of_its_slot(tmp_path: Path, make_plant: object) -> None:
    plant: Plant = make_plant(1)  # type: ignore[operator]
    register("sim", TargetKind(lambda place: SimulatedTarget(plant.device(), plant.desk), True))
    station = load_station(written(tmp_path, HEAD + '[[slot]]\ntarget = "sim:1"\nready = "sh -c \'exit 7\'"\n'))
    slot = make_slot(1, station.slot[0], station, folder=tmp_path, desk=plant.desk)
    assert slot.ready is not None
    with pytest.raises(SlotFault, match="ended with 7"):
        slot.ready(Stopping())


def test_a_serial_number_stays_one_word_of_a_command() -> None:
    slot = SlotSettings(target="disk:/srv/{serial}.img", power_on="relay --slot {slot} --for {serial}")
    filled = slot.filled(serial="A -monitor tcp:0:1", number=3)
    assert shlex.split(filled.power_on) == ["relay", "--slot", "3", "--for", "A -monitor tcp:0:1"]


def test_a_units_folder_lies_in_the_stations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[Place] = []
    monkeypatch.setitem(targets._KINDS, "sim", TargetKind(places.append, proves_itself_later=False))  # type: ignore[arg-type]
    station = StationSettings(server="https://x", certificate=tmp_path, key=tmp_path, root=tmp_path)
    slot = make_slot(1, SlotSettings(target="sim:{serial}"), station, folder=tmp_path / "line", desk=sentinel.desk)
    slot.open("A/../../../ESCAPED/0001")
    assert places[0].folder.resolve().is_relative_to(tmp_path / "line" / "units")
    assert "/" not in places[0].slot.target
