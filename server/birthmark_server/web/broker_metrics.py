"""How far the brokers lag, for `GET /metrics`: on the way there and back, with the deny list, and with what was heard.

Each broker's gate is asked in the background, every REFRESH: a scrape waits for no broker.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from birthmark_server.broker.control import BrokerHealth
from birthmark_server.broker.errors import DenyFileMalformed

REFRESH: Final = timedelta(seconds=15)


class BrokerWatch(Protocol):
    """What is looked at: rotation.engine.Engine."""

    @property
    def waiting(self) -> int:
        """Messages that devices sent and nobody has judged yet."""

    @property
    def dropped(self) -> int:
        """Messages for which there was no room, since the start."""

    def each_health(self) -> Mapping[str, BrokerHealth | None]:
        """Ask each broker how it is, by name; None for one that does not answer. Takes seconds at most."""


class BrokerGauges(Collector):
    """How the brokers are. `refresh` is to be called every REFRESH, by one thread.

    deny_version: of the list that the gates should have; None where this server keeps no deny file. May raise OSError,
    DenyFileMalformed.
    """

    def __init__(
        self,
        watch: BrokerWatch,
        *,
        deny_version: Callable[[], int] | None,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watch = watch
        self._deny_version = deny_version
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._seen: tuple[float, Mapping[str, BrokerHealth | None], int | None] | None = None

    def refresh(self) -> None:
        """Ask the brokers."""
        # The file first: a list that comes in between is newer at the gate, and that is no lag.
        wanted = self._wanted()
        health = self._watch.each_health()
        with self._lock:
            self._seen = self._stopwatch(), health, wanted

    def _wanted(self) -> int | None:
        try:
            return None if self._deny_version is None else self._deny_version()
        except (OSError, DenyFileMalformed):  # who keeps the file says so in the log, and writes it anew
            return None

    def collect(self) -> Iterable[Metric]:
        """Return the gauges, for Prometheus' library."""
        yield GaugeMetricFamily(
            "birthmark_messages_waiting", "Devices' messages that were heard and not judged yet.", self._watch.waiting
        )
        yield CounterMetricFamily(
            "birthmark_messages_dropped", "Devices' messages for which there was no room.", self._watch.dropped
        )
        with self._lock:
            seen = self._seen
        if seen is not None:
            at, health, wanted = seen
            yield from _families(health, wanted, age_s=self._stopwatch() - at)


def _families(health: Mapping[str, BrokerHealth | None], wanted: int | None, *, age_s: float) -> Iterable[Metric]:
    def gauge(name: str, text: str, value: Callable[[BrokerHealth], float]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"birthmark_broker_{name}", text, labels=["broker"])
        for broker, one in health.items():
            if one is not None:
                family.add_metric([broker], value(one))
        return family

    answers = GaugeMetricFamily("birthmark_broker_answers", "1 if its gate answered when asked.", labels=["broker"])
    for broker, one in health.items():
        answers.add_metric([broker], int(one is not None))
    yield answers
    yield gauge(
        "round_trip_seconds", "From a question to its gate to the answer.", lambda one: one.round_trip_ms / 1000
    )
    yield gauge("connections", "Connections there.", lambda one: one.connected)
    yield gauge("capacity", "Connections for which its gate has room.", lambda one: one.capacity)
    yield gauge("open", "1 while its gate lets anybody new in.", lambda one: int(one.open))
    yield gauge(
        "lease_seconds", "Until its gate lets nobody new in, unless it hears more.", lambda one: one.lease_s - age_s
    )
    if wanted is not None:
        yield gauge(
            "deny_behind",
            "1 where its gate goes by an older deny list than there is.",
            lambda one: int(one.deny_stale or one.deny_version < wanted),
        )
