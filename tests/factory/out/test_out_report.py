"""The yield report: its figures are those of the records, and the page says them by itself."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no py.typed

from birthmark_server.cli.exits import Exit
from birthmark_server.factory.desk import ServerUnreachable
from birthmark_server.factory.out.drawing import draw_throughput, seconds
from birthmark_server.factory.out.errors import SameUnitTwice
from birthmark_server.factory.out.folder import CUT_OFF, Attempt, StationFolder, read_folder
from birthmark_server.factory.out.report import draw_report
from birthmark_server.factory.out.yields import Report, Span, make_report, report_schema
from birthmark_server.factory.station.events import AttemptBegun, AttemptEnded, EntrySigned, Quarantined, RunBegun
from birthmark_server.factory.station.known import Known
from birthmark_server.factory.station.record import RECORD_FILE, Record, read_record
from birthmark_server.factory.station.view import LineView, counted
from birthmark_server.factory.values import Outcome, Phase, PhaseResult
from support.factory_out import Made
from support.factory_story import write_story

NOW = datetime(2026, 11, 28, 5, 0, tzinfo=UTC)


@pytest.fixture
def line_1(tmp_path: Path) -> Path:
    """A station that made 60 units of a work order, and 30 of another."""
    write_story(tmp_path / "line-1", station="line-1", orders=[("W-7", 60), ("W-8", 30)], seed=3)
    return tmp_path / "line-1"


@pytest.fixture
def line_2(tmp_path: Path) -> Path:
    """Another one, with 40 of the first work order."""
    write_story(tmp_path / "line-2", station="line-2", orders=[("W-7", 40)], seed=8)
    return tmp_path / "line-2"


def report_of(*folders: Path, workorder: str = "") -> Report:
    return make_report([read_folder(folder) for folder in folders], now=NOW, workorder=workorder)


def test_its_yields_are_those_of_the_board(line_1: Path) -> None:
    known = Known.of(read_record(line_1 / RECORD_FILE))
    for order in report_of(line_1).orders:
        units = [unit for unit in known.units.values() if unit.workorder == order.workorder]
        view = counted(LineView(order.workorder, 0, ()), units, rejected=known.rejected.get(order.workorder, 0))
        assert (order.made, order.first_pass, order.failed) == (view.made, view.first_pass, view.failed)
        assert order.first_pass_yield == view.first_pass_yield


def test_a_device_that_was_made_at_its_second_try_lowers_first_pass_alone(stumbled: Made) -> None:
    total = report_of(stumbled.folder).total
    assert (total.made, total.first_pass, total.failed, total.ended) == (3, 2, 1, 4)
    assert (total.first_pass_yield, total.final_yield) == (0.5, 0.75)


@pytest.mark.parametrize(("code", "first_pass"), [(ServerUnreachable.code, 1.0), ("cable-out", 0.75)])
def test_a_server_out_of_reach_is_no_stumble(made: Made, code: str, first_pass: float) -> None:
    record = Record.open(made.record, station="st-1", now=lambda: NOW)
    for number, outcome in ((1, Outcome.ERROR), (2, Outcome.PASS)):
        record.append(AttemptBegun("W1", "SN-0009", "model-a", number, 1, "alice", Phase.FLASH))
        record.append(EntrySigned("SN-0009", "9" * 64, "", "agent/1.0", "0" * 64, "none"))
        record.append(AttemptEnded("SN-0009", number, outcome, code if outcome is Outcome.ERROR else ""))
    record.close()
    made_of = report_of(made.folder)
    assert (made_of.total.made, made_of.total.first_pass_yield, made_of.total.final_yield) == (4, first_pass, 1.0)
    assert [(each.code, each.count) for each in made_of.failures] == [(code, 1)]


def test_two_stations_come_to_what_both_did(line_1: Path, line_2: Path) -> None:
    both, first, second = report_of(line_1, line_2), report_of(line_1), report_of(line_2)
    assert both.total.made == first.total.made + second.total.made
    assert {each.name: each.made for each in both.stations} == {
        "line-1": first.total.made,
        "line-2": second.total.made,
    }
    w7 = next(each for each in both.workorders if each.name == "W-7")
    assert w7.ended == report_of(line_1, line_2, workorder="W-7").total.ended
    assert sum(span.passed for span in both.throughput) == both.total.made
    assert sum(span.failed for span in both.throughput) == sum(failure.count for failure in both.failures)


def test_the_failures_are_a_pareto(line_1: Path, line_2: Path) -> None:
    failures = report_of(line_1, line_2).failures
    assert len(failures) >= 3
    assert [failure.count for failure in failures] == sorted((failure.count for failure in failures), reverse=True)
    assert failures[-1].cumulative == 1
    assert {failure.code: failure.stumbles for failure in failures}.get("server-silent") in (False, None)
    assert failures[0].phase is not None


def test_percentiles_are_those_of_the_phases(tmp_path: Path) -> None:
    results = [PhaseResult(Phase.FLASH, Outcome.PASS, NOW, timedelta(seconds=second)) for second in range(1, 101)]
    attempts = tuple(
        Attempt("st-1", "W-1", f"SN-{place}", 1, 1, "alice", Phase.FLASH, NOW, (result,), NOW, Outcome.PASS)
        for place, result in enumerate(results)
    )
    folder = StationFolder(tmp_path, "st-1", "name", Known(), attempts)
    (flash,) = make_report([folder], now=NOW).phases
    assert (flash.count, flash.median, flash.q1, flash.q3, flash.longest) == (100, 50.5, 25.75, 75.25, 100)
    assert (flash.p5, flash.p95, flash.mean) == (5.95, 95.05, 50.5)


def test_what_ended_from_afar_was_timed_by_nobody(made: Made) -> None:
    folder = read_folder(made.folder)
    afar = replace(folder, attempts=tuple(replace(attempt, slot=0) for attempt in folder.attempts))
    assert make_report([afar], now=NOW).phases == ()


def test_a_power_cut_ends_an_attempt_and_is_no_failure(made: Made) -> None:
    record = Record.open(made.record, station="st-1", now=lambda: NOW)
    record.append(AttemptBegun("W1", "SN-0004", "model-a", 1, 1, "alice", Phase.FLASH))
    record.append(RunBegun("W1", "alice", 1))
    record.close()
    (attempt,) = read_folder(made.folder).attempts_at("SN-0004")
    assert (attempt.outcome, attempt.code) == (Outcome.ABORTED, CUT_OFF)
    assert report_of(made.folder).failures == ()


def test_a_day_of_months_has_few_spans() -> None:
    ends = [NOW, NOW + timedelta(days=400)]
    attempts = tuple(
        Attempt("st-1", "W-1", f"SN-{place}", 1, 1, "alice", Phase.FLASH, NOW, (), at, Outcome.PASS)
        for place, at in enumerate(ends)
    )
    made = make_report([StationFolder(Path(), "st-1", "name", Known(), attempts)], now=NOW)
    assert len(made.throughput) <= 60
    assert sum(span.passed for span in made.throughput) == 2


# -- bad input


def test_a_record_without_a_unit_is_a_page_that_says_so(tmp_path: Path) -> None:
    Record.open(tmp_path / RECORD_FILE, station="line-9", now=lambda: NOW).close()
    made = report_of(tmp_path)
    assert (made.total.made, made.total.first_pass_yield, made.throughput) == (0, None, ())
    page = draw_report(made)
    assert "No attempt has ended yet." in page
    assert "No station has worked on a work order yet." in page


def test_a_unit_at_two_stations_is_refused(line_1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_story(tmp_path / "other", station="line-1", orders=[("W-7", 3)], seed=4)
    with pytest.raises(SameUnitTwice, match=r"LINE-1-W-7-0001 is on record at station line-1 .* and at station line-1"):
        report_of(line_1, tmp_path / "other")


def test_a_copy_of_a_record_is_refused(line_1: Path, tmp_path: Path) -> None:
    shutil.copytree(line_1, tmp_path / "copy")
    with pytest.raises(SameUnitTwice, match="has the same record as"):
        report_of(line_1, tmp_path / "copy")


def test_a_damaged_record_is_named_by_its_line_and_nothing_is_written(
    line_1: Path, made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = line_1 / RECORD_FILE
    path.write_bytes(path.read_bytes().replace(b'"outcome":"FAIL"', b'"outcome":"PASS"', 1))
    assert made.factory("report", "--station", str(line_1), "--out", str(tmp_path / "out")) == Exit.DATA
    assert re.search(r"record\.jsonl, line \d+: prev: want the hash", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_record_is_named(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made.factory("report", "--station", str(tmp_path / "none")) == Exit.NO_INPUT
    assert "record.jsonl: No such file or directory" in capsys.readouterr().err


# -- what is written


def test_the_json_fits_the_schema_that_the_command_prints(
    line_1: Path, line_2: Path, made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stations = ("--station", str(line_1), "--station", str(line_2))
    assert made.factory("report", *stations, "--out", str(tmp_path / "out")) == Exit.DONE
    capsys.readouterr()
    assert made.factory("report", "--schema") == Exit.DONE
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    Draft202012Validator(schema).validate(written)
    assert not Draft202012Validator(schema).is_valid(written | {"total": None})
    assert schema == report_schema()
    assert written["format"] == "birthmark-report/1"


class _Page(HTMLParser):
    """Whether each element is closed, and what would be fetched."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone(line_1: Path, line_2: Path) -> None:
    text = draw_report(report_of(line_1, line_2))
    page = _Page(text)
    assert page.fetched == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.tags.count("svg") >= 5
    assert "@import" not in text
    assert "url(" not in text


def test_what_a_record_says_is_text_on_the_page(made: Made) -> None:
    evil = '<script>alert("1")</script>'
    record = Record.open(made.record, station="st-1", now=lambda: NOW)
    record.append(AttemptBegun(evil, "SN-9", evil, 1, 1, evil, Phase.FLASH))
    record.append(Quarantined("SN-9", "", "", evil, evil))
    record.close()
    folder = read_folder(made.folder)
    result = PhaseResult(Phase.FLASH, Outcome.FAIL, NOW, timedelta(), evil, evil, evil)
    attempts = tuple(
        replace(each, phases=(result,), outcome=Outcome.FAIL, code=evil, station=evil, ended_at=NOW)
        for each in folder.attempts
    )
    page = draw_report(make_report([replace(folder, station=evil, attempts=attempts)], now=NOW))
    assert "script" not in _Page(page).tags
    assert "&lt;script&gt;" in page


def test_pictures_of_little_are_drawn_too() -> None:
    assert "<rect" in draw_throughput([Span(at=NOW, passed=1, failed=0)], 60)
    assert [seconds(value) for value in (0.053, 0.42, 3.21, 48.3, 245, 7800)] == [
        "0.053 s",
        "0.42 s",
        "3.2 s",
        "48 s",
        "4:05 min",
        "2:10 h",
    ]


@pytest.mark.parts
def test_each_picture_of_the_page_is_an_svg_that_others_draw(line_1: Path, tmp_path: Path) -> None:
    page = draw_report(report_of(line_1))
    for place, svg in enumerate(re.findall(r"<svg.*?</svg>", page, re.DOTALL)):
        source = tmp_path / f"{place}.svg"
        source.write_text(svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))
        subprocess.run(["rsvg-convert", "-o", source.with_suffix(".png"), source], check=True)
        assert source.with_suffix(".png").stat().st_size > 100
