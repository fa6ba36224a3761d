"""A line as Prometheus sees it: gauges and counters that are worked out when they are asked for.

Over HTTP at ADDRESS:PORT/metrics, or in a file for node_exporter's textfile collector.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from birthmark_server.errors import AddressTaken, Malformed
from birthmark_server.factory.station.events import AttemptEnded, PhaseEnded
from birthmark_server.factory.station.record import Line
from birthmark_server.factory.station.view import LineView

_BUCKETS: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 900.0)


@dataclass(slots=True)
class _Spans:
    """How long one phase took, as a histogram. below: for each bound, how many took at most as long."""

    below: list[int] = field(default_factory=lambda: [0] * len(_BUCKETS))
    count: int = 0
    sum_s: float = 0.0

    def take(self, seconds: float) -> None:
        for place, bound in enumerate(_BUCKETS):
            self.below[place] += seconds <= bound
        self.count += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        bounds = [(str(bound), float(count)) for bound, count in zip(_BUCKETS, self.below, strict=True)]
        return [*bounds, ("+Inf", float(self.count))]


class LineMetrics(Collector):
    """told: to be given each line of this run. look: the line as it is."""

    def __init__(self, look: Callable[[], LineView]) -> None:
        self._look = look
        self._attempts: Counter[str] = Counter()
        self._phases: Counter[tuple[str, str, str]] = Counter()
        self._spans: dict[str, _Spans] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def told(self, line: Line) -> None:
        """An event."""
        match line.event:
            case AttemptEnded(_, _, outcome, _):
                self._attempts[outcome.value] += 1
            case PhaseEnded(_, _, result):
                self._phases[result.phase.value, result.outcome.value, result.code] += 1
                self._spans.setdefault(result.phase.value, _Spans()).take(result.took.total_seconds())
            case _:
                pass

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked for at registration."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return them all."""
        view = self._look()
        labels = ["workorder"]
        for name, words, value in (
            ("units_wanted", "Units of the work order", view.quantity),
            ("units_made", "Units that passed", view.made),
            ("units_failed", "Units whose last attempt failed", view.failed),
            ("units_awaiting_birth", "Units whose entry is signed and that are not born", view.awaiting),
            ("units_in_quarantine", "Units in quarantine", view.quarantined),
            ("entries_waiting", "Signed entries that the server has not heard of", view.entries_waiting),
            ("first_pass_yield", "Part of the units that passed without a stumble", view.first_pass_yield or 0.0),
            ("units_per_minute", "Units made in a minute of this run", view.per_minute),
            ("slots_busy", "Slots at work", sum(slot.state == "working" for slot in view.slots)),
            ("server_answers", "1 where the server answered when it was last asked", int(view.online)),
        ):
            gauge = GaugeMetricFamily(f"birthmark_factory_{name}", words, labels=labels)
            gauge.add_metric([view.workorder], value)
            yield gauge
        yield from self._counters()

    def _counters(self) -> Iterator[Metric]:
        attempts = CounterMetricFamily("birthmark_factory_attempts", "Attempts that ended", labels=["outcome"])
        for outcome, count in list(self._attempts.items()):
            attempts.add_metric([outcome], count)
        yield attempts
        phases = CounterMetricFamily(
            "birthmark_factory_phases", "Phases that ended", labels=["phase", "outcome", "code"]
        )
        for key, count in list(self._phases.items()):
            phases.add_metric(list(key), count)
        yield phases
        spans = HistogramMetricFamily("birthmark_factory_phase_seconds", "How long phases took", labels=["phase"])
        for phase, seen in list(self._spans.items()):
            spans.add_metric([phase], seen.buckets(), seen.sum_s)
        yield spans


@contextmanager
def exported(metrics: LineMetrics, where: str) -> Iterator[Callable[[], None]]:
    """Export for the length of a with block. where: ADDRESS:PORT, or a file's path; empty for nowhere. Call what is
    yielded now and then: it writes the file."""
    if not where:
        yield lambda: None
        return
    if "/" in where or where.endswith(".prom"):
        path = Path(where)
        yield lambda: write_to_textfile(str(path), metrics.registry)
        write_to_textfile(str(path), metrics.registry)
        return
    host, _, port = where.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise Malformed(f"--metrics: want ADDRESS:PORT, as 127.0.0.1:9185, or a file's path; got {where[:80]!r}")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry=metrics.registry)
    except OSError as error:
        raise AddressTaken(f"--metrics {where}: {error.strerror}") from None
    try:
        yield lambda: None
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
