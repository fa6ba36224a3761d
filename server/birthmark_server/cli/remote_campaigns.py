"""The desk's part for campaigns from afar: each method is one request."""

from birthmark_server.cli.remote_requests import RemoteRequests, segment
from birthmark_server.web.api.campaigns import bodies, views


class RemoteCampaigns(RemoteRequests):
    """See web.api.campaigns.desk.CampaignDesk, where each method's contract is."""

    def plan(self, plan: bodies.CampaignPlan) -> views.PlanView:
        return self._think("/v1/campaign-plans", views.PlanView, plan)

    def start(self, campaign: bodies.NewCampaign) -> views.CampaignView:
        return self._create("/v1/campaigns", views.CampaignView, campaign)

    def campaigns(self, query: bodies.CampaignQuery, *, after: str = "", limit: int = 100) -> views.CampaignPage:
        return self._list("/v1/campaigns", views.CampaignPage, after, limit, query)

    def campaign(self, name: str) -> views.CampaignDetail:
        return self._get(f"/v1/campaigns/{segment(name)}", views.CampaignDetail)

    def devices(
        self, name: str, query: bodies.CampaignDeviceQuery, *, after: str = "", limit: int = 100
    ) -> views.MemberPage:
        return self._list(f"/v1/campaigns/{segment(name)}/devices", views.MemberPage, after, limit, query)

    def steer(self, name: str, steering: bodies.Steering, reason: bodies.SteeringReason) -> views.CampaignView:
        return self._post(f"/v1/campaigns/{segment(name)}/{steering}", views.CampaignView, reason)
