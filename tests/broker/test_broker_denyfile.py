"""The deny file: whole, sorted, durable, and shared by several writers."""

import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.broker.denyfile import Denials, DenyFile, DenyList, decode, encode
from birthmark_server.broker.errors import DenyFileMalformed

_IDS = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)
_SERIALS = st.from_regex(r"[1-9a-f][0-9a-f]{0,39}", fullmatch=True)
_LISTS = st.builds(
    DenyList.of, st.integers(0, 10**18 - 1), devices=st.frozensets(_IDS), serials=st.frozensets(_SERIALS)
)

MALFORMED = [
    b"",
    b"\n",
    b"birthmark-deny 1 1\n",
    b"birthmark-deny 1 1\nend 0",
    b"birthmark-deny 2 1\nend 0\n",
    b"birthmark-deny 1 01\nend 0\n",
    b"birthmark-deny 1 1\nend 1\n",
    b"birthmark-deny 1 1\nend 0\n\n",
    b"birthmark-deny 1 1\ndevice a\nend 2\n",
    b"birthmark-deny 1 1\ndevice b\ndevice a\nend 2\n",
    b"birthmark-deny 1 1\ndevice a\ndevice a\nend 2\n",
    b"birthmark-deny 1 1\nserial 01\nend 1\n",
    b"birthmark-deny 1 1\nserial 1F\nend 1\n",
    b"birthmark-deny 1 1\nhost a\nend 1\n",
    b"birthmark-deny 1 1\ndevice A\nend 1\n",
    b"birthmark-deny 1 1\r\nend 0\r\n",
    b"birthmark-deny 1 1\ndevice a\x00\nend 1\n",
    b"birthmark-deny 1 1\ndevice \xe9\nend 1\n",
]


@given(_LISTS)
def test_what_was_encoded_is_read_back(denied: DenyList) -> None:
    assert decode(encode(denied)) == denied


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(DenyFileMalformed):
        assert encode(decode(data)) == data


@pytest.mark.parametrize("data", MALFORMED, ids=repr)
def test_what_the_gate_refuses_is_refused_here(data: bytes) -> None:
    with pytest.raises(DenyFileMalformed):
        decode(data)


def test_the_file_is_as_documented() -> None:
    denied = DenyList.of(3, devices=["dev-2", "dev-1"], serials=["ff", "10"])
    assert encode(denied) == b"birthmark-deny 1 3\ndevice dev-1\ndevice dev-2\nserial 10\nserial ff\nend 4\n"


@pytest.mark.parametrize("values", [{"devices": ["A"]}, {"devices": ["a\nb"]}, {"serials": ["0f"]}, {"serials": [""]}])
def test_a_value_that_the_gate_would_not_take_is_in_no_list(values: dict[str, list[str]]) -> None:
    with pytest.raises(DenyFileMalformed):
        DenyList.of(1, **values)
    with pytest.raises(DenyFileMalformed):
        DenyList(1).with_more(**values)


@given(_LISTS, st.frozensets(_IDS), st.frozensets(_SERIALS))
def test_adding_is_the_same_as_making_anew(denied: DenyList, devices: frozenset[str], serials: frozenset[str]) -> None:
    more = denied.with_more(devices=devices, serials=serials)
    assert more.entries == DenyList.of(0, devices=denied.devices | devices, serials=denied.serials | serials).entries
    assert (more is denied) == (devices <= denied.devices and serials <= denied.serials)


def test_each_change_raises_the_version_and_what_is_denied_already_changes_nothing(tmp_path: Path) -> None:
    file = DenyFile(tmp_path / "deny")
    assert file.create().version == 1
    assert file.create().version == 1
    assert file.add(devices=["a"]).version == 2
    assert file.add(devices=["a"]).version == 2
    assert file.add(serials=["1f"]) == DenyList.of(3, devices=["a"], serials=["1f"]) == file.read()
    assert file.replace(lambda: Denials(serials=["1f"])).version > 3
    assert file.read().entries == ("serial 1f",)


def test_a_bad_value_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = DenyFile(tmp_path / "deny")
    file.create()
    with pytest.raises(DenyFileMalformed):
        file.add(devices=["not an id"])
    assert file.read() == DenyList(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deny", "deny.lock"]


def test_a_damaged_file_is_not_added_to_but_can_be_replaced(tmp_path: Path) -> None:
    file = DenyFile(tmp_path / "deny")
    file.path.write_bytes(b"garbage")
    with pytest.raises(DenyFileMalformed):
        file.add(devices=["a"])
    assert file.path.read_bytes() == b"garbage"
    assert file.replace(lambda: Denials(devices=["a"])).devices == {"a"}


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"garbage")], ids=["lost", "damaged"])
def test_a_list_written_anew_is_above_all_that_the_gate_ever_saw(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    file = DenyFile(tmp_path / "deny", clock=lambda: 1_800_000_000.25)
    file.create()
    seen = file.add(devices=["a"]).version
    damage(file.path)
    assert file.replace(lambda: Denials(devices=["a"])).version == 1_800_000_000_250 > seen
    assert file.add(devices=["b"]).version == 1_800_000_000_251


def test_the_version_rises_even_where_the_clock_does_not(tmp_path: Path) -> None:
    file = DenyFile(tmp_path / "deny", clock=lambda: 0.001)
    file.create()
    assert [file.replace(Denials).version for _ in range(3)] == [2, 3, 4]


def test_a_revocation_during_a_replacement_is_kept(tmp_path: Path) -> None:
    """The order of `device revoke` (database, then file) against that of `broker sync` (file's lock, then database)."""
    DenyFile(tmp_path / "deny").create()
    database: set[str] = set()
    revoked = threading.Thread(target=DenyFile(tmp_path / "deny").add, kwargs={"devices": ["a"]})

    def read() -> Denials:
        seen = frozenset(database)
        database.add("a")
        revoked.start()
        revoked.join(0.2)  # it waits for the lock
        return Denials(devices=seen)

    DenyFile(tmp_path / "deny").replace(read)
    revoked.join()
    assert DenyFile(tmp_path / "deny").read().devices == database


def test_the_broker_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        file = DenyFile(tmp_path / "deny")
        file.create()
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o644


def test_writers_lose_none_of_each_others_entries(tmp_path: Path) -> None:
    DenyFile(tmp_path / "deny").create()

    def deny(first: int) -> None:
        for number in range(first, first + 20):
            DenyFile(tmp_path / "deny").add(devices=[f"dev-{number}"])

    writers = [threading.Thread(target=deny, args=(first,)) for first in (0, 20, 40)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    denied = DenyFile(tmp_path / "deny").read()
    assert denied.devices == {f"dev-{number}" for number in range(60)}
    assert denied.version == 61
