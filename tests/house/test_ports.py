"""Ports for tests: whoever asks gets one that nobody else gets, in whichever process."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.ports import free_port

TESTS = Path(__file__).resolve().parents[1]
KERNELS = Path("/proc/sys/net/ipv4/ip_local_port_range")

FORKS = """
import os
from support.ports import free_port
def some():
    print(*(free_port() for _ in range(30)), flush=True)
some()
if not os.fork():
    some()
    os._exit(0)
os.wait()
input()
"""


def some(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


@contextmanager
def another() -> Iterator[list[int]]:
    """Ports that a process has, and those of its forked child; it lives until the end of the with block."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=pipe, stdout=pipe, text=True, env=environment
    ) as process:
        assert process.stdin
        assert process.stdout
        yield [int(word) for _ in range(2) for word in process.stdout.readline().split()]
        process.stdin.write("\n")


def test_no_two_processes_get_the_same_port_forked_or_not() -> None:
    mine = some(30)
    with another() as one, another() as two:
        assert len({*mine, *one}) == len({*mine, *two}) == 90
        assert len({*one[:30], *two}) == 90  # what the first one's child had, which is dead, may be the second one's


def test_a_port_that_is_in_use_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        assert taken.getsockname()[1] not in some(250)


def test_the_kernel_gives_none_of_them_to_the_near_end_of_a_connection() -> None:
    first = int(KERNELS.read_text().split()[0])
    assert max(some(100)) < first
