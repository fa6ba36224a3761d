"""What a line of the record says: one event, a frozen value, and how it is written in JSON.

Members that are octets are unpadded base64url; spans are whole milliseconds; facts are texts `name=value`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from birthmark_server.factory.values import Outcome, Phase, PhaseResult
from birthmark_wire.encoding import JsonObject, b64
from birthmark_wire.errors import DecodeError

_MOST: Final = 1 << 31
_WORDS: Final = 4096
_MOST_FACTS: Final = 64
MOST_JWS: Final = 60_000
"""Of an entry's JWS, which has every EK certificate of a TPM: with it a line is still JSON that can be read."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The first line: whose record this is. name: random, so that no two records are alike."""

    station: str
    name: str


@dataclass(frozen=True, slots=True)
class Repaired:
    """A power cut had left half a line at the end; its `dropped` bytes were taken off."""

    dropped: int


@dataclass(frozen=True, slots=True)
class RunBegun:
    """Somebody put the slots to work."""

    workorder: str
    operator: str
    slots: int


@dataclass(frozen=True, slots=True)
class OrderLearned:
    """What the server says of a work order, so that the station can go on without it. serials: factory/serials.py."""

    workorder: str
    model: str
    quantity: int
    serials: str
    ek_template: str


@dataclass(frozen=True, slots=True)
class BlockTaken:
    """These places of the work order's serial numbers are this station's, and nobody else's."""

    workorder: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class AttemptBegun:
    """A try to make this unit. number: 1 for its first; start: the phase it begins with, later than FLASH where an
    earlier attempt was interrupted."""

    workorder: str
    serial: str
    model: str
    number: int
    slot: int
    operator: str
    start: Phase


@dataclass(frozen=True, slots=True)
class PhaseEnded:
    """One phase of the attempt that is under way for this unit."""

    serial: str
    number: int
    result: PhaseResult


@dataclass(frozen=True, slots=True)
class Moved:
    """The device in the slot is another unit of ours: it goes on under that one's serial number, `to`, and this one's
    is free again."""

    serial: str
    to: str


@dataclass(frozen=True, slots=True)
class EntrySigned:
    """The device said who it is, and the station signed for it. jws: the entry (factory/entry.py). From here until
    EntryBrought or EntryRefused it waits to be brought."""

    serial: str
    ek_sha256: str
    mac: str
    firmware: str
    image_sha256: str
    jws: str


@dataclass(frozen=True, slots=True)
class EntryBrought:
    """The server has the entry, and expects the device."""

    serial: str
    device_id: str


@dataclass(frozen=True, slots=True)
class EntryVoid:
    """The server will not have this entry, and has nothing against the device: code and detail are its own. The unit is
    signed for anew when its device is put in again."""

    serial: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class EntryRefused:
    """The server will not have it: code and detail are its own. The unit is in quarantine."""

    serial: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class UnitBorn:
    """The device has proven itself. certificate: its IDevID, DER."""

    serial: str
    device_id: str
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Quarantined:
    """This device is put aside, whatever serial number it was tried under. ek_sha256, mac: as far as it said them."""

    serial: str
    ek_sha256: str
    mac: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The outcome of the whole attempt; code: of the phase that did not pass."""

    serial: str
    number: int
    outcome: Outcome
    code: str = ""


Event = (
    Begun
    | Repaired
    | RunBegun
    | OrderLearned
    | BlockTaken
    | AttemptBegun
    | PhaseEnded
    | Moved
    | EntrySigned
    | EntryBrought
    | EntryRefused
    | EntryVoid
    | UnitBorn
    | Quarantined
    | AttemptEnded
)

_KINDS: Final[Mapping[str, type[Event]]] = MappingProxyType(
    {
        "begun": Begun,
        "repaired": Repaired,
        "run": RunBegun,
        "order": OrderLearned,
        "block": BlockTaken,
        "attempt": AttemptBegun,
        "phase": PhaseEnded,
        "moved": Moved,
        "entry": EntrySigned,
        "brought": EntryBrought,
        "refused": EntryRefused,
        "void": EntryVoid,
        "born": UnitBorn,
        "quarantined": Quarantined,
        "ended": AttemptEnded,
    }
)
_NAMES: Final = MappingProxyType({kind: name for name, kind in _KINDS.items()})


def event_members(event: Event) -> dict[str, object]:
    """Return an event's members as JSON has them, `kind` first."""
    members: dict[str, object] = {"kind": _NAMES[type(event)]}
    for name in (field.name for field in fields(event)):
        value = getattr(event, name)
        match value:
            case PhaseResult():
                members |= _result_members(value)
            case bytes():
                members[name] = b64(value)
            case Phase() | Outcome():
                members[name] = value.value
            case _:
                members[name] = value
    return members


def read_event(message: JsonObject) -> Event:
    """Read what event_members() wrote; raise DecodeError. The caller says when the message is done."""
    name = message.text("kind")
    kind = _KINDS.get(name)
    if kind is None:
        raise DecodeError(f"want one of {', '.join(_KINDS)}, got {name[:80]!r}", field="kind")
    values: dict[str, Any] = {field.name: _read_member(message, field.name, field.type) for field in fields(kind)}
    return kind(**values)


def _read_member(message: JsonObject, name: str, kind: object) -> object:
    if kind is int:
        return message.integer(name, low=0, high=_MOST)
    if kind is bytes:
        return message.octets(name)
    if kind is Phase:
        return _phase(message.text(name))
    if kind is Outcome:
        return _outcome(message.text(name))
    if kind is PhaseResult:
        return _read_result(message)
    return message.text(name, max_chars=MOST_JWS if name == "jws" else _WORDS)


def _result_members(result: PhaseResult) -> dict[str, object]:
    return {
        "phase": result.phase.value,
        "outcome": result.outcome.value,
        "began_at": write_moment(result.began_at),
        "took_ms": result.took // timedelta(milliseconds=1),
        "code": result.code,
        "detail": result.detail[:_WORDS],
        "next_step": result.next_step[:_WORDS],
        "facts": [f"{name}={value}" for name, value in result.facts],
    }


def _read_result(message: JsonObject) -> PhaseResult:
    facts = (text.partition("=") for text in message.texts("facts", most=_MOST_FACTS))
    return PhaseResult(
        phase=_phase(message.text("phase")),
        outcome=_outcome(message.text("outcome")),
        began_at=read_moment(message.text("began_at"), field="began_at"),
        took=timedelta(milliseconds=message.integer("took_ms", low=0, high=_MOST)),
        code=message.text("code"),
        detail=message.text("detail", max_chars=_WORDS),
        next_step=message.text("next_step", max_chars=_WORDS),
        facts=tuple((name, value) for name, _, value in facts),
    )


def write_moment(at: datetime) -> str:
    """Return a time of the record: RFC 3339, UTC, milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_moment(text: str, *, field: str) -> datetime:
    """Read what write_moment() wrote, and nothing else; raise DecodeError."""
    try:
        at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        at = None
    if at is None or write_moment(at) != text:
        raise DecodeError(f"want a time as 2026-01-31T12:00:00.000Z, got {text[:80]!r}", field=field)
    return at


def _phase(text: str) -> Phase:
    try:
        return Phase(text)
    except ValueError:
        raise DecodeError(f"want one of {', '.join(Phase)}, got {text[:80]!r}", field="phase") from None


def _outcome(text: str) -> Outcome:
    try:
        return Outcome(text)
    except ValueError:
        raise DecodeError(f"want one of {', '.join(Outcome)}, got {text[:80]!r}", field="outcome") from None
