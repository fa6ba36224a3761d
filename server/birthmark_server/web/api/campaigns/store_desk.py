"""The desk's part for campaigns, on the service that plans, starts and steers them."""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from birthmark_server.campaigns import Campaign
from birthmark_server.fleet import Selector
from birthmark_server.roles import STEERING, Role, require
from birthmark_server.rotation.campaigning import CampaignService
from birthmark_server.store.fleet_protocol import FleetStore
from birthmark_server.web.api import queries, seen
from birthmark_server.web.api.campaigns import bodies, views
from birthmark_server.web.api.campaigns.bodies import Steering

_ACTS: Final[Mapping[Steering, Callable[..., Campaign]]] = MappingProxyType(
    {
        Steering.PAUSE: CampaignService.pause,
        Steering.RESUME: CampaignService.resume,
        Steering.APPROVE: CampaignService.approve,
        Steering.RETRY: CampaignService.retry,
        Steering.ABORT: CampaignService.abort,
    }
)


class StoreCampaignDesk:
    """See desk.CampaignDesk. by, role, authority, now: as StoreDesk, of which this is a part."""

    def __init__(
        self,
        service: CampaignService,
        store: FleetStore,
        *,
        authority: seen.OpenAuthority,
        by: str,
        role: Role | None,
        now: Callable[[], datetime],
    ) -> None:
        self._service = service
        self._store = store
        self._authority = authority
        self._by = by
        self._role = role
        self._now = now

    def plan(self, plan: bodies.CampaignPlan) -> views.PlanView:
        return views.plan_view(self._service.plan(self._selector(plan.selection), plan.strategy.meant()))

    def start(self, campaign: bodies.NewCampaign) -> views.CampaignView:
        require(self._role, STEERING, "starting campaigns")
        strategy = campaign.strategy.meant()
        self._service.start(campaign.name, self._selector(campaign.selection), strategy, by=self._by)
        return views.campaign_view(self._service.view(campaign.name))

    def campaigns(self, query: bodies.CampaignQuery, *, after: str = "", limit: int = 100) -> views.CampaignPage:
        found = self._service.views(state=query.state, device_id=query.device_id or "", after=after, limit=limit + 1)
        shown = tuple(map(views.campaign_view, found[:limit]))
        return views.CampaignPage(items=shown, next=shown[-1].campaign_id if len(found) > limit else None)

    def campaign(self, name: str) -> views.CampaignDetail:
        return views.campaign_detail(self._service.view(name), self._service.happenings(name))

    def devices(
        self, name: str, query: bodies.CampaignDeviceQuery, *, after: str = "", limit: int = 100
    ) -> views.MemberPage:
        found = self._service.page_members(name, state=query.state, after=after, limit=limit + 1)
        shown = tuple(map(views.member_view, found[:limit]))
        return views.MemberPage(items=shown, next=shown[-1].device_id if len(found) > limit else None)

    def steer(self, name: str, steering: Steering, reason: bodies.SteeringReason) -> views.CampaignView:
        require(self._role, STEERING, "steering campaigns")
        _ACTS[steering](self._service, name, by=self._by, reason=reason.reason)
        return views.campaign_view(self._service.view(name))

    def _selector(self, query: queries.DeviceQuery) -> Selector:
        return seen.selector(query, self._store, self._authority, self._now())
