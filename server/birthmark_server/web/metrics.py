"""`GET /metrics`: what must be watched, in Prometheus' text format, for any operator's certificate.

Three kinds: what this server counts (meters.py), how old the CRLs are that it serves, and how the fleet stands, which
any of the servers can tell. The last is read from the database in the background, every REFRESH, and shown with its
age: a scrape never waits for a query over a whole fleet.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from birthmark_server.domain import Caller, DeviceState
from birthmark_server.fleet import DaysLeft
from birthmark_server.meters import Meters
from birthmark_server.web.crl import CrlAge
from birthmark_server.web.doors import OPERATORS, Answer, Call, Route

PATH: Final = "/metrics"
REFRESH: Final = timedelta(minutes=1)
DAYS: Final = (0, 1, 3, 7, 14, 30, 90)
"""Up to how many days are left, class by class. 0: expired."""


class GaugeStore(Protocol):
    """What is read of the fleet: a part of store.protocol.Store."""

    def count_devices(self) -> dict[DeviceState, int]: ...

    def count_days_left(self, days: Sequence[int], *, at: datetime) -> DaysLeft: ...


@dataclass(frozen=True, slots=True)
class _Fleet:
    """How the fleet stood `at`."""

    at: datetime
    devices: Mapping[DeviceState, int]
    days_left: DaysLeft


class FleetGauges(Collector):
    """How the fleet stands. `refresh` is to be called every REFRESH, by any thread.

    live: whether every broker hears us; None where the server has no broker."""

    def __init__(self, store: GaugeStore, *, live: Callable[[], bool] | None, now: Callable[[], datetime]) -> None:
        self._store = store
        self._live = live
        self._now = now
        self._lock = threading.Lock()
        self._fleet: _Fleet | None = None

    def refresh(self) -> None:
        """Read the database. Raises StoreBusy, StoreFailed; what was read before is shown on."""
        at = self._now()
        fleet = _Fleet(at, self._store.count_devices(), self._store.count_days_left(DAYS, at=at))
        with self._lock:
            self._fleet = fleet

    def collect(self) -> Iterable[Metric]:
        """Return the gauges, for Prometheus' library."""
        if self._live is not None:
            yield GaugeMetricFamily("birthmark_broker_connected", "1 while every broker hears us.", int(self._live()))
        with self._lock:
            fleet = self._fleet
        if fleet is None:
            return
        age_s = (self._now() - fleet.at).total_seconds()
        yield GaugeMetricFamily("birthmark_fleet_age_seconds", "Since the figures below were read.", age_s)
        devices = GaugeMetricFamily("birthmark_devices", "Devices on record.", labels=["state"])
        for state, number in fleet.devices.items():
            devices.add_metric([state.value], number)
        yield devices
        expiring = GaugeMetricFamily(
            "birthmark_devices_days_left",
            "Active devices by the days that their operational certificate has left, at most, each in one class: "
            "0: expired; more: more than the last; none: without a certificate.",
            labels=["days"],
        )
        for label, number in zip((*map(str, DAYS), "more"), fleet.days_left.counts, strict=True):
            expiring.add_metric([label], number)
        expiring.add_metric(["none"], fleet.days_left.without)
        yield expiring


class CrlGauges(Collector):
    """How old the lists are that this server serves. ages: CrlPublisher.ages."""

    def __init__(self, ages: Callable[[], Sequence[CrlAge]]) -> None:
        self._ages = ages

    def collect(self) -> Iterable[Metric]:
        """Return the gauges, for Prometheus' library."""
        age = GaugeMetricFamily("birthmark_crl_age_seconds", "Since this server made the CRL.", labels=["issuer"])
        left = GaugeMetricFamily("birthmark_crl_left_seconds", "Until the CRL's nextUpdate.", labels=["issuer"])
        for one in self._ages():
            age.add_metric([one.issuer], one.age_s)
            left.add_metric([one.issuer], one.left_s)
        yield age
        yield left


def metrics_route(meters: Meters, *gauges: Collector) -> Route:
    """Return the route."""
    for each in gauges:
        meters.registry.register(each)

    def metrics(_call: Call, _caller: Caller) -> Answer:
        return Answer(200, generate_latest(meters.registry), CONTENT_TYPE_PLAIN_0_0_4)

    return Route("GET", PATH, OPERATORS, metrics)
