"""Campaigns as Prometheus sees them: as they were last read, and not without bound."""

from dataclasses import replace
from datetime import timedelta

from prometheus_client.registry import Collector

from birthmark_server.campaigns import Campaign, CampaignState, Count, Strategy
from birthmark_server.meters import Meters
from birthmark_server.web.campaign_metrics import OUTCOMES, SHOWN, CampaignGauges
from support.scraped import NOW, Clock, scraped


class Record:
    """Campaigns, each with two stages of devices."""

    def __init__(self, *campaigns: Campaign) -> None:
        self.campaigns = list(campaigns)

    def page_campaigns(self, *, after: str = "", limit: int = 100) -> list[Campaign]:
        ids = [one.campaign_id for one in self.campaigns]
        begin = ids.index(after) + 1 if after else 0
        return self.campaigns[begin : begin + limit]

    def counts(self, campaign_id: str) -> tuple[Count, ...]:
        return Count(done=2, failed=1), Count(queued=5, running=3)


def campaign(name: str, state: CampaignState, *, hours_ago: int = 0) -> Campaign:
    at = NOW - timedelta(hours=hours_ago)
    made = Campaign(name, state, (), Strategy(), "alice", at)
    return made if state in (CampaignState.RUNNING, CampaignState.PAUSED) else replace(made, ended_at=at)


def shown(gauges: Collector) -> dict[tuple[str, ...], float]:
    return scraped(Meters(), gauges)


def test_each_campaign_is_shown_with_its_state_and_its_devices_by_outcome() -> None:
    record = Record(campaign("spring", CampaignState.PAUSED))
    clock = Clock()
    gauges = CampaignGauges(record, now=clock)
    assert not any(name.startswith("birthmark_campaign") for name, *_ in shown(gauges))
    gauges.refresh()
    clock.at += timedelta(seconds=9)
    seen = shown(gauges)
    assert seen["birthmark_campaigns_age_seconds",] == 9
    assert seen["birthmark_campaign_state", "spring", "paused"] == 1
    assert ("birthmark_campaign_state", "spring", "running") not in seen
    devices = {outcome: seen["birthmark_campaign_devices", "spring", outcome] for outcome in OUTCOMES}
    assert devices == {"queued": 5, "running": 3, "done": 2, "failed": 1, "cancelled": 0, "skipped": 0}
    assert seen["birthmark_campaigns", "paused"] == 1
    assert seen["birthmark_campaigns", "aborted"] == 0


def test_of_many_campaigns_the_open_ones_and_the_last_to_end_are_shown_and_all_are_counted() -> None:
    ended = [campaign(f"c-{hours}", CampaignState.DONE, hours_ago=hours) for hours in range(100)]
    oldest = campaign("long", CampaignState.RUNNING, hours_ago=9000)
    gauges = CampaignGauges(Record(*ended, oldest), now=Clock())
    gauges.refresh()
    seen = shown(gauges)
    names = {labels[0] for name, *labels in seen if name == "birthmark_campaign_state"}
    assert names == {"long", *(f"c-{hours}" for hours in range(SHOWN - 1))}
    assert seen["birthmark_campaigns", "done"] == 100
    assert len([name for name, *_ in seen if name == "birthmark_campaign_devices"]) == SHOWN * len(OUTCOMES)
