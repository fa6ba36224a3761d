"""Work that needs much memory for a moment, done apart: in a child process that lives for this one piece of work.

The TPM's library and `cryptography` take 17 MB, and a connected agent needs them only while it signs a handshake or
fetches a certificate. A forked child takes 0.1 s for a piece and leaves nothing behind (docs/adr/0066).

Rules:
- Who imports `tpm2_pytss` or `cryptography` is imported inside of `work`: what the parent has loaded, it keeps.
- What `work` returns and raises is defined in light modules: the parent imports them to read the answer.
- What else `work` changes in memory is lost. The parent alone writes to the disk.
- The child dies with its parent, and takes no signal meant for it: an agent that is killed leaves no half of itself.
  SIGTERM is not ignored but does nothing: what is ignored stays so in every program that the work starts, and
  libtss2-tcti-cmd ends its program by SIGTERM, then waits for it.
- Whoever has something to serve says so (`meanwhile`): then a connected agent's messages go on while the child works.
"""

import ctypes
import os
import pickle
import select
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NoReturn, TypeVar

from birthmark_agent.errors import AgentError

_T = TypeVar("_T")

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_ignored: Final = (signal.SIGHUP, signal.SIGINT)

_apart = False
_serve: Callable[[int], None] | None = None


class WorkLost(AgentError):
    """The child process ended without an answer, or could not be started. The same work may be done later."""

    code = "work-lost"
    advice = "look into the kernel's log: it kills processes where memory is short"


@contextmanager
def meanwhile(serve: Callable[[int], None]) -> Iterator[None]:
    """Have `serve` called again and again while a child works, for the length of a with block.

    serve: given a file descriptor, serves what it has to, and returns soon once that one can be read.
    """
    global _serve
    before, _serve = _serve, serve
    try:
        yield
    finally:
        _serve = before


def apart(work: Callable[[], _T]) -> _T:
    """Return what `work` returns, or raise what it raises, `__cause__` included; what is apart already stays there.

    Raises WorkLost. For a process with one thread: other threads do not exist in the child.
    """
    if _apart:
        return work()
    parent = os.getpid()
    reads, writes = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        os.close(reads)
        os.close(writes)
        raise WorkLost(f"no process for a piece of work: {error.strerror}") from None
    if child == 0:
        _be_the_child(work, parent, writes)
    os.close(writes)
    value, failure, cause = pickle.loads(_await_answer(child, reads))  # noqa: S301 - our own child wrote it
    if failure is not None:
        raise failure from cause
    returned: _T = value
    return returned


def _await_answer(child: int, reads: int) -> bytes:
    answer = b""
    try:
        with os.fdopen(reads, "rb") as pipe:
            while _serve is not None and not select.select([reads], [], [], 0)[0]:
                _serve(reads)
            answer = pipe.read()
    except BaseException:  # KeyboardInterrupt
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _pid, status = os.waitpid(child, 0)
    if status != 0:
        raise WorkLost(f"the process of a piece of work ended with {os.waitstatus_to_exitcode(status)}")
    return answer


def _be_the_child(work: Callable[[], object], parent: int, writes: int) -> NoReturn:
    """Work, answer, and end: without the parent's exit handlers, buffers and TLS connections."""
    global _apart
    _apart = True
    status = 1
    with suppress(BaseException):
        for number in _ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.siginterrupt(signal.SIGTERM, False)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # else it died before the line above
            with os.fdopen(writes, "wb") as pipe:
                pickle.dump(_answer(work), pipe)
            status = 0
    os._exit(status)


def _answer(work: Callable[[], object]) -> tuple[object, BaseException | None, BaseException | None]:
    try:
        return work(), None, None
    except BaseException as error:  # noqa: BLE001 - raised again by the parent
        if not isinstance(error, AgentError):
            error.add_note(traceback.format_exc())  # a fault of ours: pickle drops the frames
        return None, error, error.__cause__
