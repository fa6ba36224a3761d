"""The figures of a yield report, from stations' records. Pure: records in, frozen values out; JSON and its schema are
pydantic's.

A unit has *ended* when it was made or failed: failed means that its last attempt failed or that it is in quarantine;
devices that failed while nobody knew them (their serial number went to another one) count too. A unit *stumbles* when
an attempt at it fails or errs; an interruption or a server out of reach is no stumble.

    first-pass yield = made without a stumble / ended        ISO 22400-2:2014, "First pass yield": good parts of the
                                                             first run, without rework, by all inspected parts
    final yield      = made / ended                          ISO 22400-2:2014, "Quality ratio": good by produced
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from statistics import mean
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from birthmark_server.factory.desk import ServerUnreachable
from birthmark_server.factory.out.errors import SameUnitTwice
from birthmark_server.factory.out.folder import Attempt, StationFolder
from birthmark_server.factory.station.view import LineView, counted
from birthmark_server.factory.values import PHASES, Outcome, Phase

FORMAT: Final = "birthmark-report/1"
SCHEMA: Final = "https://json-schema.org/draft/2020-12/schema"
_BINS_S: Final = (60, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400, 7 * 86_400)
_MOST_BINS: Final = 60

Share = Field(ge=0, le=1, default=None)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figures(_Value):
    """What units came to. open: begun, and neither made nor failed. Yields are null before the first unit ended."""

    ended: int = 0
    made: int = 0
    first_pass: int = 0
    failed: int = 0
    open: int = 0
    awaiting_birth: int = 0
    in_quarantine: int = 0
    attempts: int = 0
    first_pass_yield: float | None = Share
    final_yield: float | None = Share


class OrderFigures(Figures):
    """One work order at one station. quantity: of the whole work order; 0 where the record does not say."""

    station: str
    workorder: str
    model: str
    quantity: int


class NamedFigures(Figures):
    """A station, or a work order, over all the others."""

    name: str


class Failure(_Value):
    """Attempts that failed or erred for one reason, most frequent first. share, cumulative: of all of them. stumbles:
    whether they count against first-pass yield. detail, next_step: of the last one."""

    phase: Phase | None
    code: str
    count: int
    share: float
    cumulative: float
    stumbles: bool
    detail: str
    next_step: str


class Times(_Value):
    """How long something took, in seconds, over `count` times. p5, p95: percentiles, interpolated linearly."""

    name: str
    count: int
    p5: float
    q1: float
    median: float
    q3: float
    p95: float
    longest: float
    mean: float


class Span(_Value):
    """A piece of time. passed: units that passed in it; failed: attempts that failed or erred."""

    at: datetime
    passed: int
    failed: int


class Report(_Value):
    """All of it. per_hour: units made, from the first attempt's beginning to the last one's end."""

    format: Literal["birthmark-report/1"] = FORMAT
    made_at: datetime
    began_at: datetime | None
    ended_at: datetime | None
    per_hour: float | None
    total: Figures
    stations: tuple[NamedFigures, ...]
    workorders: tuple[NamedFigures, ...]
    orders: tuple[OrderFigures, ...]
    failures: tuple[Failure, ...]
    phases: tuple[Times, ...]
    cycle: Times | None
    span_s: int
    throughput: tuple[Span, ...]


def report_schema() -> dict[str, object]:
    """Return the JSON schema of a report."""
    return {"$schema": SCHEMA, "title": "Birthmark yield report"} | Report.model_json_schema(mode="serialization")


def make_report(folders: Sequence[StationFolder], *, now: datetime, workorder: str = "") -> Report:
    """Return the report over these stations; of one work order where it is named. Raise SameUnitTwice."""
    check_apart(folders)
    orders = [
        _order(folder, name) for folder in folders for name in folder.workorders if not workorder or name == workorder
    ]
    attempts = [
        attempt for folder in folders for attempt in folder.attempts if not workorder or attempt.workorder == workorder
    ]
    began_at = min((attempt.began_at for attempt in attempts), default=None)
    ended_at = max((attempt.ended_at for attempt in attempts if attempt.ended_at), default=None)
    total = _sum(orders)
    hours = (ended_at - began_at) / timedelta(hours=1) if began_at and ended_at else 0.0
    span_s, throughput = _throughput(attempts)
    return Report(
        made_at=now.replace(microsecond=0),
        began_at=began_at,
        ended_at=ended_at,
        per_hour=total.made / hours if hours > 0 else None,
        total=total,
        stations=tuple(_named(orders, "station")),
        workorders=tuple(_named(orders, "workorder")),
        orders=tuple(orders),
        failures=tuple(_failures(attempts)),
        phases=tuple(_phases(attempts)),
        cycle=_cycle(attempts),
        span_s=span_s,
        throughput=tuple(throughput),
    )


def check_apart(folders: Sequence[StationFolder]) -> None:
    """Raise SameUnitTwice where two folders are the same record, or made the same unit."""
    names: dict[str, StationFolder] = {}
    units: dict[str, StationFolder] = {}
    for folder in folders:
        if (other := names.setdefault(folder.name, folder)) is not folder:
            raise SameUnitTwice(f"{folder.path} has the same record as {other.path}: want each station once")
        for unit in folder.known.units.values():
            if not unit.is_free and (other := units.setdefault(unit.serial, folder)) is not folder:
                raise SameUnitTwice(
                    f"{unit.serial} is on record at station {other.station} ({other.path}) and at station "
                    f"{folder.station} ({folder.path}): want each unit at one station"
                )


# -- units


def _order(folder: StationFolder, name: str) -> OrderFigures:
    known = folder.known
    units = [unit for unit in folder.units(name) if unit.attempts and not unit.is_free]
    view = counted(LineView(name, 0, ()), units, rejected=known.rejected.get(name, 0))
    order = known.orders.get(name)
    quantity = order.quantity if order else 0
    model = order.model if order else next((unit.model for unit in units), "")
    waiting = [unit for unit in units if not unit.is_made and unit.outcome is not Outcome.FAIL and not unit.quarantine]
    figures = _yields(
        made=view.made,
        first_pass=view.first_pass,
        failed=view.failed,
        open=len(waiting),
        awaiting_birth=view.awaiting,
        in_quarantine=view.quarantined,
        attempts=sum(attempt.workorder == name for attempt in folder.attempts),
    )
    return OrderFigures(station=folder.station, workorder=name, model=model, quantity=quantity, **figures.model_dump())


_SUMMED: Final = ("made", "first_pass", "failed", "open", "awaiting_birth", "in_quarantine", "attempts")


def _yields(**counts: int) -> Figures:
    ended = counts["made"] + counts["failed"]
    return Figures(
        ended=ended,
        first_pass_yield=counts["first_pass"] / ended if ended else None,
        final_yield=counts["made"] / ended if ended else None,
        **counts,
    )


def _sum(parts: Iterable[Figures]) -> Figures:
    parts = list(parts)
    return _yields(**{name: sum(getattr(part, name) for part in parts) for name in _SUMMED})


def _named(orders: Sequence[OrderFigures], by: str) -> Iterator[NamedFigures]:
    for name in dict.fromkeys(getattr(order, by) for order in orders):
        figures = _sum(order for order in orders if getattr(order, by) == name)
        yield NamedFigures(name=name, **figures.model_dump())


# -- attempts


def _failures(attempts: Iterable[Attempt]) -> Iterator[Failure]:
    reasons: dict[tuple[Phase | None, str], list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        if attempt.outcome in (Outcome.FAIL, Outcome.ERROR):
            reasons[attempt.failed_phase, attempt.code].append(attempt)
    total, so_far = sum(map(len, reasons.values())), 0
    for (phase, code), those in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0][1])):
        so_far += len(those)
        last = next((result for result in reversed(those[-1].phases) if result.outcome is not Outcome.PASS), None)
        yield Failure(
            phase=phase,
            code=code,
            count=len(those),
            share=len(those) / total,
            cumulative=so_far / total,
            stumbles=code != ServerUnreachable.code,
            detail=last.detail if last else "",
            next_step=last.next_step if last else "",
        )


def _phases(attempts: Sequence[Attempt]) -> Iterator[Times]:
    took: dict[Phase, list[float]] = defaultdict(list)
    for attempt in attempts:
        for result in attempt.phases:
            if result.outcome is Outcome.PASS and attempt.slot:  # slot 0: it ended from afar, nobody measured
                took[result.phase].append(result.took.total_seconds())
    return (_times(phase.value, took[phase]) for phase in PHASES if took[phase])


def _cycle(attempts: Iterable[Attempt]) -> Times | None:
    """Of the attempts that went from FLASH to the end without a break."""
    took = [
        (attempt.ended_at - attempt.began_at).total_seconds()
        for attempt in attempts
        if attempt.outcome is Outcome.PASS and attempt.start is Phase.FLASH and attempt.ended_at
    ]
    return _times("cycle", took) if took else None


def _times(name: str, took: Sequence[float]) -> Times:
    ordered = sorted(took)
    p5, q1, median, q3, p95 = (_percentile(ordered, part) for part in (0.05, 0.25, 0.5, 0.75, 0.95))
    return Times(
        name=name,
        count=len(ordered),
        p5=p5,
        q1=q1,
        median=median,
        q3=q3,
        p95=p95,
        longest=ordered[-1],
        mean=round(mean(ordered), 6),
    )


def _percentile(ordered: Sequence[float], part: float) -> float:
    at = part * (len(ordered) - 1)
    below, above = ordered[int(at)], ordered[min(int(at) + 1, len(ordered) - 1)]
    return round(below + (above - below) * (at - int(at)), 6)


def _throughput(attempts: Sequence[Attempt]) -> tuple[int, list[Span]]:
    ends = [(attempt.ended_at, attempt.outcome) for attempt in attempts if attempt.ended_at]
    if not ends:
        return _BINS_S[0], []
    first, last = (int(pick(at for at, _ in ends).timestamp()) for pick in (min, max))
    span_s = next((span for span in _BINS_S if last // span - first // span < _MOST_BINS), 0)
    span_s = span_s or (last - first) // _MOST_BINS + 1
    counts: dict[int, list[int]] = {place: [0, 0] for place in range(first // span_s, last // span_s + 1)}
    for at, outcome in ends:
        place = int(at.timestamp()) // span_s
        counts[place][0] += outcome is Outcome.PASS
        counts[place][1] += outcome in (Outcome.FAIL, Outcome.ERROR)
    return span_s, [
        Span(at=datetime.fromtimestamp(place * span_s, UTC), passed=passed, failed=failed)
        for place, (passed, failed) in counts.items()
    ]
