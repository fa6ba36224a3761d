"""What servers do with campaigns: look at one, do what the planner says, and lease outside checks."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import bindparam, func, or_, select, update

from birthmark_server.campaigns import OPEN, Campaign, CampaignState, Facts, Hold
from birthmark_server.jobs import NewJob
from birthmark_server.store.campaign_protocol import Decide
from birthmark_server.store.database import Transaction
from birthmark_server.store.rows import to_us
from birthmark_server.store.sql.campaign_rows import CAMPAIGNS, COLUMNS, MEMBERS, campaign_from, write_campaign
from birthmark_server.store.sql.campaign_views import QUEUED, RUNNING, SKIPPED, counts
from birthmark_server.store.sql.campaigns import add_member, count, event_happens, settle
from birthmark_server.store.sql.candidates import candidates
from birthmark_server.store.sql.devices import DEVICES
from birthmark_server.store.sql.jobs import JOBS, open_jobs
from birthmark_server.store.statement import Statement

_MINUTE: Final = timedelta(minutes=1)
_IS_OPEN: Final = or_(*(CAMPAIGNS.c.state == state.value for state in sorted(OPEN)))
_TAKE: Final = Statement(
    select(*COLUMNS)
    .where(_IS_OPEN, CAMPAIGNS.c.looked_at_us < bindparam("now"))
    .order_by(CAMPAIGNS.c.looked_at_us)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_LOOKED: Final = Statement(
    update(CAMPAIGNS).where(CAMPAIGNS.c.campaign_id == bindparam("key")).values(looked_at_us=bindparam("now"))
)
_CHECKS: Final = Statement(
    select(*COLUMNS)
    .where(CAMPAIGNS.c.state == CampaignState.HOLDING.value, CAMPAIGNS.c.check_at_us <= bindparam("now"))
    .order_by(CAMPAIGNS.c.check_at_us)
    .with_for_update(skip_locked=True)
)
_CHECKED: Final = Statement(
    update(CAMPAIGNS).where(CAMPAIGNS.c.campaign_id == bindparam("key")).values(check_at_us=bindparam("then"))
)
_STARTED: Final = Statement(
    select(func.count()).where(JOBS.c.campaign_id == bindparam("key"), JOBS.c.created_at_us > bindparam("since"))
)
_PLACES: Final = Statement(select(func.count()).where(MEMBERS.c.campaign_id == bindparam("key")))
_TURN: Final = Statement(
    select(MEMBERS.c.device_id, MEMBERS.c.place, MEMBERS.c.attempts, DEVICES.c.state)
    .select_from(MEMBERS.join(DEVICES, DEVICES.c.device_id == MEMBERS.c.device_id))
    .where(
        MEMBERS.c.campaign_id == bindparam("key"),
        MEMBERS.c.standing == QUEUED,
        MEMBERS.c.stage == bindparam("open"),
    )
    .order_by(MEMBERS.c.place)
    .limit(bindparam("most"))
)
_TOLD: Final = Statement(
    update(MEMBERS)
    .where(MEMBERS.c.campaign_id == bindparam("key"), MEMBERS.c.device_id == bindparam("device"))
    .values(
        job_id=bindparam("job"),
        skipped=bindparam("why"),
        standing=bindparam("standing"),
        attempts=MEMBERS.c.attempts + 1,
    )
)


def step(tx: Transaction, decide: Decide, at: datetime) -> int | None:
    row = tx.row(_TAKE, now=to_us(at))
    if row is None:
        return None
    campaign = campaign_from(row)
    tx.run(_LOOKED, key=campaign.campaign_id, now=to_us(at))
    settle(tx, campaign.campaign_id)
    ((started,),) = tx.rows(_STARTED, key=campaign.campaign_id, since=to_us(at - _MINUTE))
    decision = decide(Facts(campaign, counts(tx, campaign.campaign_id), int(started)))
    if decision.event is not None:
        event_happens(tx, campaign, decision.event, "", at, decision.reason)
        return 1
    if decision.open_next:
        if campaign.strategy.late_joiners:
            _join(tx, campaign, at)
        write_campaign(
            tx,
            replace(
                campaign,
                stage=campaign.stage + 1,
                opened_at=at,
                rollout_at=campaign.rollout_at or at,
                revision=campaign.revision + 1,
                reason="",
            ),
        )
        return 1
    return _tell(tx, campaign, decision.start, at) if decision.start else 0


def _join(tx: Transaction, campaign: Campaign, at: datetime) -> None:
    """Let those that the selector has come to match into the stage that is about to open."""
    ((place,),) = tx.rows(_PLACES, key=campaign.campaign_id)
    joiners = [
        one.device_id
        for one in candidates(tx, campaign.selector, at)
        if one.active and one.not_after is not None and not one.busy_with
    ]
    begun = place
    for device_id in joiners:
        place += add_member(tx, campaign.campaign_id, device_id, campaign.stage + 1, place)
    count(tx, campaign.campaign_id, campaign.stage + 1, queued=place - begun)


def _tell(tx: Transaction, campaign: Campaign, number: int, at: datetime) -> int:
    """Open the jobs of those whose turn it is; whoever can have none any more is skipped, with the reason."""
    deadline = at + timedelta(seconds=campaign.strategy.deadline_s)
    turn = tx.rows(_TURN, key=campaign.campaign_id, open=campaign.stage, most=number)
    skipped = 0
    for device_id, place, attempts, state in turn:
        job_id, why = f"{campaign.campaign_id}-{place}-{attempts}", ""
        if state != "active":
            job_id, why = "", f"the device is {state}"
        elif not open_jobs(tx, [NewJob(job_id, device_id, campaign.created_by, at, deadline, campaign.campaign_id)]):
            job_id, why = "", "the device has another job"
        standing = SKIPPED if why else RUNNING
        tx.run(_TOLD, key=campaign.campaign_id, device=device_id, job=job_id, why=why, standing=standing)
        skipped += bool(why)
    count(tx, campaign.campaign_id, campaign.stage, queued=-len(turn), skipped=skipped)
    return len(turn)


def claim_check(tx: Transaction, at: datetime, lease: timedelta) -> Campaign | None:
    for row in tx.rows(_CHECKS, now=to_us(at)):
        campaign = campaign_from(row)
        if campaign.strategy.hold is Hold.CHECK:
            tx.run(_CHECKED, key=campaign.campaign_id, then=to_us(at + lease))
            return campaign
    return None
