"""The report's pictures: SVG that takes its colours from the page. Each returns a whole <svg> element.

Widths are in the pictures' own units, 860 across; a page scales them.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from math import ceil, floor, log10
from typing import Final

from birthmark_server.factory.out.yields import Failure, Span, Times

WIDTH: Final = 860
_LEFT: Final = 190
_ROW: Final = 34
_INSIDE: Final = 60
"""A bar wider than this has its number inside."""


def _svg(height: float, title: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _rect(x: float, y: float, width: float, height: float, kind: str, told: str = "", radius: float = 2) -> str:
    title = f"<title>{escape(told)}</title>" if told else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" rx="{radius:g}"'
        f' class="{kind}">{title}</rect>'
    )


def seconds(value: float) -> str:
    """Return a span for people: `0.42 s`, `3.2 s`, `48 s`, `4:05 min`, `2:10 h`."""
    if value < 9.95:
        return f"{value:.2g} s"
    if value < 120:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 120:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02} h"


# -- throughput


def draw_throughput(spans: Sequence[Span], span_s: int) -> str:
    """Bars over time: what passed, and what failed or erred above it."""
    height, left, top, bottom = 240, 44, 14, 206
    most = max((span.passed + span.failed for span in spans), default=0)
    ticks = _ticks(most)
    scale = (bottom - top) / ticks[-1]
    body = "".join(
        _line(left, bottom - tick * scale, WIDTH, bottom - tick * scale, "grid")
        + _text(left - 8, bottom - tick * scale + 4, f"{tick:g}", "tick", "end")
        for tick in ticks
    )
    step = (WIDTH - left) / max(len(spans), 12)
    gap = min(step * 0.2, 4)
    for place, span in enumerate(spans):
        x, width = left + place * step + gap / 2, step - gap
        told = f"{_clock(span.at, span_s)} UTC: {span.passed} passed, {span.failed} failed or erred"
        y = bottom - span.passed * scale
        body += _rect(x, y, width, span.passed * scale, "pass", told)
        if span.failed:
            body += _rect(x, y - span.failed * scale - 1, width, span.failed * scale, "fail", told)
    every = max(ceil(len(spans) * 74 / (WIDTH - left)), ceil(74 / step))
    for place in range(0, len(spans), every):
        x = left + place * step + step / 2
        body += _text(x, bottom + 20, _clock(spans[place].at, span_s), "tick", "middle" if place else "start")
    return _svg(height, "Units over time", body + _line(left, bottom, WIDTH, bottom, "axis"))


def _clock(at: datetime, span_s: int) -> str:
    return f"{at:%d %b}" if span_s >= 86_400 else f"{at:%H:%M}" if span_s < 14_400 else f"{at:%d %b %H:%M}"


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 to at least `most`, four or five of them."""
    rough = max(most, 1) / 4
    power = 10 ** floor(log10(rough))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough)
    step = max(step, 1) if most >= 1 else 1
    step = ceil(step)
    return [step * place for place in range(ceil(max(most, 1) / step) + 1)]


# -- Pareto


def draw_pareto(failures: Sequence[Failure]) -> str:
    """A bar for each reason, most frequent first, and the line of what they come to together, on one axis: all failures
    are the whole width."""
    left, right = _LEFT + 20, WIDTH - 70
    body, points = "", []
    for place, failure in enumerate(failures):
        y = 8 + place * _ROW
        name = failure.code or "unknown"
        where = f"at {failure.phase}" if failure.phase else ""
        body += _text(left - 12, y + 14, name, "name", "end") + _text(left - 12, y + 27, where, "tick", "end")
        told = f"{name}: {failure.count} of {round(failure.count / failure.share)}. {failure.detail}"
        width = (right - left) * failure.share
        body += _rect(left, y + 4, width, 20, "fail" if failure.stumbles else "wait", told)
        if width > _INSIDE:
            body += _text(left + width - 12, y + 19, f"{failure.count}", "inside", "end")
        else:
            body += _text(left + width + 8, y + 19, f"{failure.count}", "value")
        points.append((left + (right - left) * failure.cumulative, y + 14))
        body += _text(WIDTH, y + 19, f"{failure.cumulative:.0%}", "tick", "end")
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    body += f'<polyline points="{line}" class="cumulative"/>'
    body += "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" class="dot"/>' for x, y in points)
    return _svg(8 + len(failures) * _ROW + 4, "Pareto of failures", body)


# -- cycle times


def draw_boxes(times: Sequence[Times]) -> str:
    """A box plot on a logarithmic axis: whiskers from the 5th to the 95th percentile, box of the middle half."""
    low, high = _decades(times)
    left, right, top = _LEFT - 70, WIDTH - 96, 8
    bottom = top + len(times) * _ROW

    def x(value: float) -> float:
        return left + (right - left) * (log10(max(value, low)) - log10(low)) / (log10(high) - log10(low))

    body = "".join(
        _line(x(tick), top, x(tick), bottom, "grid") + _text(x(tick), bottom + 18, seconds(tick), "tick", "middle")
        for tick in _marks(low, high)
    )
    for place, each in enumerate(times):
        y = top + place * _ROW + _ROW / 2
        told = (
            f"{each.name}: median {seconds(each.median)}, middle half {seconds(each.q1)} to {seconds(each.q3)}, "
            f"5 to 95 % {seconds(each.p5)} to {seconds(each.p95)}, longest {seconds(each.longest)}; {each.count} times"
        )
        body += _text(left - 14, y + 5, each.name, "name", "end")
        body += _line(x(each.p5), y, x(each.p95), y, "whisker")
        body += _line(x(each.p5), y - 5, x(each.p5), y + 5, "whisker")
        body += _line(x(each.p95), y - 5, x(each.p95), y + 5, "whisker")
        body += _rect(x(each.q1), y - 9, max(x(each.q3) - x(each.q1), 3), 18, "box", told)
        body += _line(x(each.median), y - 9, x(each.median), y + 9, "median")
        body += f'<circle cx="{x(each.longest):.1f}" cy="{y:.1f}" r="2.5" class="outlier"/>'
        body += _text(WIDTH, y + 5, seconds(each.median), "value", "end")
    return _svg(bottom + 28, "Cycle time by phase", body)


def _decades(times: Sequence[Times]) -> tuple[float, float]:
    low = max(min(each.p5 for each in times), 0.001)
    high = max(max(each.longest for each in times), low * 10)
    return 10.0 ** floor(log10(low)), 10.0 ** ceil(log10(high) - 1e-9)


def _marks(low: float, high: float) -> Iterator[float]:
    decades = round(log10(high / low))
    tick = low
    for _ in range(decades + 1):
        yield tick
        if decades <= 2 and tick * 3 < high:
            yield tick * 3
        tick *= 10


# -- shares


def draw_share(made: int, failed: int, other: int) -> str:
    """One thin bar: made, failed, and still open."""
    total = max(made + failed + other, 1)
    x, body = 0.0, ""
    for count, kind in ((made, "pass"), (failed, "fail"), (other, "wait")):
        width = 120 * count / total
        body += _rect(x, 0, width - (1 if count and x + width < 119 else 0), 10, kind, radius=1.5)
        x += width
    return f'<svg class="share" viewBox="0 0 120 10" role="img" aria-label="{made} made, {failed} failed">{body}</svg>'
