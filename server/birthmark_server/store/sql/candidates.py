"""Which devices a campaign's selector matches, and what speaks against each."""

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, bindparam, func, or_, select

from birthmark_server.campaigns import Candidate, Selector
from birthmark_server.domain import CertificateProfile, DeviceState
from birthmark_server.store.database import Transaction
from birthmark_server.store.rows import from_us_or_none, to_us
from birthmark_server.store.sql.certificates import CERTIFICATES
from birthmark_server.store.sql.devices import DEVICES
from birthmark_server.store.sql.jobs import JOBS
from birthmark_server.store.statement import Statement, Value

_OPERATIONAL: Final = or_(
    CERTIFICATES.c.profile == CertificateProfile.LDEVID.value,
    CERTIFICATES.c.profile == CertificateProfile.LDEVID_SOFTWARE.value,
)
_STANDING: Final = and_(_OPERATIONAL, CERTIFICATES.c.revoked_at_us.is_(None))


def candidates(tx: Transaction, selector: Selector, at: datetime) -> list[Candidate]:
    """See CampaignStore. expiring_before, issued_by: of the newest operational certificate that stands."""
    newest = (
        select(
            CERTIFICATES.c.device_id,
            CERTIFICATES.c.not_after_us,
            CERTIFICATES.c.issuer_sha256,
            func.row_number()
            .over(
                partition_by=CERTIFICATES.c.device_id,
                order_by=(CERTIFICATES.c.issued_at_us.desc(), CERTIFICATES.c.sha256),
            )
            .label("rank"),
        )
        .where(_STANDING, CERTIFICATES.c.not_after_us > bindparam("now"))
        .subquery()
    )
    ever = (
        select(CERTIFICATES.c.device_id, func.count().label("number"))
        .where(_OPERATIONAL)
        .group_by(CERTIFICATES.c.device_id)
        .subquery()
    )
    wanted: list[ColumnElement[bool]] = []
    values: dict[str, Value] = {"now": to_us(at)}

    def want(condition: ColumnElement[bool], name: str, value: Value) -> None:
        wanted.append(condition)
        values[name] = value

    if selector.model:
        want(DEVICES.c.model == bindparam("model"), "model", selector.model)
    if selector.batch:
        want(DEVICES.c.batch == bindparam("batch"), "batch", selector.batch)
    if selector.issued_by:
        want(newest.c.issuer_sha256 == bindparam("issuer"), "issuer", selector.issued_by)
    if selector.expiring_before is not None:
        want(newest.c.not_after_us < bindparam("until"), "until", to_us(selector.expiring_before))
    if selector.never_rotated:
        wanted.append(ever.c.number == 1)
    statement = Statement(
        select(
            DEVICES.c.device_id,
            DEVICES.c.state,
            DEVICES.c.last_seen_at_us,
            newest.c.not_after_us,
            JOBS.c.campaign_id,
            JOBS.c.job_id,
        )
        .select_from(
            DEVICES.outerjoin(newest, and_(newest.c.device_id == DEVICES.c.device_id, newest.c.rank == 1))
            .outerjoin(ever, ever.c.device_id == DEVICES.c.device_id)
            .outerjoin(JOBS, and_(JOBS.c.device_id == DEVICES.c.device_id, JOBS.c.ended_at_us.is_(None)))
        )
        .where(*wanted)
        .order_by(DEVICES.c.device_id)
    )
    named = set(selector.device_ids)
    return [
        Candidate(
            device_id=device_id,
            active=state == DeviceState.ACTIVE.value,
            last_seen_at=from_us_or_none(seen),
            not_after=from_us_or_none(until),
            busy_with=f"campaign {campaign}" if campaign else f"job {job}" if job else "",
        )
        for device_id, state, seen, until, campaign, job in tx.rows(statement, **values)
        if not named or device_id in named
    ]
