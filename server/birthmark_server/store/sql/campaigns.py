"""The rows of campaigns. See store/campaign_protocol.py for what each function promises."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import and_, bindparam, func, or_, select, update

from birthmark_server.campaigns import (
    OF_JOB,
    OPEN,
    Campaign,
    CampaignEvent,
    CampaignState,
    Count,
    DeviceState,
    Facts,
    Happening,
    Hold,
    Member,
    Selector,
    Strategy,
    campaign_after,
)
from birthmark_server.jobs import JobEvent, JobState, NewJob, after
from birthmark_server.store.campaign_protocol import Decide
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import AlreadyExists, UnknownCampaign
from birthmark_server.store.job_tables import CampaignEvents, CampaignMembers, Campaigns, CampaignStages
from birthmark_server.store.rows import from_us, from_us_or_none, to_us, to_us_or_none
from birthmark_server.store.sql.candidates import candidates
from birthmark_server.store.sql.devices import DEVICES
from birthmark_server.store.sql.jobs import JOBS, change_job, job_from, open_jobs
from birthmark_server.store.statement import Row, Statement, Value, insert_all
from birthmark_server.store.tables import table_of

CAMPAIGNS: Final = table_of(Campaigns)
MEMBERS: Final = table_of(CampaignMembers)
_EVENTS: Final = table_of(CampaignEvents)
STAGES: Final = table_of(CampaignStages)
_COUNTERS: Final = ("queued", "done", "failed", "cancelled", "skipped")
_SELECTOR: Final = TypeAdapter(Selector)
_STRATEGY: Final = TypeAdapter(Strategy)
_MINUTE: Final = timedelta(minutes=1)
_ABORTED: Final = "aborted"
_QUEUED, _RUNNING, _SKIPPED = DeviceState.QUEUED.value, DeviceState.RUNNING.value, DeviceState.SKIPPED.value

_INSERT: Final = insert_all(CAMPAIGNS)
_INSERT_MEMBER: Final = insert_all(MEMBERS)
_INSERT_EVENT: Final = insert_all(_EVENTS)
_COLUMNS: Final = tuple(one for one in CAMPAIGNS.columns if one.name not in ("looked_at_us", "check_at_us"))
_IS_OPEN: Final = or_(*(CAMPAIGNS.c.state == state.value for state in sorted(OPEN)))
_GET: Final = Statement(select(*_COLUMNS).where(CAMPAIGNS.c.campaign_id == bindparam("key")))
_LOCK: Final = Statement(select(*_COLUMNS).where(CAMPAIGNS.c.campaign_id == bindparam("key")).with_for_update())
_LIST: Final = Statement(select(*_COLUMNS).order_by(CAMPAIGNS.c.created_at_us.desc(), CAMPAIGNS.c.campaign_id))
_TAKE: Final = Statement(
    select(*_COLUMNS)
    .where(_IS_OPEN, CAMPAIGNS.c.looked_at_us < bindparam("now"))
    .order_by(CAMPAIGNS.c.looked_at_us)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_LOOKED: Final = Statement(
    update(CAMPAIGNS).where(CAMPAIGNS.c.campaign_id == bindparam("key")).values(looked_at_us=bindparam("now"))
)
_CHECKS: Final = Statement(
    select(*_COLUMNS)
    .where(CAMPAIGNS.c.state == CampaignState.HOLDING.value, CAMPAIGNS.c.check_at_us <= bindparam("now"))
    .order_by(CAMPAIGNS.c.check_at_us)
    .with_for_update(skip_locked=True)
)
_CHECKED: Final = Statement(
    update(CAMPAIGNS).where(CAMPAIGNS.c.campaign_id == bindparam("key")).values(check_at_us=bindparam("then"))
)
_CHANGE: Final = Statement(
    update(CAMPAIGNS)
    .where(CAMPAIGNS.c.campaign_id == bindparam("key"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "state",
                "stage",
                "approved",
                "opened_at_us",
                "rollout_at_us",
                "ended_at_us",
                "reason",
                "revision",
            )
        }
    )
)
_INSERT_STAGE: Final = insert_all(STAGES)
_COUNTED: Final = Statement(select(STAGES).where(STAGES.c.campaign_id == bindparam("key")).order_by(STAGES.c.stage))
_ADD: Final = Statement(
    update(STAGES)
    .where(STAGES.c.campaign_id == bindparam("key"), STAGES.c.stage == bindparam("here"))
    .values({name: STAGES.c[name] + bindparam(f"more_{name}") for name in _COUNTERS})
)
_UNSETTLED: Final = and_(MEMBERS.c.campaign_id == bindparam("key"), MEMBERS.c.standing == _RUNNING)
_COUNT_UNSETTLED: Final = Statement(
    select(MEMBERS.c.stage, JOBS.c.state, func.count())
    .select_from(MEMBERS.join(JOBS, JOBS.c.job_id == MEMBERS.c.job_id))
    .where(_UNSETTLED)
    .group_by(MEMBERS.c.stage, JOBS.c.state)
)
_TO_SETTLE: Final = Statement(
    select(MEMBERS.c.device_id, MEMBERS.c.stage, JOBS.c.state)
    .select_from(MEMBERS.join(JOBS, JOBS.c.job_id == MEMBERS.c.job_id))
    .where(_UNSETTLED, JOBS.c.ended_at_us.is_not(None))
)
_SETTLE: Final = Statement(
    update(MEMBERS)
    .where(MEMBERS.c.campaign_id == bindparam("key"), MEMBERS.c.device_id == bindparam("device"))
    .values(standing=bindparam("outcome"))
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
        MEMBERS.c.standing == _QUEUED,
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
_SKIP_REST: Final = Statement(
    update(MEMBERS)
    .where(MEMBERS.c.campaign_id == bindparam("key"), MEMBERS.c.standing == _QUEUED)
    .values(skipped=_ABORTED, standing=_SKIPPED)
)
_OPEN_JOBS: Final = Statement(
    select(JOBS).where(JOBS.c.campaign_id == bindparam("key"), JOBS.c.ended_at_us.is_(None)).with_for_update()
)
_FAILED: Final = or_(*(MEMBERS.c.standing == state.value for state in JobState if OF_JOB[state] is DeviceState.FAILED))
_REQUEUE: Final = Statement(
    update(MEMBERS)
    .where(MEMBERS.c.campaign_id == bindparam("key"), or_(MEMBERS.c.standing == _SKIPPED, _FAILED))
    .values(job_id="", skipped="", standing=_QUEUED, stage=bindparam("here"))
)
_MEMBERS: Final = Statement(
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
    .where(MEMBERS.c.campaign_id == bindparam("key"), MEMBERS.c.device_id > bindparam("last"))
    .order_by(MEMBERS.c.device_id)
    .limit(bindparam("most"))
)
_HAPPENINGS: Final = Statement(
    select(_EVENTS).where(_EVENTS.c.campaign_id == bindparam("key")).order_by(_EVENTS.c.revision)
)


# -- reading


def get_campaign(tx: Transaction, campaign_id: str) -> Campaign:
    return _found(tx.row(_GET, key=campaign_id), campaign_id)


def list_campaigns(tx: Transaction) -> list[Campaign]:
    return [_campaign_from(row) for row in tx.rows(_LIST)]


def counts(tx: Transaction, campaign_id: str) -> tuple[Count, ...]:
    found = [Counter(dict(zip(_COUNTERS, row[2:], strict=True))) for row in tx.rows(_COUNTED, key=campaign_id)]
    for stage, state, number in tx.rows(_COUNT_UNSETTLED, key=campaign_id):
        found[stage][OF_JOB[JobState(state)].value] += number
    return tuple(Count(**one) for one in found)


def members(tx: Transaction, campaign_id: str, after_: str, limit: int) -> list[Member]:
    return [
        Member(device_id, stage, _standing(bool(skipped), state), job_id, code or "", detail or skipped)
        for device_id, stage, job_id, skipped, state, code, detail in tx.rows(
            _MEMBERS, key=campaign_id, last=after_, most=limit
        )
    ]


def happenings(tx: Transaction, campaign_id: str) -> list[Happening]:
    return [
        Happening(from_us(at), CampaignEvent(event), by, reason)
        for _, _, at, event, by, reason in tx.rows(_HAPPENINGS, key=campaign_id)
    ]


def _standing(skipped: bool, state: str | None) -> DeviceState:
    if skipped:
        return DeviceState.SKIPPED
    return DeviceState.QUEUED if state is None else OF_JOB[JobState(state)]


# -- what operators do


def add_campaign(tx: Transaction, campaign: Campaign, stages: Sequence[Sequence[str]]) -> None:
    values = {
        "campaign_id": campaign.campaign_id,
        "selector": _SELECTOR.dump_json(campaign.selector).decode(),
        "strategy": _STRATEGY.dump_json(campaign.strategy).decode(),
        "created_by": campaign.created_by,
        "created_at_us": to_us(campaign.created_at),
        "looked_at_us": 0,
        "check_at_us": 0,
        **_changing(campaign),
    }
    if tx.run(_INSERT, **values) == 0:
        raise AlreadyExists(f"there is a campaign {campaign.campaign_id!r} already")
    place = 0
    for stage, device_ids in enumerate(stages):
        counters = {**dict.fromkeys(_COUNTERS, 0), "queued": len(device_ids)}
        tx.run(_INSERT_STAGE, campaign_id=campaign.campaign_id, stage=stage, **counters)
        for device_id in device_ids:
            place += _add_member(tx, campaign.campaign_id, device_id, stage, place)
    _note(tx, campaign, CampaignEvent.STARTED, by=campaign.created_by, at=campaign.created_at)


def happen(tx: Transaction, campaign_id: str, event: CampaignEvent, by: str, at: datetime, reason: str) -> Campaign:
    campaign = _found(tx.row(_LOCK, key=campaign_id), campaign_id)
    return _happen(tx, campaign, event, by, at, reason)


def _happen(tx: Transaction, campaign: Campaign, event: CampaignEvent, by: str, at: datetime, reason: str) -> Campaign:
    state = campaign_after(campaign.state, event)
    changed = replace(
        campaign,
        state=state,
        approved=campaign.stage + 1 if event is CampaignEvent.APPROVED else campaign.approved,
        ended_at=None if state in OPEN else at,
        reason=reason,
        revision=campaign.revision + 1,
    )
    _write(tx, changed)
    _note(tx, changed, event, by=by, at=at)
    if event is CampaignEvent.ABORTED:
        _stop(tx, campaign.campaign_id, at, reason or f"aborted by {by}")
    if event is CampaignEvent.RETRIED:
        _requeue(tx, campaign)
    return changed


def _requeue(tx: Transaction, campaign: Campaign) -> None:
    _settle(tx, campaign.campaign_id)
    before = tx.rows(_COUNTED, key=campaign.campaign_id)
    number = tx.run(_REQUEUE, key=campaign.campaign_id, here=campaign.stage)
    for _, stage, _, _, failed, _, skipped in before:
        _count(tx, campaign.campaign_id, stage, failed=-failed, skipped=-skipped)
    _count(tx, campaign.campaign_id, campaign.stage, queued=number)


def _settle(tx: Transaction, campaign_id: str) -> None:
    """Move what has ended since from what is counted each time to what is counted once."""
    more: dict[int, Counter[str]] = {}
    for device_id, stage, state in tx.rows(_TO_SETTLE, key=campaign_id):
        tx.run(_SETTLE, key=campaign_id, device=device_id, outcome=state)
        more.setdefault(stage, Counter())[OF_JOB[JobState(state)].value] += 1
    for stage, counted in more.items():
        _count(tx, campaign_id, stage, **counted)


def _count(tx: Transaction, campaign_id: str, stage: int, **more: int) -> None:
    values = {f"more_{name}": more.get(name, 0) for name in _COUNTERS}
    tx.run(_ADD, key=campaign_id, here=stage, **values)


def _stop(tx: Transaction, campaign_id: str, at: datetime, reason: str) -> None:
    for _, stage, queued, *_ in tx.rows(_COUNTED, key=campaign_id):
        _count(tx, campaign_id, stage, queued=-queued, skipped=queued)
    tx.run(_SKIP_REST, key=campaign_id)
    for row in tx.rows(_OPEN_JOBS, key=campaign_id):
        job = job_from(row)
        state = after(job.state, JobEvent.CANCELLED)
        if state is not None:
            ended = replace(job, state=state, send_at=None, code="campaign-aborted", detail=reason, ended_at=at)
            change_job(tx, job, ended)


# -- what servers do


def step(tx: Transaction, decide: Decide, at: datetime) -> int | None:
    row = tx.row(_TAKE, now=to_us(at))
    if row is None:
        return None
    campaign = _campaign_from(row)
    tx.run(_LOOKED, key=campaign.campaign_id, now=to_us(at))
    _settle(tx, campaign.campaign_id)
    ((started,),) = tx.rows(_STARTED, key=campaign.campaign_id, since=to_us(at - _MINUTE))
    decision = decide(Facts(campaign, counts(tx, campaign.campaign_id), int(started)))
    if decision.event is not None:
        _happen(tx, campaign, decision.event, "", at, decision.reason)
        return 1
    if decision.open_next:
        if campaign.strategy.late_joiners:
            _join(tx, campaign, at)
        _write(
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
        place += _add_member(tx, campaign.campaign_id, device_id, campaign.stage + 1, place)
    _count(tx, campaign.campaign_id, campaign.stage + 1, queued=place - begun)


def _add_member(tx: Transaction, campaign_id: str, device_id: str, stage: int, place: int) -> int:
    """Return 1, or 0 where the device is a member already."""
    return tx.run(
        _INSERT_MEMBER,
        campaign_id=campaign_id,
        device_id=device_id,
        stage=stage,
        place=place,
        job_id="",
        attempts=0,
        skipped="",
        standing=_QUEUED,
    )


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
        standing = _SKIPPED if why else _RUNNING
        tx.run(_TOLD, key=campaign.campaign_id, device=device_id, job=job_id, why=why, standing=standing)
        skipped += bool(why)
    _count(tx, campaign.campaign_id, campaign.stage, queued=-len(turn), skipped=skipped)
    return len(turn)


def claim_check(tx: Transaction, at: datetime, lease: timedelta) -> Campaign | None:
    for row in tx.rows(_CHECKS, now=to_us(at)):
        campaign = _campaign_from(row)
        if campaign.strategy.hold is Hold.CHECK:
            tx.run(_CHECKED, key=campaign.campaign_id, then=to_us(at + lease))
            return campaign
    return None


# -- rows


def _found(row: Row | None, campaign_id: str) -> Campaign:
    if row is None:
        raise UnknownCampaign(f"no campaign {campaign_id!r}")
    return _campaign_from(row)


def _campaign_from(row: Row) -> Campaign:
    return Campaign(
        campaign_id=row[0],
        state=CampaignState(row[1]),
        selector=_SELECTOR.validate_json(row[2]),
        strategy=_STRATEGY.validate_json(row[3]),
        created_by=row[4],
        created_at=from_us(row[5]),
        stage=row[6],
        approved=row[7],
        opened_at=from_us_or_none(row[8]),
        rollout_at=from_us_or_none(row[9]),
        ended_at=from_us_or_none(row[10]),
        reason=row[11],
        revision=row[12],
    )


def _changing(campaign: Campaign) -> dict[str, Value]:
    return {
        "state": campaign.state.value,
        "stage": campaign.stage,
        "approved": campaign.approved,
        "opened_at_us": to_us_or_none(campaign.opened_at),
        "rollout_at_us": to_us_or_none(campaign.rollout_at),
        "ended_at_us": to_us_or_none(campaign.ended_at),
        "reason": campaign.reason,
        "revision": campaign.revision,
    }


def _write(tx: Transaction, campaign: Campaign) -> None:
    tx.run(_CHANGE, key=campaign.campaign_id, **_changing(campaign))


def _note(tx: Transaction, campaign: Campaign, event: CampaignEvent, *, by: str, at: datetime) -> None:
    tx.run(
        _INSERT_EVENT,
        campaign_id=campaign.campaign_id,
        revision=campaign.revision,
        at_us=to_us(at),
        event=event.value,
        happened_by=by,
        reason=campaign.reason,
    )
