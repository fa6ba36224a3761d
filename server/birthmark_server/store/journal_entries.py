"""What the journal tells, as values, and the JSON that stands for them.

What a restored backup must not forget is told: certificates, revocations, where each device stands, CRL numbers, and
what operators did: models, manifest entries, batches, denials, board swaps, acts on authorities; and work orders with
the serial numbers that stations were given of them and what they signed. A device is told
whole, with its epoch, so that the highest epoch is the truth in whatever order entries are read. That holds while there
is one history. After a restore without some journal there are two, which give the same epochs to different things; so a
device's revocation is told as itself too, and only the readmission that lifts this very one takes it back. A board swap
is told whole at each of its steps, which only go on; an authority is, too, with the number of the act that moved it.

Journals from before lack some of _KEPT_LATER: who did it is then UNKNOWN, and a revocation is one.
"""

import base64
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Final, TypeAlias, get_args, get_origin, get_type_hints

from birthmark_server.authorities import AuthorityHappening, BundleRecord, KnownAuthority
from birthmark_server.domain import (
    UNKNOWN,
    Batch,
    BoardSwap,
    CertificateRecord,
    DenyEntry,
    Device,
    DeviceModel,
    DeviceState,
    ManifestEntry,
    RevocationReason,
)
from birthmark_server.workorders import SerialBlock, StationEntry, WorkOrder


@dataclass(frozen=True, slots=True)
class CertificateRevoked:
    """One certificate was revoked; `sha256` is the certificate's."""

    sha256: str
    reason: RevocationReason
    at: datetime
    by: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class DeviceRevoked:
    """A device was revoked, retired or quarantined: see domain.DeviceRevocation. epoch: the device's from then on; with
    the id it names this revocation."""

    device_id: str
    epoch: int
    reason: RevocationReason
    at: datetime
    by: str = UNKNOWN
    state: DeviceState = DeviceState.REVOKED
    note: str = ""


@dataclass(frozen=True, slots=True)
class RevocationLifted:
    """A device was readmitted or restored, and with that this one of its revocations no longer stands."""

    device_id: str
    epoch: int
    at: datetime
    by: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class BatchClosed:
    """A batch was closed before its time."""

    name: str
    at: datetime
    by: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class ManifestRemoved:
    """One line of the manifest was removed: that of this EK and serial number which was imported at that time."""

    ek_sha256: str
    serial: str
    imported_at: datetime
    at: datetime
    by: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class WorkOrderEnded:
    """A work order was closed before its time."""

    name: str
    at: datetime
    by: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class CrlNumberUsed:
    """A CRL number was given out: it may not be given again (RFC 5280 §5.2.3)."""

    issuer_sha256: str
    number: int


Entry: TypeAlias = (
    Device
    | CertificateRecord
    | CertificateRevoked
    | DeviceRevoked
    | RevocationLifted
    | DenyEntry
    | DeviceModel
    | ManifestEntry
    | ManifestRemoved
    | WorkOrder
    | WorkOrderEnded
    | SerialBlock
    | StationEntry
    | BoardSwap
    | Batch
    | BatchClosed
    | CrlNumberUsed
    | KnownAuthority
    | AuthorityHappening
    | BundleRecord
)

_KINDS: Final[dict[str, type[Entry]]] = {
    "device": Device,
    "certificate": CertificateRecord,
    "revoked": CertificateRevoked,
    "device-revoked": DeviceRevoked,
    "revocation-lifted": RevocationLifted,
    "denied": DenyEntry,
    "model": DeviceModel,
    "manifest": ManifestEntry,
    "manifest-removed": ManifestRemoved,
    "workorder": WorkOrder,
    "workorder-ended": WorkOrderEnded,
    "serial-block": SerialBlock,
    "station-entry": StationEntry,
    "swap": BoardSwap,
    "batch": Batch,
    "batch-closed": BatchClosed,
    "crl-number": CrlNumberUsed,
    "authority": KnownAuthority,
    "authority-act": AuthorityHappening,
    "trust-bundle": BundleRecord,
}
_KEPT_LATER: Final = frozenset({"by", "issued_by", "revoked_by", "state", "note", "batch"})
_NAMES: Final[dict[type[Any], str]] = {entry_class: kind for kind, entry_class in _KINDS.items()}

_Convert: TypeAlias = Callable[[Any], Any]
_Codec: TypeAlias = tuple[_Convert | None, _Convert]
"""How a field is written and read; None: as it is."""


def to_json(entry: Entry) -> dict[str, Any]:
    """Return the entry as a JSON object: times in ISO 8601, bytes in base64."""
    entry_class: type[Any] = type(entry)
    told: dict[str, Any] = {"kind": _NAMES[entry_class]}
    for name, (encode, _) in _CODECS[entry_class]:
        value = getattr(entry, name)
        told[name] = value if encode is None else encode(value)
    return told


def from_json(told: object) -> Entry:
    """The inverse of to_json. Raise ValueError for anything that it cannot have made."""
    if not isinstance(told, dict):
        raise ValueError(f"want an object, got {type(told).__name__}")
    kind = told.get("kind")
    entry_class: type[Any] | None = _KINDS.get(kind) if isinstance(kind, str) else None
    if entry_class is None:
        raise ValueError(f"want a kind of {', '.join(_KINDS)}, got {kind!r}")
    codecs = _CODECS[entry_class]
    names = {name for name, _ in codecs}
    if not names - _KEPT_LATER <= told.keys() - {"kind"} <= names:
        raise ValueError(f"{kind}: fields are not those of {entry_class.__name__}")
    try:
        entry: Entry = entry_class(**{name: decode(told[name]) for name, (_, decode) in codecs if name in told})
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{kind}: {error}") from error
    return entry


def _codec(hint: Any) -> _Codec:
    if get_origin(hint) is UnionType:
        encode, decode = _codec(next(arm for arm in get_args(hint) if arm is not NoneType))
        return _unless_none(encode), _unless_none(decode)
    if get_origin(hint) is tuple:
        return list, _each(get_args(hint)[0])
    if hint is datetime:
        return datetime.isoformat, datetime.fromisoformat
    if hint is bytes:
        return (lambda v: b2a_base64(v, newline=False).decode()), (lambda v: base64.b64decode(v, validate=True))
    if issubclass(hint, StrEnum):
        return str, hint
    return None, _exactly(hint)


def _unless_none(convert: _Convert | None) -> _Convert:
    def converted(value: Any) -> Any:
        return value if value is None or convert is None else convert(value)

    return converted


def _each(wanted: type) -> _Convert:
    def check(value: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError(f"want a list, got {type(value).__name__}")
        return tuple(map(_exactly(wanted), value))

    return check


def _exactly(wanted: type) -> _Convert:
    def check(value: Any) -> Any:
        if type(value) is not wanted:
            raise TypeError(f"want {wanted.__name__}, got {type(value).__name__}")
        return value

    return check


def _codecs(entry_class: type[Any]) -> tuple[tuple[str, _Codec], ...]:
    hints = get_type_hints(entry_class)
    return tuple((field.name, _codec(hints[field.name])) for field in fields(entry_class))


_CODECS: Final[dict[type[Any], tuple[tuple[str, _Codec], ...]]] = {kind: _codecs(kind) for kind in _KINDS.values()}
