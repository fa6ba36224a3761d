"""What operators do with campaigns. See store/campaign_protocol.py for what each function promises."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, or_, select, update

from birthmark_server.campaigns import OF_JOB, OPEN, Campaign, CampaignEvent, DeviceState, campaign_after
from birthmark_server.jobs import JobEvent, JobState, after
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import AlreadyExists
from birthmark_server.store.sql.campaign_rows import (
    CAMPAIGNS,
    COLUMNS,
    MEMBERS,
    STAGES,
    found,
    insert_campaign,
    note_event,
    write_campaign,
)
from birthmark_server.store.sql.campaign_views import COUNTED, COUNTERS, QUEUED, SKIPPED, UNSETTLED
from birthmark_server.store.sql.jobs import JOBS, change_job, job_from
from birthmark_server.store.statement import Statement, Value, insert_all

_ABORTED: Final = "aborted"
_INSERT_MEMBER: Final = insert_all(MEMBERS)
_INSERT_STAGE: Final = insert_all(STAGES)
_LOCK: Final = Statement(select(*COLUMNS).where(CAMPAIGNS.c.campaign_id == bindparam("key")).with_for_update())
_ADD: Final = Statement(
    update(STAGES)
    .where(STAGES.c.campaign_id == bindparam("key"), STAGES.c.stage == bindparam("here"))
    .values({name: STAGES.c[name] + bindparam(f"more_{name}") for name in COUNTERS})
)
_TO_SETTLE: Final = Statement(
    select(MEMBERS.c.device_id, MEMBERS.c.stage, JOBS.c.state)
    .select_from(MEMBERS.join(JOBS, JOBS.c.job_id == MEMBERS.c.job_id))
    .where(UNSETTLED, JOBS.c.ended_at_us.is_not(None))
)
_SETTLE: Final = Statement(
    update(MEMBERS)
    .where(MEMBERS.c.campaign_id == bindparam("key"), MEMBERS.c.device_id == bindparam("device"))
    .values(standing=bindparam("outcome"))
)
_SKIP_REST: Final = Statement(
    update(MEMBERS)
    .where(MEMBERS.c.campaign_id == bindparam("key"), MEMBERS.c.standing == QUEUED)
    .values(skipped=_ABORTED, standing=SKIPPED)
)
_OPEN_JOBS: Final = Statement(
    select(JOBS).where(JOBS.c.campaign_id == bindparam("key"), JOBS.c.ended_at_us.is_(None)).with_for_update()
)
_FAILED: Final = or_(*(MEMBERS.c.standing == state.value for state in JobState if OF_JOB[state] is DeviceState.FAILED))
_REQUEUE: Final = Statement(
    update(MEMBERS)
    .where(MEMBERS.c.campaign_id == bindparam("key"), or_(MEMBERS.c.standing == SKIPPED, _FAILED))
    .values(job_id="", skipped="", standing=QUEUED, stage=bindparam("here"))
)


def add_campaign(tx: Transaction, campaign: Campaign, stages: Sequence[Sequence[str]]) -> None:
    if not insert_campaign(tx, campaign):
        raise AlreadyExists(f"there is a campaign {campaign.campaign_id!r} already")
    place = 0
    for stage, device_ids in enumerate(stages):
        counters = {**dict.fromkeys(COUNTERS, 0), "queued": len(device_ids)}
        tx.run(_INSERT_STAGE, campaign_id=campaign.campaign_id, stage=stage, **counters)
        turns = [_member(campaign.campaign_id, one, stage, place + turn) for turn, one in enumerate(device_ids)]
        tx.run_many(_INSERT_MEMBER, turns)
        place += len(turns)
    note_event(tx, campaign, CampaignEvent.STARTED, by=campaign.created_by, at=campaign.created_at)


def happen(tx: Transaction, campaign_id: str, event: CampaignEvent, by: str, at: datetime, reason: str) -> Campaign:
    campaign = found(tx.row(_LOCK, key=campaign_id), campaign_id)
    return event_happens(tx, campaign, event, by, at, reason)


def event_happens(
    tx: Transaction, campaign: Campaign, event: CampaignEvent, by: str, at: datetime, reason: str
) -> Campaign:
    """Let an event happen to a campaign whose row is locked."""
    state = campaign_after(campaign.state, event)
    changed = replace(
        campaign,
        state=state,
        approved=campaign.stage + 1 if event is CampaignEvent.APPROVED else campaign.approved,
        ended_at=None if state in OPEN else at,
        reason=reason,
        revision=campaign.revision + 1,
    )
    write_campaign(tx, changed)
    note_event(tx, changed, event, by=by, at=at)
    if event is CampaignEvent.ABORTED:
        _stop(tx, campaign.campaign_id, at, reason or f"aborted by {by}")
    if event is CampaignEvent.RETRIED:
        _requeue(tx, campaign)
    return changed


def _requeue(tx: Transaction, campaign: Campaign) -> None:
    settle(tx, campaign.campaign_id)
    before = tx.rows(COUNTED, key=campaign.campaign_id)
    number = tx.run(_REQUEUE, key=campaign.campaign_id, here=campaign.stage)
    for _, stage, _, _, failed, _, skipped in before:
        count(tx, campaign.campaign_id, stage, failed=-failed, skipped=-skipped)
    count(tx, campaign.campaign_id, campaign.stage, queued=number)


def settle(tx: Transaction, campaign_id: str) -> None:
    """Move what has ended since from what is counted each time to what is counted once."""
    more: dict[int, Counter[str]] = {}
    for device_id, stage, state in tx.rows(_TO_SETTLE, key=campaign_id):
        tx.run(_SETTLE, key=campaign_id, device=device_id, outcome=state)
        more.setdefault(stage, Counter())[OF_JOB[JobState(state)].value] += 1
    for stage, counted in more.items():
        count(tx, campaign_id, stage, **counted)


def count(tx: Transaction, campaign_id: str, stage: int, **more: int) -> None:
    values = {f"more_{name}": more.get(name, 0) for name in COUNTERS}
    tx.run(_ADD, key=campaign_id, here=stage, **values)


def _stop(tx: Transaction, campaign_id: str, at: datetime, reason: str) -> None:
    for _, stage, queued, *_ in tx.rows(COUNTED, key=campaign_id):
        count(tx, campaign_id, stage, queued=-queued, skipped=queued)
    tx.run(_SKIP_REST, key=campaign_id)
    for row in tx.rows(_OPEN_JOBS, key=campaign_id):
        job = job_from(row)
        state = after(job.state, JobEvent.CANCELLED)
        if state is not None:
            ended = replace(job, state=state, send_at=None, code="campaign-aborted", detail=reason, ended_at=at)
            change_job(tx, job, ended)


def add_member(tx: Transaction, campaign_id: str, device_id: str, stage: int, place: int) -> int:
    """Return 1, or 0 where the device is a member already."""
    return tx.run(_INSERT_MEMBER, **_member(campaign_id, device_id, stage, place))


def _member(campaign_id: str, device_id: str, stage: int, place: int) -> dict[str, Value]:
    return {
        "campaign_id": campaign_id,
        "device_id": device_id,
        "stage": stage,
        "place": place,
        "job_id": "",
        "attempts": 0,
        "skipped": "",
        "standing": QUEUED,
    }
