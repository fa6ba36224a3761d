"""What is done apart comes back whole: its value, or its error with all that it carries; and nothing of it stays."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from birthmark_agent import birth, clock, mqtt, run, status
from birthmark_agent.apart import WorkLost, apart
from birthmark_agent.errors import AgentError, KeyNotOfThisTpm, TlsKeyFailed, TpmError
from birthmark_agent.homecoming import leads_elsewhere
from birthmark_agent.http import Problem, Refused, TlsFailed, Unavailable

PROBLEM = Problem(429, "too-many", "Too many requests", "later", "r-1", 12.5)


def fail(error: BaseException, cause: BaseException | None = None) -> None:
    raise error from cause


def test_the_value_comes_back_from_another_process() -> None:
    number, value = apart(lambda: (os.getpid(), bytes(100_000)))
    assert number != os.getpid()
    assert value == bytes(100_000)


def test_work_within_work_stays_in_the_same_child() -> None:
    outer, inner = apart(lambda: (os.getpid(), apart(os.getpid)))
    assert outer == inner != os.getpid()


def test_a_program_that_the_work_starts_can_be_ended_in_order() -> None:
    """As libtss2 ends the program of a `cmd:` TCTI; without it the agent waited for ever."""

    def start_and_end() -> int:
        with subprocess.Popen(["sleep", "60"]) as program:
            program.terminate()
            return program.wait(10)

    assert apart(start_and_end) == -signal.SIGTERM


@pytest.mark.parametrize(
    "error",
    [
        TlsFailed("refused us", peer=True, time=True),
        Refused(PROBLEM),
        Unavailable(PROBLEM),
        TpmError("TPM2_Load: no", rc=0x1DF),
        KeyNotOfThisTpm("of another", rc=7),
        mqtt.BrokerRefused("no", reason="Not authorized"),
        mqtt.ConnectionLost("gone", taken_over=True),
        birth.NoEndorsement("none"),
        clock.TimeRefused("no"),
        run.RenewalFailed("no"),
        status.AlreadyRunning("yes"),
    ],
)
def test_an_error_comes_back_with_all_that_it_carries(error: AgentError) -> None:
    with pytest.raises(type(error)) as raised:
        apart(lambda: fail(error))
    assert type(raised.value) is type(error)
    assert (str(raised.value), raised.value.__dict__) == (str(error), error.__dict__)


def test_an_errors_cause_comes_with_it() -> None:
    with pytest.raises(TlsKeyFailed, match="could not sign") as raised:
        apart(lambda: fail(TlsKeyFailed("could not sign"), TpmError("busy", rc=0x922)))
    assert isinstance(raised.value.__cause__, TpmError)
    assert raised.value.__cause__.rc == 0x922


def test_a_fault_of_ours_comes_with_the_place_where_it_happened() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        apart(lambda: 1 // 0)
    assert "test_apart.py" in raised.value.__notes__[0]


def test_a_child_that_is_killed_is_work_lost_and_no_fault_of_the_key() -> None:
    with pytest.raises(WorkLost, match="-9") as raised:
        apart(lambda: os.kill(os.getpid(), signal.SIGKILL))
    failed = TlsKeyFailed("the key could not sign the handshake")
    failed.__cause__ = raised.value
    assert not leads_elsewhere(failed)


def test_what_it_loaded_and_changed_is_gone_with_it() -> None:
    """In a process of its own: this one has loaded everything already."""
    program = """
import sys
from birthmark_agent.apart import apart
def work():
    import birthmark_agent.enrollment
    seen.append(1)
    return "tpm2_pytss" in sys.modules
seen = []
assert apart(work)
assert not seen and "tpm2_pytss" not in sys.modules and "cryptography" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_it_takes_no_signal_that_is_meant_for_the_agent() -> None:
    def signalled() -> str:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
        return "done"

    assert apart(signalled) == "done"


def test_it_dies_with_the_agent() -> None:
    program = """
import os, time
from birthmark_agent.apart import apart
def work():
    print(os.getpid(), flush=True)
    time.sleep(60)
apart(work)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout
        child = int(agent.stdout.readline())
        agent.kill()
    until = time.monotonic() + 10
    while _lives(child):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_interrupted_agent_leaves_no_child_behind() -> None:
    main = threading.main_thread().ident
    assert main

    def interrupt() -> None:
        time.sleep(0.2)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    before = _children()
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        apart(lambda: time.sleep(60))
    thread.join()
    assert _children() == before


def _children() -> set[str]:
    """Process ids of this process's children: a fixture's programs, perhaps, and those that nobody has waited for."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
