"""The kinds of values that queries, bodies and answers are made of: checked where they come in, worded where they go
out. Times go out in RFC 3339, UTC, to the second."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from birthmark_server import fleet
from birthmark_wire import ids

_SPAN: Final = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_UNIT_S: Final = {"m": 60, "h": 3600, "d": 86_400}


class View(BaseModel):
    """One JSON object. Members that nobody knows are refused; it can be made of a domain's value by its attributes."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)


def _utc(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _named(check: Callable[..., str], **options: str) -> AfterValidator:
    return AfterValidator(lambda value: check(value, **options))


def _hex(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _span_or_moment(value: str) -> str:
    if not _SPAN.fullmatch(value):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(
                f"want a span as in 7d, 12h or 90m, a date, or a time as in 2027-01-31T00:00:00Z; got {value[:40]!r}"
            ) from None
        if moment.tzinfo is None and not _DATE.fullmatch(value):
            raise ValueError(f"want a time with its zone, as in 2027-01-31T00:00:00Z; got {value!r}")
    return value


Moment = Annotated[AwareDatetime, PlainSerializer(_utc, return_type=str)]
Hex = Annotated[str, BeforeValidator(_hex), Field(pattern=r"^([0-9a-f]{2})*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Sha256Prefix = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
DeviceId = Annotated[str, _named(ids.device_id), Field(max_length=64)]
Serial = Annotated[str, _named(ids.printable_name, field="serial"), Field(max_length=64)]
ModelName = Annotated[str, _named(ids.printable_name, field="model"), Field(max_length=64)]
BatchName = Annotated[str, _named(ids.printable_name, field="batch"), Field(max_length=64)]
WorkOrderName = Annotated[str, _named(ids.printable_name, field="workorder"), Field(max_length=64)]
Tag = Annotated[str, _named(fleet.tag), Field(max_length=64)]
GroupName = Annotated[str, _named(fleet.group_name), Field(max_length=64)]
OperatorName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
Note = Annotated[str, Field(max_length=500, description="In the operator's words.")]
Words = Annotated[str, Field(min_length=1, max_length=500)]
When = Annotated[
    str,
    AfterValidator(_span_or_moment),
    Field(
        max_length=40,
        description="A time in RFC 3339, a date (its beginning, UTC), or a span: minutes m, hours h, days d, as in 7d.",
    ),
]


def ahead(value: str, now: datetime) -> datetime:
    """Return the moment that a `When` names; a span counts from now on."""
    return _moment(value, now, 1)


def ago(value: str, now: datetime) -> datetime:
    """Return the moment that a `When` names; a span counts back from now."""
    return _moment(value, now, -1)


def _moment(value: str, now: datetime, sign: int) -> datetime:
    span = _SPAN.fullmatch(value)
    if span is None:
        found = datetime.fromisoformat(value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return now + sign * timedelta(seconds=int(span[1]) * _UNIT_S[span[2]])
