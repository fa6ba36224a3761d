"""The desk's part for campaigns: by the rules of web/api/desk.py."""

from typing import Protocol

from birthmark_server.web.api.campaigns import bodies, views


class CampaignDesk(Protocol):
    """What operators do with campaigns. Reading and planning changes nothing, and is for every role."""

    def plan(self, plan: bodies.CampaignPlan) -> views.PlanView:
        """Say what a campaign would do. Raise BadCampaign, UnknownGroup, UnknownIssuer, TooManyPlans."""

    def start(self, campaign: bodies.NewCampaign) -> views.CampaignView:
        """As `plan`; servers take it up within a second. Raise AlreadyExists too."""

    def campaigns(self, query: bodies.CampaignQuery, *, after: str = "", limit: int = 100) -> views.CampaignPage:
        """Newest first."""

    def campaign(self, name: str) -> views.CampaignDetail:
        """Raise UnknownCampaign."""

    def devices(
        self, name: str, query: bodies.CampaignDeviceQuery, *, after: str = "", limit: int = 100
    ) -> views.MemberPage:
        """By id. Raise UnknownCampaign."""

    def steer(self, name: str, steering: bodies.Steering, reason: bodies.SteeringReason) -> views.CampaignView:
        """Raise UnknownCampaign; NotNow where the campaign is in no state for it."""
