"""The record of a station: what is appended stays, whatever cuts it short; what is changed is found."""

import signal
import subprocess
import sys
import threading
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.factory.station import events
from birthmark_server.factory.station.errors import RecordDamaged, RecordInUse, RecordNotWritten
from birthmark_server.factory.station.events import AttemptEnded, BlockTaken, Event, PhaseEnded, Repaired
from birthmark_server.factory.station.record import Line, Record, read_record
from birthmark_server.factory.values import Outcome, Phase, PhaseResult

NOW = datetime(2026, 11, 28, 5, 0, 0, 123000, tzinfo=UTC)

words = st.text(st.characters(codec="utf-8"), max_size=40)
moments = st.integers(0, 10**12).map(lambda ms: NOW + timedelta(milliseconds=ms))
names = st.text(st.characters(codec="utf-8", exclude_characters="="), min_size=1, max_size=10)
results = st.builds(
    PhaseResult,
    phase=st.sampled_from(Phase),
    outcome=st.sampled_from(Outcome),
    began_at=moments,
    took=st.integers(0, 10**9).map(lambda ms: timedelta(milliseconds=ms)),
    code=words,
    detail=words,
    next_step=words,
    facts=st.lists(st.tuples(names, words), max_size=4).map(tuple),
)
numbers = st.integers(0, 2**31)
KINDS: dict[object, Any] = {
    str: words,
    int: numbers,
    bytes: st.binary(min_size=1, max_size=40),
    Phase: st.sampled_from(Phase),
}
KINDS |= {Outcome: st.sampled_from(Outcome), PhaseResult: results}
kinds = [kind for kind in events._KINDS.values() if kind is not events.Begun]
any_event = st.one_of(*(st.builds(kind, **{f.name: KINDS[f.type] for f in fields(kind)}) for kind in kinds))

EVENTS: tuple[Event, ...] = (
    BlockTaken("W1", 0, 10),
    PhaseEnded("SN-1", 1, PhaseResult(Phase.FLASH, Outcome.PASS, NOW, timedelta(seconds=3), facts=(("bytes", "7"),))),
    AttemptEnded("SN-1", 1, Outcome.FAIL, "größer"),
)


def write(path: Path, *written: Event) -> None:
    record = Record.open(path, station="st-1", now=lambda: NOW)
    for event in written:
        record.append(event)
    record.close()


def opened(path: Path) -> list[Line]:
    """What a station that starts finds."""
    told: list[Line] = []
    Record.open(path, station="st-1", now=lambda: NOW, told=told.append).close()
    return told


@given(st.lists(any_event, max_size=6))
def test_what_is_appended_is_read_again(tmp_path_factory: pytest.TempPathFactory, written: list[Event]) -> None:
    path = tmp_path_factory.mktemp("record") / "record.jsonl"
    write(path, *written)
    lines = list(read_record(path))
    assert [line.event for line in lines[1:]] == written
    assert [line.number for line in lines] == list(range(1, len(written) + 2))
    assert opened(path) == lines


def test_a_cut_at_any_byte_loses_at_most_the_line_that_was_being_written(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    write(path, *EVENTS)
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == 10]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = sum(end <= cut for end in ends)
        assert len(list(read_record(path))) == complete
        lines = opened(path)
        torn = cut - ([0, *ends][complete])
        if torn and complete:
            assert lines[-1].event == Repaired(torn)
            lines.pop()
        assert [line.event for line in lines[1:]] == list(EVENTS[: max(complete - 1, 0)]), cut
        opened(path)  # and what was repaired is a record again


def test_any_changed_byte_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    write(path, *EVENTS)
    whole = path.read_bytes()
    for place in range(len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        last_line = whole[:place].count(b"\n") == 3
        if last_line:  # nothing follows that would vouch for it: only what can't be read is found
            continue
        with pytest.raises(RecordDamaged, match=r"record\.jsonl, line [1-4]: "):
            opened(path)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_line_that_is_gone_is_found(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "record.jsonl"
    write(path, *EVENTS)
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[lost]
    path.write_bytes(b"".join(lines))
    with pytest.raises(RecordDamaged, match=f"line {lost + 1}: n: want {lost + 1}"):
        list(read_record(path))


def test_lines_that_changed_places_are_found(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    write(path, BlockTaken("W1", 0, 10), BlockTaken("W1", 0, 10))
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + third.replace(b'"n":3', b'"n":2') + second)
    with pytest.raises(RecordDamaged, match="line 2: prev: want the hash of the line before"):
        list(read_record(path))


def test_two_processes_cannot_have_it(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    record = Record.open(path, station="st-1", now=lambda: NOW)
    with pytest.raises(RecordInUse, match="another `birthmark factory run`"):
        Record.open(path, station="st-1", now=lambda: NOW)
    record.close()
    opened(path)


def test_threads_append_in_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    record = Record.open(path, station="st-1", now=lambda: NOW)

    def work(slot: int) -> None:
        for number in range(25):
            record.append(BlockTaken(f"W{slot}", number, 1))

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record.close()
    assert len(list(read_record(path))) == 201


FILL = """
import resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from birthmark_server.factory.station.errors import RecordNotWritten
from birthmark_server.factory.station.events import BlockTaken
from birthmark_server.factory.station.record import Record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
record = Record.open(Path(sys.argv[1]), station="st-1", now=lambda: datetime.now(UTC))
record.append(BlockTaken("W1", 0, 10))
resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
try:
    record.append(BlockTaken("W1", 10, 10))
except RecordNotWritten as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
record.append(BlockTaken("W1", 20, 10))
"""


def test_a_full_disk_leaves_no_half_line_and_is_said(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    done = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=True)
    assert "line 3 was not written" in done.stdout
    assert [line.event for line in read_record(path)][1:] == [BlockTaken("W1", 0, 10), BlockTaken("W1", 20, 10)]


WRITE = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from birthmark_server.factory.station.events import BlockTaken
from birthmark_server.factory.station.record import Record
record = Record.open(Path(sys.argv[1]), station="st-1", now=lambda: datetime.now(UTC))
for number in range(1_000_000):
    record.append(BlockTaken("W1", number, 1))
    os.write(1, b"%d\\n" % number)
"""


def test_what_was_reported_survives_being_killed(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    expected = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        reported = [process.stdout.readline() for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        reported += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        expected += len([line for line in reported if line.endswith(b"\n")])
        kept = [line for line in opened(path) if isinstance(line.event, BlockTaken)]
        assert len(kept) >= expected
        expected = len(kept)


def test_a_closed_record_takes_nothing(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "record.jsonl", station="st-1", now=lambda: NOW)
    record.close()
    with pytest.raises(RecordNotWritten, match="is closed"):
        record.append(EVENTS[0])


def test_long_words_are_cut_before_they_are_kept(tmp_path: Path) -> None:
    result = PhaseResult(Phase.FLASH, Outcome.FAIL, NOW, timedelta(), detail="x" * 10_000)
    write(tmp_path / "record.jsonl", PhaseEnded("SN-1", 1, result))
    *_, line = read_record(tmp_path / "record.jsonl")
    assert line.event == PhaseEnded("SN-1", 1, replace(result, detail="x" * 4096))
