"""What people and programs see of a line."""

import io
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from birthmark_server.errors import AddressTaken, Malformed
from birthmark_server.factory.station.board import PlainBoard, draw, json_line, summary
from birthmark_server.factory.station.metrics import LineMetrics, exported
from birthmark_server.factory.station.record import read_record
from birthmark_server.factory.station.view import LineView, SlotView
from birthmark_server.factory.values import Outcome, Phase
from support.factory_plant import Plant
from support.factory_sim import Broken
from support.ports import free_port

Make = Callable[[int], Plant]


def drawn(view: LineView, *, now_s: float = 100.0) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    console.print(draw(view, now_s=now_s))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


VIEW = LineView(
    "W1",
    10,
    (
        SlotView(1, "SN-0003", Phase.FLASH, 80.0, 90.0, done=50, total=200, state="working"),
        SlotView(2, outcome=Outcome.FAIL, last_serial="SN-0002", code="twin-device", detail="a twin", next_step="Do."),
    ),
    made=2,
    first_pass=1,
    failed=2,
    awaiting=1,
    entries_waiting=1,
    made_here=2,
    took_s=60.0,
    online=False,
)


def test_the_board_shows_slots_and_figures() -> None:
    text = drawn(VIEW)
    assert "W1: 2 of 10 made · 2 failed · 1 awaiting birth · first pass 25.0% · 2.0 a minute · 4:00 left" in text
    assert "the server does not answer; 1 entries wait" in text
    assert "SN-0003  flash" in text
    assert "━━━━━───────────────  25%" in text
    assert "0:10 / 0:20" in text
    assert "SN-0002 FAIL twin-device" in text
    assert "slot 2: a twin  Do." in text


def test_before_anything_is_made_nothing_is_divided() -> None:
    assert "first pass - · - a minute · - left" in drawn(LineView("W1", 10, ()))


def run_with_a_failure(make_plant: Make) -> tuple[Plant, LineMetrics, str]:
    plant = make_plant(2)
    plant.in_slot[1] = device = plant.device()
    device.faults["self_test"] = [Broken("want a message, got none")]
    runner = plant.runner(feeding=False)
    metrics = LineMetrics(runner.view)
    console = Console(file=io.StringIO(), width=200)
    board = PlainBoard(console, every_s=0)
    runner.bench.line.watchers += [metrics.told, board.told]
    runner.run(watch=lambda: board.look(runner.view()))
    runner.bench.line.close()
    assert isinstance(console.file, io.StringIO)
    return plant, metrics, console.file.getvalue()


def test_without_a_terminal_lines_say_what_ended_and_what_to_do(make_plant: Make) -> None:
    _, _, said = run_with_a_failure(make_plant)
    assert "SN-0001: flash passed in " in said
    assert "SN-0001: born as dev-sn-0001" in said
    assert "SN-0001: self-test FAIL (broken): want a message, got none. Try again;" in said
    assert "W1: 0 of 2 made, 1 failed, 0 awaiting birth, first-pass yield 0.0%" in said


def test_json_is_one_object_for_each_event(make_plant: Make) -> None:
    plant, _, _ = run_with_a_failure(make_plant)
    lines = [json.loads(json_line(line)) for line in read_record(plant.folder / "record.jsonl")]
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
    failed = next(line for line in lines if line.get("outcome") == "FAIL")
    assert (failed["kind"], failed["phase"], failed["code"]) == ("phase", "self-test", "broken")


def samples(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, ",".join(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_served(make_plant: Make) -> None:
    _, metrics, _ = run_with_a_failure(make_plant)
    port = free_port()
    with exported(metrics, f"127.0.0.1:{port}"), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        values = samples(answer.read().decode())
    assert values["birthmark_factory_units_wanted", "W1"] == 2
    assert values["birthmark_factory_units_failed", "W1"] == 1
    assert values["birthmark_factory_attempts_total", "FAIL"] == 1
    assert values["birthmark_factory_phases_total", "broken,FAIL,self-test"] == 1
    assert values["birthmark_factory_phase_seconds_count", "flash"] == 1


def test_metrics_are_written_to_a_file(make_plant: Make, tmp_path: Path) -> None:
    _, metrics, _ = run_with_a_failure(make_plant)
    path = tmp_path / "line.prom"
    with exported(metrics, str(path)) as write:
        write()
        assert samples(path.read_text())["birthmark_factory_units_made", "W1"] == 0


@pytest.mark.parametrize("where", ["9185", "127.0.0.1:", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(make_plant: Make, where: str) -> None:
    with pytest.raises(Malformed, match="want ADDRESS:PORT"), exported(LineMetrics(lambda: VIEW), where):
        pass


def test_an_address_that_is_taken_is_said() -> None:
    port = free_port()
    with (
        exported(LineMetrics(lambda: VIEW), f"127.0.0.1:{port}"),
        pytest.raises(AddressTaken, match="in use"),
        exported(LineMetrics(lambda: VIEW), f"127.0.0.1:{port}"),
    ):
        pass


def test_a_run_is_summed_up_in_a_sentence() -> None:
    assert summary(VIEW) == "W1: 2 of 10 made, 2 failed, 1 awaiting birth, first-pass yield 25.0%"
