"""SqlCampaigns: the CampaignStore protocol (store/campaign_protocol.py) over a Database. Nothing happens here."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from birthmark_server.campaigns import Campaign, CampaignEvent, Candidate, Count, Happening, Member, Selector
from birthmark_server.store.campaign_protocol import CampaignStore, Decide
from birthmark_server.store.database import Database
from birthmark_server.store.sql import campaigns, candidates


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
        return self._read(campaigns.get_campaign, campaign_id)

    def list_campaigns(self) -> list[Campaign]:
        return self._read(campaigns.list_campaigns)

    def counts(self, campaign_id: str) -> tuple[Count, ...]:
        return self._read(campaigns.counts, campaign_id)

    def members(self, campaign_id: str, *, after: str = "", limit: int = 100) -> list[Member]:
        return self._read(campaigns.members, campaign_id, after, limit)

    def happenings(self, campaign_id: str) -> list[Happening]:
        return self._read(campaigns.happenings, campaign_id)

    def happen(self, campaign_id: str, event: CampaignEvent, *, by: str, at: datetime, reason: str = "") -> Campaign:
        return self._write(campaigns.happen, campaign_id, event, by, at, reason)

    def step(self, decide: Decide, *, at: datetime) -> int | None:
        return self._write(campaigns.step, decide, at)

    def claim_check(self, *, at: datetime, lease: timedelta) -> Campaign | None:
        return self._write(campaigns.claim_check, at, lease)
