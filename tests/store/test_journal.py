"""The journal file: its chain, its torn end, its neighbours, and a disk that is full."""

import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.domain import BoardSwap, CertificateProfile, RevocationReason
from birthmark_server.errors import Misconfigured
from birthmark_server.store.errors import JournalDamaged, StoreFailed
from birthmark_server.store.journal import Journal, last_lines, merged, read_journal
from birthmark_server.store.journal_entries import (
    BatchClosed,
    CertificateRevoked,
    CrlNumberUsed,
    Entry,
    from_json,
    to_json,
)
from store.append_many import LINES
from store.programs import run
from store.values import MODEL, NOW, batch, certificate, denial, device, ek, manifest_entry

ENTRIES: list[Entry] = [
    device(1),
    device(2, serial="", last_seen_at=None, other_ek_sha256=()),
    certificate("a", "dev-000001", profile=CertificateProfile.IDEVID),
    certificate("b", revoked_at=NOW, reason=RevocationReason.KEY_COMPROMISE),
    CertificateRevoked("ab" * 32, RevocationReason.SUPERSEDED, NOW),
    denial(device_id="dev-9", ek_sha256=(ek(1), ek(2)), reason='quote " and é'),
    BatchClosed("lot-1", NOW, "alice"),
    CrlNumberUsed("15" * 32, 7),
    MODEL,
    manifest_entry(1),
    batch(closed_at=NOW, closed_by="bob"),
    BoardSwap("dev-000001", ek(5), "alice", NOW, "bob", NOW, NOW, NOW),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def write(path: Path, *entries: Entry) -> None:
    journal = Journal(path)
    for entry in entries:
        journal.append([entry])
    journal.close()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: type(entry).__name__)
def test_every_entry_comes_back_as_it_went_in(entry: Entry) -> None:
    assert from_json(json.loads(json.dumps(to_json(entry)))) == entry


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(ENTRIES), st.data())
def test_any_other_json_is_refused_as_such(entry: Entry, data: st.DataObject) -> None:
    told = to_json(entry)
    spoiled = told | {data.draw(st.sampled_from(sorted(told)) | st.text(max_size=4)): data.draw(json_values)}
    try:
        again = from_json(spoiled)
    except ValueError:
        return
    assert from_json(json.loads(json.dumps(to_json(again)))) == again


@given(json_values)
def test_no_json_at_all_is_mistaken_for_an_entry(told: object) -> None:
    with pytest.raises(ValueError, match="want"):
        from_json(told)


def test_lines_are_numbered_chained_and_survive_reopening(path: Path) -> None:
    write(path, *ENTRIES[:3])
    write(path, *ENTRIES[3:])
    lines = list(read_journal(path))
    assert [line.number for line in lines] == list(range(1, len(ENTRIES) + 1))
    assert [entry for line in lines for entry in line.entries] == ENTRIES
    assert last_lines(path) == lines


def test_a_transaction_is_one_line(path: Path) -> None:
    journal = Journal(path)
    journal.append(ENTRIES)
    journal.close()
    (line,) = read_journal(path)
    assert line.entries == tuple(ENTRIES)


def test_a_torn_last_line_is_left_out_reported_and_overwritten(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(path, *ENTRIES[:3])
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        path.write_bytes(whole[:-cut])
        assert len(list(read_journal(path))) == 2
        write(path, ENTRIES[3])
        assert [line.entries[0] for line in read_journal(path)] == [*ENTRIES[:2], ENTRIES[3]]
    assert "cut off by a crash" in caplog.text


def test_a_file_of_nothing_but_a_torn_line_begins_anew(path: Path) -> None:
    path.write_bytes(b'{"n":1,"prev":')
    path.chmod(0o600)
    assert list(read_journal(path)) == []
    write(path, ENTRIES[0])
    assert [line.number for line in read_journal(path)] == [1]


@pytest.mark.parametrize("spoil", ["alter", "drop", "swap", "first", "garbage"])
def test_a_damaged_line_is_noticed(path: Path, spoil: str) -> None:
    write(path, *ENTRIES[:4])
    lines = path.read_bytes().splitlines(keepends=True)
    match spoil:
        case "alter":
            lines[1] = lines[1].replace(b"edge-1", b"edge-2")
        case "drop":
            del lines[1]
        case "swap":
            lines[1], lines[2] = lines[2], lines[1]
        case "first":
            del lines[0]
        case "garbage":
            lines[2] = b"\xff\x00\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalDamaged):
        list(read_journal(path))


def test_a_long_line_is_found_from_the_end(path: Path) -> None:
    long = certificate("long", der=os.urandom(200_000))
    write(path, ENTRIES[0], certificate("long too", der=os.urandom(400_000)))
    write(path, long)
    assert [line.entries for line in last_lines(path)] == [(long,)]
    write(path, ENTRIES[1])
    assert [line.number for line in read_journal(path)] == [1, 2, 3, 4]


def test_an_empty_journal_has_no_last_line(path: Path) -> None:
    write(path)
    assert last_lines(path) == []
    assert list(read_journal(path)) == []


def test_several_processes_append_to_one_file(path: Path) -> None:
    workers = [run("append_many.py", path, f"worker {number}") for number in range(3)]
    for worker in workers:
        output, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0, output
    assert len(list(read_journal(path))) == 3 * LINES


def test_journals_of_replicas_are_merged_by_time(tmp_path: Path) -> None:
    for name, offset in (("one", 0), ("two", 1)):
        times = iter([NOW + timedelta(seconds=2 * i + offset) for i in range(3)])
        journal = Journal(tmp_path / name, clock=lambda times=times: next(times))  # type: ignore[misc]
        for i in range(3):
            journal.append([CrlNumberUsed(name, i)])
        journal.close()
    told = [line.entries[0] for line in merged([tmp_path / "one", tmp_path / "two"])]
    assert told == [CrlNumberUsed(name, i) for i in range(3) for name in ("one", "two")]


def test_a_journal_that_cannot_be_kept_is_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(Misconfigured, match="folder must exist"):
        Journal(tmp_path / "none" / "journal")
    with pytest.raises(Misconfigured, match="cannot read"):
        list(read_journal(path))
    path.touch(mode=0o600)
    path.chmod(0o644)
    with pytest.raises(Misconfigured, match="chmod 600"):
        Journal(path)


def test_a_journal_that_was_moved_away_takes_no_more(path: Path) -> None:
    journal = Journal(path)
    path.rename(path.with_name("elsewhere"))
    path.touch(mode=0o600)
    with pytest.raises(StoreFailed, match="replaced"):
        journal.append(ENTRIES)
    path.unlink()
    with pytest.raises(StoreFailed):
        journal.append(ENTRIES)
    journal.close()
    with pytest.raises(StoreFailed, match="closed"):
        journal.append(ENTRIES)


def test_a_write_that_fails_half_way_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    journal.append([ENTRIES[0]])
    before = path.read_bytes()
    real = os.pwrite

    def half(fd: int, data: bytes, offset: int) -> int:
        if offset > len(before):
            raise OSError(28, "No space left on device")
        return real(fd, data[:10], offset)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(StoreFailed, match="No space left"):
        journal.append([ENTRIES[1]])
    assert path.read_bytes() == before
    monkeypatch.undo()
    journal.append([replace(device(1), epoch=2)])
    journal.close()
    assert [line.number for line in read_journal(path)] == [1, 2]
