"""What is on disk survives: real kills before every system call, and power cuts that lose what was not synced."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birthmark_agent.errors import IdentityDamaged, StorageFailed
from birthmark_agent.files import Files, PosixDisk
from birthmark_agent.slots import Identity, Slots
from support.tls_pair import SoftwareKey, TestCa

KEY_PEM = b"-----BEGIN TSS2 PRIVATE KEY-----\nMIHxBgZn\n-----END TSS2 PRIVATE KEY-----\n"
_CA = TestCa.create()
_SPKI = SoftwareKey().spki
_T0 = datetime(2026, 1, 1, tzinfo=UTC)


def _identity(day: int) -> Identity:
    start = _T0 + timedelta(days=day)
    return Identity.of(_CA.issue(_SPKI, start=start, end=start + timedelta(days=30)), KEY_PEM)


FIRST, SECOND, THIRD = (_identity(day) for day in (0, 20, 40))


# -- files


def test_written_file_is_private_and_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    files = Files.at(folder)
    files.write("name", b"contents")
    assert files.read("name") == b"contents"
    assert (folder / "name").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == ["name"]


def test_what_is_not_there_is_none_and_removing_it_is_fine(tmp_path: Path) -> None:
    files = Files.at(tmp_path)
    assert files.read("name") is None
    files.remove("name")
    files.write("name", b"x")
    files.remove("name")
    assert files.read("name") is None


class _FullDisk(PosixDisk):
    def create(self, name: str, data: bytes) -> None:
        super().create(name, data[: len(data) // 2])
        raise OSError(28, "No space left on device")


def test_full_disk_keeps_the_old_contents_and_takes_no_space(tmp_path: Path) -> None:
    Files.at(tmp_path).write("name", b"old")
    with pytest.raises(StorageFailed, match="can't write name: No space left on device"):
        Files(_FullDisk(tmp_path)).write("name", b"new contents")
    assert Files.at(tmp_path).read("name") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_really_full_file_system_keeps_the_old_contents(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from birthmark_agent.files import Files\n"
        "from birthmark_agent.errors import StorageFailed\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "files = Files.at(Path(sys.argv[1])); files.write('name', b'old')\n"
        "try: files.write('name', bytes(9000))\n"
        "except StorageFailed: print(files.read('name').decode())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True)
    assert done.stdout == b"old\n"


def test_link_in_the_way_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (tmp_path / "name.new").symlink_to(target)
    with pytest.raises(StorageFailed):
        Files.at(tmp_path).write("name", b"x")
    assert not target.exists()


# -- identities


def test_identity_reads_back_what_it_wrote() -> None:
    assert Identity.decode(FIRST.encode()) == FIRST
    assert (FIRST.not_before, FIRST.not_after) == (_T0, _T0 + timedelta(days=30))
    assert len(FIRST.chain) == 2


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bytes_are_an_identity_or_refused(data: st.DataObject) -> None:
    whole = FIRST.encode()
    cut = data.draw(st.integers(0, len(whole)))
    junk = data.draw(st.binary(max_size=40))
    mangled = data.draw(st.sampled_from([whole[:cut] + junk + whole[cut:], whole[:cut], junk, whole[:cut] + junk]))
    try:
        read = Identity.decode(mangled)
    except IdentityDamaged:
        return
    assert read.encode() == mangled


# -- slots


def test_empty_folder_has_no_identity(tmp_path: Path) -> None:
    slots = Slots(Files.at(tmp_path))
    assert slots.candidates() == ()
    assert slots.best() is None


def test_new_identity_is_in_use_only_once_promoted(tmp_path: Path) -> None:
    slots = Slots(Files.at(tmp_path))
    slots.promote(slots.write_spare(FIRST))
    spare = slots.write_spare(SECOND)
    assert [slot.identity for slot in slots.candidates()] == [FIRST, SECOND]
    slots.promote(spare)
    assert [slot.identity for slot in slots.candidates()] == [SECOND, FIRST]
    assert [slot.current for slot in slots.candidates()] == [True, False]


def test_spare_never_replaces_what_a_boot_would_try_first(tmp_path: Path) -> None:
    slots = Slots(Files.at(tmp_path))
    slots.write_spare(FIRST)  # the pointer was never written: a power cut
    slots.write_spare(SECOND)
    assert {slot.identity for slot in slots.candidates()} == {FIRST, SECOND}
    slots.promote(slots.candidates()[1])
    slots.write_spare(THIRD)
    assert [slot.identity for slot in slots.candidates()] == [FIRST, THIRD]


def test_damaged_current_slot_leaves_the_other(tmp_path: Path) -> None:
    slots = Slots(Files.at(tmp_path))
    slots.promote(slots.write_spare(FIRST))
    current = slots.write_spare(SECOND)
    slots.promote(current)
    (tmp_path / current.name).write_bytes(b"damaged")
    assert [slot.identity for slot in slots.candidates()] == [FIRST]
    assert slots.write_spare(THIRD).name == current.name


def test_slot_that_has_changed_is_not_promoted(tmp_path: Path) -> None:
    slots = Slots(Files.at(tmp_path))
    slots.promote(slots.write_spare(FIRST))
    stale = slots.write_spare(SECOND)
    slots.write_spare(THIRD)
    with pytest.raises(IdentityDamaged, match="does not hold"):
        slots.promote(stale)


def test_clear_forgets_both(tmp_path: Path) -> None:
    slots = Slots(Files.at(tmp_path))
    slots.promote(slots.write_spare(FIRST))
    slots.write_spare(SECOND)
    slots.clear()
    assert slots.candidates() == ()


# -- a kill before every system call of a rotation

_ROTATION = """
import os, sys
from pathlib import Path
from birthmark_agent.files import Files, PosixDisk
from birthmark_agent.slots import Identity, Slots

class Dying(PosixDisk):
    left = int(sys.argv[2])
    def _step(self):
        if not self.left:
            os.kill(os.getpid(), 9)
        self.left -= 1
    def create(self, name, data):
        self._step()
        half = len(data) // 2
        super().create(name, data[:half])  # a torn write is a state of its own
        self._step()
        super().create(name, data)
    def sync(self, name): self._step(); super().sync(name)
    def rename(self, source, target): self._step(); super().rename(source, target)
    def remove(self, name): self._step(); super().remove(name)
    def sync_folder(self): self._step(); super().sync_folder()

slots = Slots(Files(Dying(Path(sys.argv[1]))))
slots.promote(slots.write_spare(Identity.decode(sys.stdin.buffer.read())))
"""


def _rotate(folder: Path, identity: Identity, dies_at: int) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", _ROTATION, str(folder), str(dies_at)], input=identity.encode(), check=False
    )
    assert done.returncode in (0, -9)
    return done.returncode == 0


def test_a_kill_before_any_system_call_leaves_a_working_identity(tmp_path: Path) -> None:
    for step in itertools.count():
        folder = tmp_path / str(step)
        slots = Slots(Files.at(folder))
        slots.promote(slots.write_spare(FIRST))
        finished = _rotate(folder, SECOND, step)
        best = slots.best()
        assert best is not None
        assert best.identity in (FIRST, SECOND)
        assert FIRST in [slot.identity for slot in slots.candidates()]
        if finished:
            assert best.identity == SECOND
            break
        assert _rotate(folder, THIRD, 1000)  # what was left behind is in nobody's way
        best = slots.best()
        assert best is not None
        assert best.identity == THIRD
    assert step == 10  # two writes of five steps


# -- a power cut: what was not synced may or may not be there


class _CuttingDisk:
    """A folder in memory. Each operation not yet synced may be lost when the power goes, in any combination.

    Contents: a created file's data is lost (empty) or torn until sync(). Names: a rename may be lost until
    sync_folder(), which is the most that POSIX lets a file system forget.
    """

    def __init__(self, steps: int = 1000) -> None:
        self.left = steps
        self.names: dict[str, int] = {}
        self.data: dict[int, bytes] = {}
        self.synced: set[int] = set()
        self.durable_names: dict[str, int] = {}
        self.pending: list[tuple[str, int | None]] = []

    def _step(self) -> None:
        if not self.left:
            raise _PowerCut
        self.left -= 1

    def read(self, name: str) -> bytes:
        if name not in self.names:
            raise FileNotFoundError(name)
        return self.data[self.names[name]]

    def create(self, name: str, data: bytes) -> None:
        self._step()
        inode = len(self.data)
        self.data[inode] = data
        self.names[name] = inode
        self.pending.append((name, inode))

    def sync(self, name: str) -> None:
        self._step()
        self.synced.add(self.names[name])

    def rename(self, source: str, target: str) -> None:
        self._step()
        inode = self.names[target] = self.names.pop(source)
        self.pending += [(target, inode), (source, None)]

    def remove(self, name: str) -> None:
        self._step()
        if name not in self.names:
            raise FileNotFoundError(name)
        del self.names[name]
        self.pending.append((name, None))

    def sync_folder(self) -> None:
        self._step()
        self.durable_names, self.pending = dict(self.names), []

    def after_power_cut(self) -> Iterator["_CuttingDisk"]:
        """Yield every folder that the next boot may find."""
        for kept in itertools.product((False, True), repeat=len(self.pending)):
            disk = _CuttingDisk()
            disk.names = dict(self.durable_names)
            for keep, (name, inode) in zip(kept, self.pending, strict=True):
                if keep and inode is not None:
                    disk.names[name] = inode
                elif keep:
                    disk.names.pop(name, None)
            disk.data = {inode: data if inode in self.synced else data[:9] for inode, data in self.data.items()}
            disk.synced, disk.durable_names = set(disk.data), dict(disk.names)
            yield disk


class _PowerCut(BaseException):
    pass


def _rotated(disk: _CuttingDisk, identity: Identity) -> bool:
    slots = Slots(Files(disk))
    try:
        slots.promote(slots.write_spare(identity))
    except _PowerCut:
        return False
    return True


def test_a_power_cut_at_any_step_leaves_a_working_identity_whatever_was_lost() -> None:
    states = 0
    for first_cut in itertools.count():
        disk = _CuttingDisk()
        assert _rotated(disk, FIRST)
        disk.left = first_cut
        finished = _rotated(disk, SECOND)
        for found in disk.after_power_cut():
            states += 1
            best = Slots(Files(found)).best()
            assert best is not None
            assert best.identity == SECOND if finished else best.identity in (FIRST, SECOND)
            for second_cut in range(9):  # and the rotation after that one is cut as well
                again = next(found.after_power_cut())
                again.left = second_cut
                _rotated(again, THIRD)
                assert all(Slots(Files(last)).best() for last in again.after_power_cut())
        if finished:
            break
    assert first_cut == 8
    assert states >= 20


def test_full_disk_during_a_rotation_leaves_the_old_identity_in_use(tmp_path: Path) -> None:
    slots = Slots(Files.at(tmp_path))
    slots.promote(slots.write_spare(FIRST))
    full = Slots(Files(_FullDisk(tmp_path)))
    with pytest.raises(StorageFailed):
        full.write_spare(SECOND)
    spare = slots.write_spare(SECOND)
    with pytest.raises(StorageFailed):
        full.promote(spare)
    best = slots.best()
    assert best is not None
    assert best.identity == FIRST


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed, match="file/state"):
        Files.at(tmp_path / "file" / "state")
