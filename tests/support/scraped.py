"""What a scrape of `GET /metrics` shows of some gauges."""

from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from birthmark_server.domain import Caller
from birthmark_server.meters import Meters
from birthmark_server.web.doors import Call
from birthmark_server.web.metrics import metrics_route

NOW = datetime(2026, 11, 27, tzinfo=UTC)


class Clock:
    """The time, as a test sets it."""

    at = NOW

    def __call__(self) -> datetime:
        return self.at


def scraped(meters: Meters, *gauges: Collector) -> dict[tuple[str, ...], float]:
    """What a scrape shows: name and label values, in the order of the labels' names, to value."""
    answer = metrics_route(meters, *gauges).handler(Call("1", "x"), Caller("1", "x"))
    assert answer.media_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
