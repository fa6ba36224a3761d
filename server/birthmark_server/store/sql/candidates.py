"""Which devices a campaign's selector matches, and what speaks against each."""

from datetime import datetime

from sqlalchemy import and_, select

from birthmark_server.campaigns import Candidate
from birthmark_server.domain import DeviceState
from birthmark_server.fleet import Selector
from birthmark_server.store.database import Transaction
from birthmark_server.store.rows import from_us, from_us_or_none, to_us
from birthmark_server.store.sql.devices import DEVICES
from birthmark_server.store.sql.jobs import JOBS
from birthmark_server.store.sql.selection import ENDS, conditions
from birthmark_server.store.statement import Statement


def candidates(tx: Transaction, selector: Selector, at: datetime) -> list[Candidate]:
    """See CampaignStore."""
    open_job = and_(JOBS.c.device_id == DEVICES.c.device_id, JOBS.c.ended_at_us.is_(None))
    statement = Statement(
        select(
            DEVICES.c.device_id,
            DEVICES.c.state,
            DEVICES.c.last_seen_at_us,
            ENDS.label("ends"),
            JOBS.c.campaign_id,
            JOBS.c.job_id,
        )
        .select_from(DEVICES.outerjoin(JOBS, open_job))
        .where(*conditions(selector))
        .order_by(DEVICES.c.device_id)
    )
    now = to_us(at)
    return [
        Candidate(
            device_id=device_id,
            active=state == DeviceState.ACTIVE.value,
            last_seen_at=from_us_or_none(seen),
            not_after=None if ends is None or ends <= now else from_us(ends),
            busy_with=f"campaign {campaign}" if campaign else f"job {job}" if job else "",
        )
        for device_id, state, seen, ends, campaign, job in tx.rows(statement)
    ]
