"""The part of the store that campaigns need, by the rules of protocol.py; tests/store/contract_campaigns.py is it."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from birthmark_server.campaigns import (
    Campaign,
    CampaignEvent,
    CampaignState,
    Candidate,
    Count,
    Decision,
    DeviceState,
    Facts,
    Happening,
    Member,
)
from birthmark_server.fleet import Selector

Decide = Callable[[Facts], Decision]


class CampaignStore(Protocol):
    """Campaigns and their members. Errors: store/errors.py, and campaigns.NotNow."""

    def candidates(self, selector: Selector, *, at: datetime) -> list[Candidate]:
        """All devices that the selector matches, by id, as they stand now."""

    def add_campaign(self, campaign: Campaign, stages: Sequence[Sequence[str]]) -> None:
        """Put it on record with its members, stage by stage, in the order of their turns. Raise AlreadyExists."""

    def get_campaign(self, campaign_id: str) -> Campaign:
        """Raise UnknownCampaign."""

    def page_campaigns(
        self, *, state: CampaignState | None = None, device_id: str = "", after: str = "", limit: int = 100
    ) -> list[Campaign]:
        """Newest first; `after` is the last one of the page before. device_id: only those that this device is in."""

    def counts(self, campaign_id: str) -> tuple[Count, ...]:
        """How many devices of each stage stand where."""

    def members(
        self, campaign_id: str, *, state: DeviceState | None = None, after: str = "", limit: int = 100
    ) -> list[Member]:
        """Ordered by device id; `after` is the last one of the page before."""

    def happenings(self, campaign_id: str) -> list[Happening]:
        """Oldest first."""

    def happen(self, campaign_id: str, event: CampaignEvent, *, by: str, at: datetime, reason: str = "") -> Campaign:
        """Let an operator's event happen. ABORTED cancels the open jobs whose certificates are not out, and skips who
        was never told; RETRIED queues those that failed, or were skipped, in the open stage again. Raise
        UnknownCampaign, NotNow."""

    def step(self, decide: Decide, *, at: datetime) -> int | None:
        """Take the open campaign that was looked at longest ago, and no other server is just looking at, let `decide`
        judge its facts, and do what it says, all in one transaction: a server that dies in it has done nothing, and
        another one takes the campaign at once. Return how much was done, None where there is no campaign to take.

        decide: pure; it may be called more than once."""

    def claim_check(self, *, at: datetime, lease: timedelta) -> Campaign | None:
        """Take a campaign that holds for an outside check that is due: no other server asks it before `lease` is
        over."""
