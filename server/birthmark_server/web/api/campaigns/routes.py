"""The operations on campaigns."""

from collections.abc import Iterator
from typing import Final

from birthmark_server.roles import READING, STEERING
from birthmark_server.web.api.campaigns import bodies, views
from birthmark_server.web.api.campaigns.bodies import Steering
from birthmark_server.web.api.operation import Asked, Entry
from birthmark_server.web.contract import Contract

BODY_BYTES: Final = 1 << 20
"""Of what names devices one by one: 10,000 of them, and how to go about it."""

_STEERINGS: Final = {
    Steering.PAUSE: "Tell nobody any more; what is under way goes on.",
    Steering.RESUME: "Go on after a pause.",
    Steering.APPROVE: "Let a campaign that holds go on to its next stage.",
    Steering.RETRY: "Tell those that failed, or were skipped, once more.",
    Steering.ABORT: "End a campaign for good. A device whose new certificate is out finishes.",
}


def _steerings() -> Iterator[Entry]:
    for steering, summary in _STEERINGS.items():

        def act(asked: Asked, steering: Steering = steering) -> views.CampaignView:
            return asked.desk.campaigns.steer(asked.argument, steering, asked.body)

        contract = Contract(summary, body=bodies.SteeringReason, answer=views.CampaignView)
        yield "POST", f"/v1/campaigns/{{id}}/{steering}", STEERING, contract, act


CAMPAIGNS: Final[tuple[Entry, ...]] = (
    (
        "POST", "/v1/campaign-plans", READING,
        Contract(
            "Say what a campaign would do, and do nothing: who, who not and why, load, end.",
            body=bodies.CampaignPlan, answer=views.PlanView, most_body_bytes=BODY_BYTES, alone=True,
        ),
        lambda asked: asked.desk.campaigns.plan(asked.body),
    ),
    (
        "GET", "/v1/campaigns", READING,
        Contract("List campaigns, newest first.", query=bodies.CampaignQuery, answer=views.CampaignPage),
        lambda asked: asked.desk.campaigns.campaigns(asked.query, after=asked.after, limit=asked.limit),
    ),
    (
        "POST", "/v1/campaigns", STEERING,
        Contract(
            "Start a campaign; servers take it up within a second.",
            body=bodies.NewCampaign, answer=views.CampaignView, status=201, creates=True,
            most_body_bytes=BODY_BYTES, alone=True,
        ),
        lambda asked: asked.desk.campaigns.start(asked.body),
    ),
    (
        "GET", "/v1/campaigns/{id}", READING,
        Contract("Show a campaign: its stages and counts, and what happened to it.", answer=views.CampaignDetail),
        lambda asked: asked.desk.campaigns.campaign(asked.argument),
    ),
    (
        "GET", "/v1/campaigns/{id}/devices", READING,
        Contract(
            "List a campaign's devices, by id, each with its outcome and why.",
            query=bodies.CampaignDeviceQuery, answer=views.MemberPage,
        ),
        lambda asked: asked.desk.campaigns.devices(
            asked.argument, asked.query, after=asked.after, limit=asked.limit
        ),
    ),
    *_steerings(),
)  # fmt: skip
