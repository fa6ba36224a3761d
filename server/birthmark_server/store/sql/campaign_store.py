"""SqlCampaigns: the CampaignStore protocol (store/campaign_protocol.py) over a Database. Nothing happens here."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from birthmark_server.campaigns import (
    Campaign,
    CampaignEvent,
    CampaignState,
    Candidate,
    Count,
    DeviceState,
    Happening,
    Member,
)
from birthmark_server.fleet import Selector
from birthmark_server.store.campaign_protocol import CampaignStore, Decide
from birthmark_server.store.database import Database
from birthmark_server.store.sql import campaign_steps, campaign_views, campaigns, candidates


class SqlCampaigns(CampaignStore):
    """Campaigns on SQLite or PostgreSQL. Made by SqlStore."""

    def __init__(self, database: Database) -> None:
        self._read = database.read
        self._write = database.write

    def candidates(self, selector: Selector, *, at: datetime) -> list[Candidate]:
        return self._read(candidates.candidates, selector, at)

    def add_campaign(self, campaign: Campaign, stages: Sequence[Sequence[str]]) -> None:
        self._write(campaigns.add_campaign, campaign, stages)

    def get_campaign(self, campaign_id: str) -> Campaign:
        return self._read(campaign_views.get_campaign, campaign_id)

    def page_campaigns(
        self, *, state: CampaignState | None = None, device_id: str = "", after: str = "", limit: int = 100
    ) -> list[Campaign]:
        return self._read(campaign_views.page_campaigns, state, device_id, after, limit)

    def counts(self, campaign_id: str) -> tuple[Count, ...]:
        return self._read(campaign_views.counts, campaign_id)

    def members(
        self, campaign_id: str, *, state: DeviceState | None = None, after: str = "", limit: int = 100
    ) -> list[Member]:
        return self._read(campaign_views.members, campaign_id, state, after, limit)

    def happenings(self, campaign_id: str) -> list[Happening]:
        return self._read(campaign_views.happenings, campaign_id)

    def happen(self, campaign_id: str, event: CampaignEvent, *, by: str, at: datetime, reason: str = "") -> Campaign:
        return self._write(campaigns.happen, campaign_id, event, by, at, reason)

    def step(self, decide: Decide, *, at: datetime) -> int | None:
        return self._write(campaign_steps.step, decide, at)

    def claim_check(self, *, at: datetime, lease: timedelta) -> Campaign | None:
        return self._write(campaign_steps.claim_check, at, lease)
