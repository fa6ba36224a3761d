"""How campaigns stand, for `GET /metrics`.

Read from the database in the background, as the fleet is (metrics.py), so any server shows all campaigns. A campaign is
a label, so no more than SHOWN of them are: the open ones first, then those that ended last; how many there are in each
state is told of all.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Final, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from birthmark_server.campaigns import OPEN, Campaign, CampaignState, Count

REFRESH: Final = timedelta(seconds=15)
SHOWN: Final = 20
PAGE: Final = 1000
OUTCOMES: Final = tuple(one.name for one in fields(Count))


class CampaignReader(Protocol):
    """What is read of campaigns: a part of store.campaign_protocol.CampaignStore."""

    def page_campaigns(self, *, after: str = "", limit: int = 100) -> list[Campaign]: ...

    def counts(self, campaign_id: str) -> tuple[Count, ...]: ...


@dataclass(frozen=True, slots=True)
class _Seen:
    """How campaigns stood `at`."""

    at: datetime
    states: Counter[CampaignState]
    shown: Sequence[tuple[Campaign, Count]]


class CampaignGauges(Collector):
    """How campaigns stand. `refresh` is to be called every REFRESH, by any thread."""

    def __init__(self, campaigns: CampaignReader, *, now: Callable[[], datetime]) -> None:
        self._campaigns = campaigns
        self._now = now
        self._lock = threading.Lock()
        self._seen: _Seen | None = None

    def refresh(self) -> None:
        """Read the database. Raises StoreBusy, StoreFailed; what was read before is shown on."""
        at, every = self._now(), list(_every(self._campaigns))
        newest = sorted(every, key=lambda one: (one.state in OPEN, one.ended_at or one.created_at), reverse=True)
        shown = [(one, _total(self._campaigns.counts(one.campaign_id))) for one in newest[:SHOWN]]
        seen = _Seen(at, Counter(one.state for one in every), shown)
        with self._lock:
            self._seen = seen

    def collect(self) -> Iterable[Metric]:
        """Return the gauges, for Prometheus' library."""
        with self._lock:
            seen = self._seen
        if seen is None:
            return
        age_s = (self._now() - seen.at).total_seconds()
        yield GaugeMetricFamily("birthmark_campaigns_age_seconds", "Since the figures below were read.", age_s)
        every = GaugeMetricFamily("birthmark_campaigns", "Campaigns on record.", labels=["state"])
        for state in CampaignState:
            every.add_metric([state.value], seen.states[state])
        yield every
        states = GaugeMetricFamily(
            "birthmark_campaign_state",
            f"1 for the state that a campaign is in; of the {SHOWN} that are open or ended last.",
            labels=["campaign", "state"],
        )
        devices = GaugeMetricFamily(
            "birthmark_campaign_devices", "Devices of such a campaign.", labels=["campaign", "outcome"]
        )
        for campaign, count in seen.shown:
            states.add_metric([campaign.campaign_id, campaign.state.value], 1)
            for outcome in OUTCOMES:
                devices.add_metric([campaign.campaign_id, outcome], getattr(count, outcome))
        yield states
        yield devices


def _every(campaigns: CampaignReader) -> Iterator[Campaign]:
    page = campaigns.page_campaigns(limit=PAGE)
    while page:
        yield from page
        page = campaigns.page_campaigns(after=page[-1].campaign_id, limit=PAGE) if len(page) == PAGE else []


def _total(stages: Iterable[Count]) -> Count:
    every = list(stages)
    return Count(**{outcome: sum(getattr(one, outcome) for one in every) for outcome in OUTCOMES})
