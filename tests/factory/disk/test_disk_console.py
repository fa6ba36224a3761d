"""A console: lines as they come, whatever comes; and each way in which it ends has its words."""

import os
import pty
import threading
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest

from birthmark_server.factory.disk.console import LONGEST_LINE, Console
from birthmark_server.factory.disk.errors import ConsoleGarbled, ConsoleGone, ConsoleSilent
from support.scripted_console import HANGS_UP, Hears, ScriptedConsole, Step

LIMIT = timedelta(seconds=30)
AT_ONCE = timedelta(0)


def lines(tmp_path: Path, script: Sequence[Step], count: int, *, limit: timedelta = LIMIT) -> list[str]:
    with (
        ScriptedConsole(tmp_path / "c", script) as device,
        Console.open(device.address, tmp_path / "log", patience=LIMIT) as console,
    ):
        return list(islice(console.lines(limit, "word"), count))


def test_lines_come_one_by_one_however_they_were_cut(tmp_path: Path) -> None:
    assert lines(tmp_path, [b"one\r\ntw", b"o\n\nthr", b"ee\r\n"], 4) == ["one", "two", "", "three"]
    assert (tmp_path / "log").read_bytes() == b"one\r\ntwo\n\nthree\r\n"


def test_many_lines_that_nobody_read_in_time_are_lines(tmp_path: Path) -> None:
    """A kernel says more at once than the longest line has, in short ones."""
    one = b"[    1.234567] pci 0000:00:1f.3: reg 0x20: [io  0x0700-0x073f]\n"
    count = 4 * LONGEST_LINE // len(one)
    assert lines(tmp_path, [one * count], count) == [one.decode().strip("\n")] * count


def test_a_line_without_an_end_is_garbage(tmp_path: Path) -> None:
    with pytest.raises(ConsoleGarbled, match=r"the last line \d+,\d\d\d"):
        lines(tmp_path, [b"fine\n" + b"\xff" * (2 * LONGEST_LINE)], 2)


def test_what_is_no_text_is_shown_as_such(tmp_path: Path) -> None:
    assert lines(tmp_path, [b"\xfe\xff\x1b[2J\n"], 1) == ["\ufffd\ufffd\x1b[2J"]


def test_silence_says_what_was_wanted_and_what_came_last(tmp_path: Path) -> None:
    with pytest.raises(ConsoleSilent, match=r"no word on unix:.* within 0\.2 s; it last said: grub> \? / half"):
        lines(tmp_path, [b"grub> \x1b\nhalf\n", b"a line"], 3, limit=timedelta(seconds=0.2))


def test_a_device_that_never_said_anything_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConsoleSilent, match="it said nothing"):
        lines(tmp_path, [], 1, limit=timedelta(seconds=0.1))


def test_a_line_that_is_hung_up_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ConsoleGone, match="was closed; it last said: off"):
        lines(tmp_path, [b"off\n", HANGS_UP], 2)


def test_what_is_said_is_a_line(tmp_path: Path) -> None:
    with (
        ScriptedConsole(tmp_path / "c", [Hears("GO"), b"went\n"]) as device,
        Console.open(device.address, tmp_path / "log", patience=LIMIT) as console,
    ):
        console.say("GO")
        assert next(console.lines(LIMIT, "word")) == "went"
    assert device.heard == ["GO"]


def test_another_thread_ends_a_wait(tmp_path: Path) -> None:
    with ScriptedConsole(tmp_path / "c", []) as device:
        console = Console.open(device.address, tmp_path / "log", patience=LIMIT)
        closer = threading.Timer(0.2, console.close)
        closer.start()
        with pytest.raises(ConsoleGone, match="let go of"):
            next(console.lines(timedelta(seconds=60), "word"))
        closer.join()
        console.close()


def test_one_that_appears_late_is_waited_for(tmp_path: Path) -> None:
    device = ScriptedConsole(tmp_path / "late", [b"here\n"])
    starter = threading.Timer(0.5, lambda: (tmp_path / "late").rename(tmp_path / "c"))
    starter.start()
    with device, Console.open(f"unix:{tmp_path}/c", tmp_path / "log", patience=LIMIT) as console:
        assert next(console.lines(LIMIT, "word")) == "here"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("unix:/nonexistent/console", "No such file"),
        ("tcp:localhost:none", "invalid literal"),
        ("tcp:127.0.0.1:1", "refused"),
        ("/nonexistent/tty", "No such file"),
        ("/dev/null", "Inappropriate ioctl"),
    ],
)
def test_one_that_cant_be_opened_says_why(tmp_path: Path, address: str, why: str) -> None:
    with pytest.raises(ConsoleGone, match=f"console {address}: .*{why}"):
        Console.open(address, tmp_path / "log", patience=AT_ONCE)


def test_a_serial_device_is_a_console(tmp_path: Path) -> None:
    """A pseudo-terminal is one, but for the baud rate: raw, without an echo, and for one process."""
    ours, theirs = pty.openpty()
    try:
        with Console.open(os.ttyname(theirs), tmp_path / "log", patience=AT_ONCE) as console:
            console.say("GO")
            assert os.read(ours, 100) == b"GO\n"
            os.write(ours, b"BIRTHMARK\r\n")
            assert next(console.lines(LIMIT, "word")) == "BIRTHMARK"
            with pytest.raises(ConsoleGone, match="another process has the port"):
                Console.open(os.ttyname(theirs), tmp_path / "log", patience=AT_ONCE)
            os.close(ours)
            ours = -1
            with pytest.raises(ConsoleGone, match="console /dev/pts/"):
                next(console.lines(LIMIT, "word"))
    finally:
        os.close(theirs)
        if ours >= 0:
            os.close(ours)
