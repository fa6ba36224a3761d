"""Our own SMP group, 64 ("enrollment"): what only our firmware answers. firmware_stubs/ is its other end.

    0 identify   read    who the board is; answered always
    1 tpm        write   one whole TPM command, for its whole response; those of an allow list
    2 provision  write   the unit's record (birthmark_wire.factory.ProvisionRecord, JSON)
    3 provision  read    the same, given back
    4 lock       write   factory mode ends, for good

CBOR maps behind SMP's header of 8 bytes; version 2 of SMP, errors as {"err": {"group", "rc"}}, or {"rc"} where they are
no group's own. All but identify in factory mode only. Light, because `birthmark-smp-tcti` starts for every piece of
work that an agent has for a TPM: neither smpclient nor pydantic.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import cbor2

from birthmark_server.factory.smp.errors import (
    BoardGarbled,
    BoardLocked,
    CommandNotAllowed,
    DeviceRefused,
    TpmFailed,
    WrongFirmware,
)
from birthmark_server.factory.smp.line import Line

GROUP: Final = 64
MOST_TPM_BYTES: Final = 4096
"""The largest TPM command and response (TPM2_MAX_COMMAND_SIZE)."""
TPM_HEADER: Final = struct.Struct(">HII")
"""Of a command: tag, size, command code; of a response: tag, size, response code."""

_SMP_HEADER: Final = struct.Struct(">BBHHBB")
_VERSION_2: Final = 1 << 3
_READ, _WRITE = 0, 2
_ENOTSUP: Final = 8

_LIMIT_S: Final = 30.0
_MOST_TEXT: Final = 64
_TPM_LIMIT_S: Final = 120.0
"""An RSA key may take a TPM a minute to make."""


class Command(IntEnum):
    """The group's commands."""

    IDENTIFY = 0
    TPM = 1
    PROVISION = 2
    RECORD = 3
    LOCK = 4


class Rc(IntEnum):
    """The group's errors that have a meaning of their own."""

    NOT_ALLOWED = 1
    LOCKED = 2


@dataclass(frozen=True, slots=True)
class BoardIdentity:
    """What a board says of itself.

    serial: of its record, empty before it has one; firmware: version; slot: the one that runs; signature: `ok`, `bad`
    or `none`, by its own check; mode: `factory` or `locked`; mac: empty where it has none.
    """

    serial: str
    firmware: str
    slot: int
    signature: str
    mode: str
    mac: str

    @property
    def locked(self) -> bool:
        """Whether it left factory mode."""
        return self.mode == "locked"


class Enrollment:
    """The group on one line. limit_s is each question's; BoardSilent and CableGone are the line's own."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._sequence = 0

    def identify(self, *, limit_s: float = _LIMIT_S) -> BoardIdentity | None:
        """Ask who it is; None where the board has other firmware, or waits in its bootloader."""
        answer = self._ask(_READ, Command.IDENTIFY, {}, limit_s)
        if answer.get("rc") == _ENOTSUP:
            return None
        _refuse_errors(answer, Command.IDENTIFY)
        return BoardIdentity(
            serial=_text(answer, "serial"),
            firmware=_text(answer, "fw"),
            slot=_number(answer, "slot"),
            signature=_text(answer, "sig"),
            mode=_text(answer, "mode"),
            mac=_text(answer, "mac"),
        )

    def tpm(self, command: bytes, *, limit_s: float = _TPM_LIMIT_S) -> bytes:
        """Have its TPM answer one whole command; return the whole response.

        Raise BoardLocked, CommandNotAllowed; TpmFailed where the TPM is silent, or what came is no TPM's response.
        """
        answer = self._ask(_WRITE, Command.TPM, {"c": command}, limit_s)
        _refuse_errors(answer, Command.TPM)
        response = _octets(answer, "r")
        if len(response) < TPM_HEADER.size or TPM_HEADER.unpack_from(response)[1] != len(response):
            raise TpmFailed(f"the TPM answers {response[:16].hex() or 'nothing'}, which is no TPM response")
        return response

    def provision(self, record: bytes) -> None:
        """Write the unit's record."""
        _refuse_errors(self._ask(_WRITE, Command.PROVISION, {"record": record}, _LIMIT_S), Command.PROVISION)

    def record(self) -> bytes:
        """Return the record as the board has it."""
        answer = self._ask(_READ, Command.RECORD, {}, _LIMIT_S)
        _refuse_errors(answer, Command.RECORD)
        return _octets(answer, "record")

    def lock(self) -> None:
        """End factory mode, for good."""
        _refuse_errors(self._ask(_WRITE, Command.LOCK, {}, _LIMIT_S), Command.LOCK)

    def _ask(
        self, operation: int, command: Command, question: dict[str, bytes], limit_s: float
    ) -> dict[object, object]:
        body = cbor2.dumps(question)
        self._sequence = (self._sequence + 1) % 256
        header = _SMP_HEADER.pack(operation | _VERSION_2, 0, len(body), GROUP, self._sequence, command)
        answer = self._line.ask(header + body, limit_s=limit_s)
        op, _flags, length, group, _sequence, asked = _SMP_HEADER.unpack_from(answer)
        if (op & 7, group, asked) != (operation + 1, GROUP, command) or length != len(answer) - _SMP_HEADER.size:
            raise BoardGarbled(
                f"asked for {command.name.lower()}, the board answers with the header {answer[:8].hex()}"
            )
        try:
            members = cbor2.loads(answer[_SMP_HEADER.size :])
        except (cbor2.CBORDecodeError, ValueError, RecursionError) as error:
            raise BoardGarbled(f"the board's answer to {command.name.lower()} is no CBOR: {error}") from None
        if not isinstance(members, dict):
            raise BoardGarbled(f"want a map as the answer to {command.name.lower()}, got {str(members)[:80]}")
        return members


def _refuse_errors(answer: dict[object, object], command: Command) -> None:
    """Raise what an answer refuses, if it does."""
    what = command.name.lower()
    match answer:
        case {"err": {"group": 64, "rc": Rc.LOCKED}}:
            raise BoardLocked(f"{what}: the board is locked")
        case {"err": {"group": 64, "rc": Rc.NOT_ALLOWED}}:
            raise CommandNotAllowed(f"{what}: not on the board's list")
        case {"err": {"group": 64, "rc": int(rc)}} if command is Command.TPM:
            raise TpmFailed(f"the board had no answer from its TPM (error {rc} of its enrollment group)")
        case {"err": {"group": int(group), "rc": int(rc)}}:
            raise DeviceRefused(f"{what}: error {rc} of group {group}")
        case {"rc": 8}:
            raise WrongFirmware(f"{what}: the board's firmware has no such command; it is not ours, or an older one")
        case {"rc": int(rc)} if rc != 0:
            raise DeviceRefused(f"{what}: error {rc}")


def _text(answer: dict[object, object], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        raise BoardGarbled(
            f"want text, at most {_MOST_TEXT} characters, as {name!r} in the board's answer, got {str(value)[:80]}"
        )
    return value


def _number(answer: dict[object, object], name: str) -> int:
    value = answer.get(name)
    if not isinstance(value, int):
        raise BoardGarbled(f"want a number as {name!r} in the board's answer, got {str(value)[:80]}")
    return value


def _octets(answer: dict[object, object], name: str) -> bytes:
    value = answer.get(name)
    if not isinstance(value, bytes):
        raise BoardGarbled(f"want octets as {name!r} in the board's answer, got {str(value)[:80]}")
    return value
