"""The yield report as a page: one file, nothing fetched, no scripts; light, dark and printed.

Everything that comes from a record is escaped here or in drawing.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from typing import Final

from birthmark_server.factory.out.drawing import draw_boxes, draw_pareto, draw_share, draw_throughput, seconds
from birthmark_server.factory.out.yields import Failure, Figures, NamedFigures, OrderFigures, Report

_MOST_REASONS: Final = 15
_NONE: Final = "–"


def draw_report(report: Report) -> str:
    """Return the whole page."""
    style = files(__package__).joinpath("report.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_title(report))}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(_parts(report))
        + "\n</main>\n</body>\n</html>\n"
    )


def _title(report: Report) -> str:
    names = [each.name for each in report.workorders]
    return f"Yield of work order {names[0]}" if len(names) == 1 else "Yield of the line"


def _parts(report: Report) -> Iterator[str]:
    yield f"<header><h1>{escape(_title(report))}</h1><p>{escape(_about(report))}</p></header>"
    yield _tiles(report)
    yield _throughput(report)
    yield _failures(report)
    yield _cycle(report)
    if len(report.stations) > 1:
        yield _section("By station", "", _table("Station", report.stations))
    if len(report.workorders) > 1:
        yield _section("By work order", "", _table("Work order", report.workorders))
    yield _section("By station and work order", "", _orders(report.orders))
    yield _footer(report)


def _about(report: Report) -> str:
    stations = ", ".join(each.name for each in report.stations) or "no station"
    models = ", ".join(dict.fromkeys(order.model for order in report.orders if order.model))
    when = f"{_moment(report.began_at)} to {_moment(report.ended_at)}" if report.began_at else "nothing was begun yet"
    return " · ".join(part for part in (models, f"made at {stations}", when) if part)


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else "now"


def _tiles(report: Report) -> str:
    total = report.total
    wanted = sum(_quantities(report).values())
    of = f"of {wanted} made" if wanted else "made"
    pace = f"{report.per_hour:.0f} an hour" if report.per_hour else "no pace yet"
    cycle = seconds(report.cycle.median) if report.cycle else _NONE
    tiles = (
        (str(total.made), f"{of}; {pace}", total.made / wanted if wanted else None),
        (_share(total.first_pass_yield), "first-pass yield", total.first_pass_yield),
        (_share(total.final_yield), "final yield", total.final_yield),
        (cycle, "median cycle time", None),
    )
    return f'<div class="tiles">{"".join(_tile(*tile) for tile in tiles)}</div>'


def _quantities(report: Report) -> dict[str, int]:
    """Return how many each work order wants, as far as its stations know."""
    wanted: dict[str, int] = {}
    for order in report.orders:
        wanted[order.workorder] = max(wanted.get(order.workorder, 0), order.quantity)
    return wanted


def _tile(value: str, name: str, part: float | None) -> str:
    bar = f'<i style="--part: {min(part, 1):.2%}"></i>' if part is not None else ""
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span>{bar}</div>'


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1%}"


def _section(title: str, words: str, body: str, legend: Sequence[tuple[str, str]] = ()) -> str:
    keys = "".join(f'<span class="legend" style="--key: var(--{kind})">{name}</span>' for kind, name in legend)
    told = f"<p>{escape(words)}</p>" if words else "<p></p>"
    return f"<section>{keys}<h2>{escape(title)}</h2>{told}{body}</section>"


def _none(words: str) -> str:
    return f'<div class="none">{escape(words)}</div>'


def _throughput(report: Report) -> str:
    body = (
        draw_throughput(report.throughput, report.span_s) if report.throughput else _none("No attempt has ended yet.")
    )
    legend = (("fail", "failed or erred"), ("pass", "passed"))
    return _section(
        "Throughput", f"Attempts by when they ended, in spans of {_span(report.span_s)}, UTC.", body, legend
    )


def _span(span_s: int) -> str:
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if span_s % size == 0:
            count = span_s // size
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{span_s} s"


def _failures(report: Report) -> str:
    if not report.failures:
        return _section("Failures", "", _none("No attempt failed or erred."))
    shown = report.failures[:_MOST_REASONS]
    total = sum(failure.count for failure in report.failures)
    words = (
        f"{total} of {report.total.attempts} attempts failed or erred, by reason; the line is what the reasons come to"
    )
    words += " together." if len(shown) == len(report.failures) else f" together. The {len(shown)} most frequent."
    legend = (("wait", "the server was out of reach"), ("fail", "counts against first-pass yield"))
    return _section("Failures", words, draw_pareto(shown) + _reasons(shown), legend)


def _reasons(failures: Iterable[Failure]) -> str:
    rows = "".join(
        f'<tr><td class="words strong">{escape(each.code)}</td><td class="words">{escape(each.detail)}</td>'
        f'<td class="words">{escape(each.next_step)}</td></tr>'
        for each in failures
    )
    head = '<th class="words">Reason</th><th class="words">The last time</th><th class="words">What to do</th>'
    return f'<div class="scroll reasons"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cycle(report: Report) -> str:
    if not report.phases:
        return _section("Cycle time", "", _none("No phase has passed yet."))
    times = (*report.phases, *([report.cycle] if report.cycle else []))
    words = (
        "Of what passed. Box: the middle half, with the median; whiskers: 5th to 95th percentile; circle: the longest. "
        "The cycle is that of attempts without a break. The axis is logarithmic."
    )
    return _section("Cycle time by phase", words, draw_boxes(times))


_HEADS: Final = ("Made", "Failed", "Open", "Awaiting birth", "Quarantine", "First pass", "Final", "")


def _cells(figures: Figures) -> str:
    counts = (figures.made, figures.failed, figures.open, figures.awaiting_birth, figures.in_quarantine)
    yields = (figures.first_pass_yield, figures.final_yield)
    return (
        "".join(f"<td>{count}</td>" for count in counts)
        + "".join(f'<td class="strong">{_share(value)}</td>' for value in yields)
        + f"<td>{draw_share(figures.made, figures.failed, figures.open)}</td>"
    )


def _grid(names: Sequence[str], rows: Iterable[str]) -> str:
    head = "".join(f'<th class="words">{name}</th>' for name in names) + "".join(f"<th>{name}</th>" for name in _HEADS)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _table(name: str, rows: Iterable[NamedFigures]) -> str:
    return _grid([name], (f'<tr><td class="words">{escape(row.name)}</td>{_cells(row)}</tr>' for row in rows))


def _orders(rows: Sequence[OrderFigures]) -> str:
    if not rows:
        return _none("No station has worked on a work order yet.")
    return _grid(
        ["Station", "Work order"],
        (
            f'<tr><td class="words">{escape(row.station)}</td><td class="words">{escape(row.workorder)}</td>'
            f"{_cells(row)}</tr>"
            for row in rows
        ),
    )


def _footer(report: Report) -> str:
    return (
        "<footer>First-pass yield: units made without a failed or erred attempt, by units that ended (made or failed); "
        "interruptions and a server out of reach do not count (ISO 22400-2, first pass yield). "
        "Final yield: units made, by units that ended (ISO 22400-2, quality ratio). "
        f"Drawn {_moment(report.made_at)} from the stations' verified records.</footer>"
    )
