"""Campaigns in a running server: one look after the other, and the outside checks.

Any number of servers run this. A look is one transaction of the store (CampaignStore.step), so a server that is killed
in one has done nothing and the next one takes over at once. A check is asked in a thread of its own, so that one that
hangs holds nothing up; it is leased, so that one server asks it, and another one after that if the first is gone.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from birthmark_server.campaigns import Campaign, CampaignEvent, Decision, Facts, NotNow
from birthmark_server.rotation.outside_check import OutsideChecks
from birthmark_server.rotation.plan import decide
from birthmark_server.store.campaign_protocol import CampaignStore
from birthmark_server.tracing import NO_TRACE, Tracer

CHECK_LEASE: Final = timedelta(seconds=30)
CHECKED_BY: Final = "check"
_MOST_CHECKS: Final = 4
_log: Final = logging.getLogger(__name__)


class CampaignRunner:
    """See engine.Work. lease: how long until a check that gave no leave is asked again. outside: what may be asked,
    nothing by default."""

    def __init__(
        self,
        *,
        campaigns: CampaignStore,
        now: Callable[[], datetime],
        lease: timedelta = CHECK_LEASE,
        tracer: Tracer = NO_TRACE,
        outside: OutsideChecks | None = None,
    ) -> None:
        self._outside = outside or OutsideChecks()
        self._tracer = tracer
        self._campaigns = campaigns
        self._now = now
        self._lease = lease
        self._checks: list[threading.Thread] = []

    def run(self) -> int:
        """Look at each open campaign once, about; return how much was done."""
        self._start_checks()
        done, began = 0, self._now()
        while (here := self._look(began)) is not None:
            done += here
        return done

    def _look(self, at: datetime) -> int | None:
        """Look at one campaign: see CampaignStore.step."""
        began_ns, of = time.time_ns(), ""

        def judge(facts: Facts) -> Decision:
            nonlocal of
            of = facts.campaign.campaign_id
            return decide(facts, now=at)

        done = self._campaigns.step(judge, at=at)
        if done:
            self._tracer.after("campaign look", began_ns, {"birthmark.campaign_id": of, "birthmark.done": done})
        return done

    def _start_checks(self) -> None:
        self._checks = [check for check in self._checks if check.is_alive()]
        while len(self._checks) < _MOST_CHECKS:
            campaign = self._campaigns.claim_check(at=self._now(), lease=self._lease)
            if campaign is None:
                return
            check = threading.Thread(target=self._check, args=(campaign,), name="campaign_check", daemon=True)
            check.start()
            self._checks.append(check)

    def _check(self, campaign: Campaign) -> None:
        """Ask; approve on 2xx. Whatever else comes, or nothing, the campaign goes on holding, and asks again."""
        said = self._outside.ask(campaign)
        _log.info("campaign check", extra={"fields": {"campaign": campaign.campaign_id, "said": said or "go on"}})
        if said:
            return
        try:
            self._campaigns.happen(campaign.campaign_id, CampaignEvent.APPROVED, by=CHECKED_BY, at=self._now())
        except NotNow:
            pass  # somebody was faster, or aborted it
        except Exception:  # noqa: BLE001 - a thread of its own: the next check may do better
            _log.exception("campaign not approved", extra={"fields": {"campaign": campaign.campaign_id}})
