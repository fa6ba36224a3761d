"""The deny file: whole, sorted, durable, and shared by several writers."""

import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.broker.denyfile import (
    LEASE_MOST_S,
    Denials,
    DenyFile,
    DenyList,
    Lease,
    decode,
    encode,
)
from birthmark_server.broker.errors import DenyFileMalformed
from birthmark_server.broker.signing import DenySigner
from birthmark_server.ca import oids
from support.broker_pki import BrokerPki

_IDS = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)
_SERIALS = st.from_regex(r"[1-9a-f][0-9a-f]{0,39}", fullmatch=True)
_LEASES = st.builds(
    lambda issued, length: Lease(issued, issued + length), st.integers(0, 10**17), st.integers(1, LEASE_MOST_S)
)
_LISTS = st.builds(
    lambda version, devices, serials, lease: replace(
        DenyList.of(version, devices=devices, serials=serials), lease=lease
    ),
    st.integers(0, 10**18 - 1),
    st.frozensets(_IDS),
    st.frozensets(_SERIALS),
    _LEASES,
)

MALFORMED = [
    b"",
    b"\n",
    b"birthmark-deny 2 1 100 200\n",
    b"birthmark-deny 2 1 100 200\nend 0",
    b"birthmark-deny 1 1\nend 0\n",
    b"birthmark-deny 2 1\nend 0\n",
    b"birthmark-deny 2 1 100\nend 0\n",
    b"birthmark-deny 2 1 200 100\nend 0\n",
    b"birthmark-deny 2 1 100 100\nend 0\n",
    b"birthmark-deny 2 1 0 604801\nend 0\n",
    b"birthmark-deny 2 1 100 200 \nend 0\n",
    b"birthmark-deny 2 1 \xd9\xa1 200\nend 0\n",
    b"birthmark-deny 2 01 100 200\nend 0\n",
    b"birthmark-deny 2 1 100 200\nend 1\n",
    b"birthmark-deny 2 1 100 200\nend 0\n\n",
    b"birthmark-deny 2 1 100 200\ndevice a\nend 2\n",
    b"birthmark-deny 2 1 100 200\ndevice b\ndevice a\nend 2\n",
    b"birthmark-deny 2 1 100 200\ndevice a\ndevice a\nend 2\n",
    b"birthmark-deny 2 1 100 200\nserial 01\nend 1\n",
    b"birthmark-deny 2 1 100 200\nserial 1F\nend 1\n",
    b"birthmark-deny 2 1 100 200\nhost a\nend 1\n",
    b"birthmark-deny 2 1 100 200\ndevice A\nend 1\n",
    b"birthmark-deny 2 1 100 200\r\nend 0\r\n",
    b"birthmark-deny 2 1 100 200\ndevice a\x00\nend 1\n",
    b"birthmark-deny 2 1 100 200\ndevice \xe9\nend 1\n",
]


@given(_LISTS)
def test_what_was_encoded_is_read_back(denied: DenyList) -> None:
    again = decode(encode(denied))
    assert (again, again.lease) == (denied, denied.lease)


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
    denied = replace(denied, lease=Lease(1_800_000_000, 1_800_000_900))
    assert (
        encode(denied)
        == b"birthmark-deny 2 3 1800000000 1800000900\ndevice dev-1\ndevice dev-2\nserial 10\nserial ff\nend 4\n"
    )


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


Opened = Callable[..., DenyFile]


@pytest.fixture
def opened(pki: BrokerPki, tmp_path: Path) -> Opened:
    """Open the same file once more."""
    return partial(DenyFile, tmp_path / "deny", signer=pki.deny_signer)


def test_each_change_raises_the_version_and_what_is_denied_already_changes_nothing(opened: Opened) -> None:
    file = opened()
    assert file.create().version == 1
    assert file.create().version == 1
    assert file.add(devices=["a"]).version == 2
    assert file.add(devices=["a"]).version == 2
    assert file.add(serials=["1f"]) == DenyList.of(3, devices=["a"], serials=["1f"]) == file.read()
    assert file.replace(lambda: Denials(serials=["1f"])).version > 3
    assert file.read().entries == ("serial 1f",)


def test_a_bad_value_leaves_the_file_as_it_was(opened: Opened, tmp_path: Path) -> None:
    file = opened()
    file.create()
    with pytest.raises(DenyFileMalformed):
        file.add(devices=["not an id"])
    assert file.read() == DenyList(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deny", "deny.lock"]


def test_a_damaged_file_is_not_added_to_but_can_be_replaced(opened: Opened) -> None:
    file = opened()
    file.path.write_bytes(b"garbage")
    with pytest.raises(DenyFileMalformed):
        file.add(devices=["a"])
    assert file.path.read_bytes() == b"garbage"
    assert file.replace(lambda: Denials(devices=["a"])).devices == {"a"}


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"garbage")], ids=["lost", "damaged"])
def test_a_list_written_anew_is_above_all_that_the_gate_ever_saw(
    opened: Opened, damage: Callable[[Path], object]
) -> None:
    file = opened(clock=lambda: 1_800_000_000.25)
    file.create()
    seen = file.add(devices=["a"]).version
    damage(file.path)
    assert file.replace(lambda: Denials(devices=["a"])).version == 1_800_000_000_250 > seen
    assert file.add(devices=["b"]).version == 1_800_000_000_251


def test_the_version_rises_even_where_the_clock_does_not(opened: Opened) -> None:
    file = opened(clock=lambda: 0.001)
    file.create()
    assert [file.replace(Denials).version for _ in range(3)] == [2, 3, 4]


def test_a_revocation_during_a_replacement_is_kept(opened: Opened) -> None:
    """The order of `device revoke` (database, then file) against that of `broker sync` (file's lock, then database)."""
    opened().create()
    database: set[str] = set()
    revoked = threading.Thread(target=opened().add, kwargs={"devices": ["a"]})

    def read() -> Denials:
        seen = frozenset(database)
        database.add("a")
        revoked.start()
        revoked.join(0.2)  # it waits for the lock
        return Denials(devices=seen)

    opened().replace(read)
    revoked.join()
    assert opened().read().devices == database


def test_the_broker_can_read_it_whatever_the_umask(opened: Opened) -> None:
    old = os.umask(0o077)
    try:
        file = opened()
        file.create()
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o644


def test_writers_lose_none_of_each_others_entries(opened: Opened) -> None:
    opened().create()

    def deny(first: int) -> None:
        for number in range(first, first + 20):
            opened().add(devices=[f"dev-{number}"])

    writers = [threading.Thread(target=deny, args=(first,)) for first in (0, 20, 40)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    denied = opened().read()
    assert denied.devices == {f"dev-{number}" for number in range(60)}
    assert denied.version == 61


def test_a_lease_is_renewed_after_a_third_of_it_and_no_sooner(opened: Opened) -> None:
    at = 1_800_000_000.0
    file = opened(lease_s=900, clock=lambda: at)
    file.create()
    file.add(devices=["a"])
    at += 299
    assert not file.renewal_due()
    assert file.renew().version == 2
    at += 1
    assert file.renewal_due()
    renewed = file.renew()
    assert renewed == DenyList.of(3, devices=["a"])
    assert renewed.lease == file.read().lease == Lease(1_800_000_300, 1_800_001_200)
    assert not file.renewal_due()
    assert file.renew().version == 3  # another process came first


def test_a_clock_set_back_or_another_length_is_reason_enough(opened: Opened) -> None:
    at = 1_800_000_000.0
    opened(clock=lambda: at).create()
    assert not opened(clock=lambda: at).renewal_due()
    assert opened(clock=lambda: at, lease_s=600).renewal_due()
    assert opened(clock=lambda: at - 1).renewal_due()
    renewed = opened(clock=lambda: at - 3600).renew()
    assert (renewed.version, renewed.lease.issued_s) == (2, 1_799_996_400)


def test_every_change_begins_a_new_lease(opened: Opened) -> None:
    at = 1_800_000_000.0
    file = opened(clock=lambda: at)
    file.create()
    at += 100
    assert file.add(devices=["a"]).lease.until_s == 1_800_001_000
    at += 100
    assert file.replace(Denials).lease.until_s == 1_800_001_100


def test_a_file_that_another_wrote_is_not_believed(opened: Opened, tmp_path: Path) -> None:
    """Whoever can write the file can't have us sign what they wrote."""
    opened().create()
    opened().add(devices=["a"])
    stranger = BrokerPki(tmp_path).deny_signer
    for data in (
        encode(DenyList(9)),
        stranger.sign(encode(DenyList(9))),
        opened().path.read_bytes().replace(b"device a\n", b"").replace(b"end 1", b"end 0"),
    ):
        opened().path.write_bytes(data)
        for act in (opened().read, opened().renew, partial(opened().add, devices=["b"])):
            with pytest.raises(DenyFileMalformed):
                act()


def test_the_next_signer_goes_on_with_what_the_last_one_wrote(opened: Opened, pki: BrokerPki) -> None:
    opened().create()
    opened().add(devices=["a"])
    leaf = pki.leaf(pki.infra, ["srv-deny-list"], purposes=[oids.KP_DENY_LIST])
    following = DenySigner.load(leaf.chain, leaf.key)
    assert opened(signer=following).add(devices=["b"]).devices == {"a", "b"}
    assert opened().read().devices == {"a", "b"}


def test_every_change_is_copied_and_a_copy_that_fails_fails_nothing(
    pki: BrokerPki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    near, far = tmp_path / "near" / "deny", tmp_path / "not-mounted" / "deny"
    near.parent.mkdir()
    file = DenyFile(tmp_path / "deny", signer=pki.deny_signer, copies=[near, far])
    file.create()
    file.add(devices=["a"])
    file.add(devices=["b"])
    assert near.read_bytes() == file.path.read_bytes()
    assert caplog.text.count("deny list not copied") == 1  # said once, though it fails each time


def test_a_copy_that_is_missing_or_old_is_made_good(pki: BrokerPki, tmp_path: Path) -> None:
    copy = tmp_path / "far" / "deny"
    file = DenyFile(tmp_path / "deny", signer=pki.deny_signer, copies=[copy])
    file.create()
    copy.parent.mkdir()
    file.keep_copies()
    assert copy.read_bytes() == file.path.read_bytes()
    DenyFile(file.path, signer=pki.deny_signer).add(devices=["a"])  # by another, who knows of no copies
    file.keep_copies()
    assert copy.read_bytes() == file.path.read_bytes()
    written = copy.stat().st_mtime_ns
    file.keep_copies()
    assert copy.stat().st_mtime_ns == written
