"""What operators do with campaigns: one small service behind the command line and the API.

Whoever calls it has proven who `by` is and that they may. Everything is checked before anything is written.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from random import Random
from threading import BoundedSemaphore
from typing import Final

from birthmark_server.campaigns import (
    BadCampaign,
    Campaign,
    CampaignEvent,
    CampaignState,
    Count,
    DeviceState,
    DryRun,
    Happening,
    Member,
    Strategy,
    TooManyPlans,
)
from birthmark_server.fleet import Selector
from birthmark_server.rotation import plan
from birthmark_server.rotation.outside_check import OutsideChecks
from birthmark_server.store.campaign_protocol import CampaignStore

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_PAGE: Final = 1000
MOST_PLANS: Final = 2
"""How many campaigns one server thinks through at the same time."""


@dataclass(frozen=True, slots=True)
class View:
    """One campaign as it stands: what `watch` and `show` draw, and the API returns."""

    campaign: Campaign
    counts: tuple[Count, ...]

    @property
    def total(self) -> Count:
        """Over all stages."""
        names = [state.value for state in DeviceState]
        return Count(**{name: sum(getattr(count, name) for count in self.counts) for name in names})


class CampaignService:
    """now: UTC. seed: for whom is a canary; a new number each time. outside: what may be asked, nothing by default."""

    def __init__(
        self,
        *,
        campaigns: CampaignStore,
        now: Callable[[], datetime],
        seed: Callable[[], int],
        outside: OutsideChecks | None = None,
    ) -> None:
        self._outside = outside or OutsideChecks()
        self._campaigns = campaigns
        self._now = now
        self._seed = seed
        self._planning = BoundedSemaphore(MOST_PLANS)

    def plan(self, selector: Selector, strategy: Strategy) -> DryRun:
        """Return what would be done, and do nothing. Raise BadCampaign, TooManyPlans."""
        plan.check_strategy(strategy)
        if strategy.check_url:
            self._outside.check_url(strategy.check_url)
        at = self._now()
        with self._one_of_few():
            candidates = self._campaigns.candidates(selector, at=at)
            plan.check_selector(selector, candidates)
            return plan.dry_run(candidates, strategy, now=at, random=Random(self._seed()))  # noqa: S311 - no secret

    @contextmanager
    def _one_of_few(self) -> Iterator[None]:
        """A plan over 100,000 devices takes a second of CPU, and may be asked for by whoever may read."""
        if not self._planning.acquire(blocking=False):
            raise TooManyPlans(f"{MOST_PLANS} campaigns are being planned here; ask again in a moment", retry_after_s=2)
        try:
            yield
        finally:
            self._planning.release()

    def start(self, name: str, selector: Selector, strategy: Strategy, *, by: str) -> Campaign:
        """Start it; servers take it up within a second. Raise BadCampaign, AlreadyExists.

        The devices are those that can be told now, and stay so, unless late joiners are let in.
        """
        if not _NAME.fullmatch(name):
            raise BadCampaign(f"name: want 1 to 40 of a-z, 0-9 and - within, got {name[:80]!r}")
        dry = self.plan(selector, strategy)
        if not any(dry.stages):
            why = "; ".join(sorted(set(dry.left_out.values()))[:5])
            raise BadCampaign(f"none of the {len(dry.left_out)} devices can be told now: {why}")
        at = self._now()
        campaign = Campaign(
            campaign_id=name,
            state=CampaignState.RUNNING,
            selector=selector,
            strategy=strategy,
            created_by=by,
            created_at=at,
            opened_at=at,
            rollout_at=None if strategy.canaries else at,
        )
        self._campaigns.add_campaign(campaign, dry.stages)
        return campaign

    def view(self, name: str) -> View:
        """Raise UnknownCampaign."""
        return View(self._campaigns.get_campaign(name), self._campaigns.counts(name))

    def views(
        self, *, state: CampaignState | None = None, device_id: str = "", after: str = "", limit: int = _PAGE
    ) -> list[View]:
        """Newest first, behind `after`. device_id: only those that this device is in."""
        found = self._campaigns.page_campaigns(state=state, device_id=device_id, after=after, limit=limit)
        return [View(one, self._campaigns.counts(one.campaign_id)) for one in found]

    def happenings(self, name: str) -> list[Happening]:
        """What happened to it, oldest first. Raise UnknownCampaign."""
        self._campaigns.get_campaign(name)
        return self._campaigns.happenings(name)

    def page_members(
        self, name: str, *, state: DeviceState | None = None, after: str = "", limit: int = _PAGE
    ) -> list[Member]:
        """Its devices, by id, behind `after`; of one state, if it is given. Raise UnknownCampaign."""
        self._campaigns.get_campaign(name)
        return self._campaigns.members(name, state=state, after=after, limit=limit)

    def members(self, name: str, *, state: DeviceState | None = None) -> Iterator[Member]:
        """All of them. Raise UnknownCampaign."""
        after = ""
        while page := self.page_members(name, state=state, after=after):
            yield from page
            after = page[-1].device_id

    def pause(self, name: str, *, by: str, reason: str = "") -> Campaign:
        """Tell nobody any more; what is under way goes on. Raise UnknownCampaign, NotNow, as all of these."""
        return self._happen(name, CampaignEvent.PAUSED, by, reason)

    def resume(self, name: str, *, by: str, reason: str = "") -> Campaign:
        """Go on after a pause."""
        return self._happen(name, CampaignEvent.RESUMED, by, reason)

    def approve(self, name: str, *, by: str, reason: str = "") -> Campaign:
        """Let it go on to the stage that it holds before."""
        return self._happen(name, CampaignEvent.APPROVED, by, reason)

    def abort(self, name: str, *, by: str, reason: str = "") -> Campaign:
        """End it for good. A device whose certificate is out finishes; the others' commands count no more."""
        return self._happen(name, CampaignEvent.ABORTED, by, reason)

    def retry(self, name: str, *, by: str, reason: str = "") -> Campaign:
        """Tell those that failed, or were skipped, once more, in the open stage. It runs then."""
        return self._happen(name, CampaignEvent.RETRIED, by, reason)

    def _happen(self, name: str, event: CampaignEvent, by: str, reason: str) -> Campaign:
        return self._campaigns.happen(name, event, by=by, at=self._now(), reason=reason)
