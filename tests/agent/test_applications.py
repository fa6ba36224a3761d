"""Who gets a connection to the socket of applications; what they do with it is in tests/integration_agent."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from birthmark_agent.applications import Applications
from birthmark_agent.errors import Misconfigured
from birthmark_agent.mqtt import drive
from birthmark_agent.settings import ApplicationSettings


@contextmanager
def listening(path: Path, *, uid: int) -> Iterator[Applications]:
    settings = ApplicationSettings(path, max_message_bytes=64, rate_per_s=100.0, queue=4, users={"meter": (uid,)})
    applications = Applications(settings)
    applications.open()
    try:
        yield applications
    finally:
        applications.close()


def connect(path: Path, stack: ExitStack, applications: Applications) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
    sock.settimeout(5)
    sock.connect(str(path))
    drive([], timeout_s=1, others=[applications])
    return sock


def test_a_user_who_is_no_application_gets_no_place(tmp_path: Path) -> None:
    path = tmp_path / "apps"
    with ExitStack() as stack, listening(path, uid=os.geteuid() + 1) as applications:
        for _ in range(100):
            assert connect(path, stack, applications).recv(1000).startswith(b"ERR not-allowed")
        assert len(applications.interests()) == 1


def test_one_user_does_not_take_the_places_of_others(tmp_path: Path) -> None:
    path = tmp_path / "apps"
    with ExitStack() as stack, listening(path, uid=os.geteuid()) as applications:
        for _ in range(16):
            sock = connect(path, stack, applications)
            sock.sendall(b"HELLO meter\n")
            drive([], timeout_s=1, others=[applications])
            assert sock.recv(1000) == b"OK\n"
        assert connect(path, stack, applications).recv(1000).startswith(b"ERR too-many")
        assert applications.names == ["meter"]
    assert not path.exists()


def test_a_path_that_can_not_be_is_a_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"applications\.socket"), listening(tmp_path / "no" / "apps", uid=0):
        pass
    with pytest.raises(Misconfigured, match=r"applications\.socket"), listening(tmp_path / ("x" * 200), uid=0):
        pass


def test_everybody_may_knock_and_one_that_was_killed_left_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "apps"
    with listening(path, uid=0):
        assert path.stat().st_mode & 0o777 == 0o666
        with listening(path, uid=0), ExitStack() as stack:
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
