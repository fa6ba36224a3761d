"""Our SMP group, 64, without a board around it: for what is not about firmware, and costs no emulator's CPU.

A peer (smp_peer.py) before a real TPM: TCTI, agent, server and locking are shown with it in seconds, and what a TPM can
do wrong. That our firmware does the same on a board is shown in tests/factory/smp/test_smp_unit.py.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.smp_peer import Question, SmpPeer, peer
from support.swtpm import Swtpm
from support.tpm_uart import ask_tpm

LOCKED = {"err": {"group": 64, "rc": 2}}


@dataclass
class Group64:
    """The group's state. ask: what the TPM answers; a test may put something else in its place. lies: it says that it
    is locked, and is not."""

    ask: Callable[[bytes], bytes]
    mode: str = "factory"
    lies: bool = False
    record: bytes = b""
    who: dict[str, Any] = field(
        default_factory=lambda: {"serial": "", "fw": "1.2.0", "slot": 0, "sig": "ok", "mac": "02:00:00:00:00:01"}
    )

    def answer(self, question: Question) -> Any:
        """Answer one request."""
        match question.group, question.command, question.operation:
            case 0, 6, _:
                return {"buf_size": 4600, "buf_count": 1}
            case 64, 0, 0:
                return {**self.who, "mode": "locked" if self.lies else self.mode}
            case 64, (1 | 2 | 3), _ if self.mode == "locked":
                return LOCKED
            case 64, 1, 2:
                return {"r": self.ask(question.members["c"])}
            case 64, 2, 2:
                self.record = question.members["record"]
                return {}
            case 64, 3, 0:
                return {"record": self.record}
            case 64, 4, 2:
                self.mode = "factory" if self.lies else "locked"
                return {}
        return {"rc": 8}


@contextmanager
def group64(tpm: Swtpm) -> Iterator[tuple[Group64, SmpPeer]]:
    """Serve the group before a running TPM until the end of the with block."""
    path = Path(tpm.tcti.removeprefix("swtpm:path="))
    state = Group64(lambda command: ask_tpm(path, command))
    with peer(lambda question: state.answer(question)) as served:
        yield state, served
