"""Campaigns as they stand: looked up, listed, counted, with their devices. See store/campaign_protocol.py."""

from collections import Counter
from typing import Final

from sqlalchemy import ColumnElement, and_, bindparam, exists, func, or_, select

from birthmark_server.campaigns import (
    OF_JOB,
    Campaign,
    CampaignEvent,
    CampaignState,
    Count,
    DeviceState,
    Happening,
    Member,
)
from birthmark_server.jobs import JobState
from birthmark_server.store.database import Transaction
from birthmark_server.store.rows import from_us
from birthmark_server.store.sql.campaign_rows import CAMPAIGNS, COLUMNS, EVENTS, MEMBERS, STAGES, campaign_from, found
from birthmark_server.store.sql.jobs import JOBS
from birthmark_server.store.statement import Statement

COUNTERS: Final = ("queued", "done", "failed", "cancelled", "skipped")
QUEUED, RUNNING, SKIPPED = DeviceState.QUEUED.value, DeviceState.RUNNING.value, DeviceState.SKIPPED.value
UNSETTLED: Final = and_(MEMBERS.c.campaign_id == bindparam("key"), MEMBERS.c.standing == RUNNING)

_GET: Final = Statement(select(*COLUMNS).where(CAMPAIGNS.c.campaign_id == bindparam("key")))
COUNTED: Final = Statement(select(STAGES).where(STAGES.c.campaign_id == bindparam("key")).order_by(STAGES.c.stage))
_COUNT_UNSETTLED: Final = Statement(
    select(MEMBERS.c.stage, JOBS.c.state, func.count())
    .select_from(MEMBERS.join(JOBS, JOBS.c.job_id == MEMBERS.c.job_id))
    .where(UNSETTLED)
    .group_by(MEMBERS.c.stage, JOBS.c.state)
)
_HAPPENINGS: Final = Statement(
    select(EVENTS).where(EVENTS.c.campaign_id == bindparam("key")).order_by(EVENTS.c.revision)
)


def get_campaign(tx: Transaction, campaign_id: str) -> Campaign:
    return found(tx.row(_GET, key=campaign_id), campaign_id)


def page_campaigns(
    tx: Transaction, state: CampaignState | None, device_id: str, after: str, limit: int
) -> list[Campaign]:
    wanted: list[ColumnElement[bool]] = []
    if state is not None:
        wanted.append(CAMPAIGNS.c.state == state.value)
    if device_id:
        wanted.append(
            exists().where(MEMBERS.c.campaign_id == CAMPAIGNS.c.campaign_id, MEMBERS.c.device_id == device_id)
        )
    if after:
        last = select(CAMPAIGNS.c.created_at_us).where(CAMPAIGNS.c.campaign_id == after).scalar_subquery()
        at = CAMPAIGNS.c.created_at_us
        wanted.append(or_(at < last, and_(at == last, CAMPAIGNS.c.campaign_id > after)))
    page = select(*COLUMNS).where(*wanted).order_by(CAMPAIGNS.c.created_at_us.desc(), CAMPAIGNS.c.campaign_id)
    return [campaign_from(row) for row in tx.rows(Statement(page.limit(limit)))]


def counts(tx: Transaction, campaign_id: str) -> tuple[Count, ...]:
    counted = [Counter(dict(zip(COUNTERS, row[2:], strict=True))) for row in tx.rows(COUNTED, key=campaign_id)]
    for stage, state, number in tx.rows(_COUNT_UNSETTLED, key=campaign_id):
        counted[stage][OF_JOB[JobState(state)].value] += number
    return tuple(Count(**one) for one in counted)


def members(tx: Transaction, campaign_id: str, state: DeviceState | None, after: str, limit: int) -> list[Member]:
    wanted = [MEMBERS.c.campaign_id == campaign_id, MEMBERS.c.device_id > after]
    if state is not None:
        wanted.append(_stands(state))
    page = (
        select(
            MEMBERS.c.device_id,
            MEMBERS.c.stage,
            MEMBERS.c.job_id,
            MEMBERS.c.skipped,
            JOBS.c.state,
            JOBS.c.code,
            JOBS.c.detail,
        )
        .select_from(MEMBERS.outerjoin(JOBS, JOBS.c.job_id == MEMBERS.c.job_id))
        .where(*wanted)
        .order_by(MEMBERS.c.device_id)
        .limit(limit)
    )
    return [
        Member(device_id, stage, _standing(bool(skipped), job_state), job_id, code or "", detail or skipped)
        for device_id, stage, job_id, skipped, job_state, code, detail in tx.rows(Statement(page))
    ]


def _stands(state: DeviceState) -> ColumnElement[bool]:
    """A member's own column says where it stands until its job runs, and once that is counted; in between the job."""
    if state in (DeviceState.QUEUED, DeviceState.SKIPPED):
        return MEMBERS.c.standing == state.value
    jobs = [one.value for one, meaning in OF_JOB.items() if meaning is state]
    settled = or_(*(MEMBERS.c.standing == one for one in jobs))
    running = and_(MEMBERS.c.standing == RUNNING, or_(*(JOBS.c.state == one for one in jobs)))
    return or_(settled, running)


def happenings(tx: Transaction, campaign_id: str) -> list[Happening]:
    return [
        Happening(from_us(at), CampaignEvent(event), by, reason)
        for _, _, at, event, by, reason in tx.rows(_HAPPENINGS, key=campaign_id)
    ]


def _standing(skipped: bool, state: str | None) -> DeviceState:
    if skipped:
        return DeviceState.SKIPPED
    return DeviceState.QUEUED if state is None else OF_JOB[JobState(state)]
