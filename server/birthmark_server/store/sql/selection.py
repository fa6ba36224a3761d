"""Which devices a selector means, as conditions on a row of devices: for lists, groups and campaigns alike.

What hangs on the certificate in use (expiring before, issued by) reads one small index, ix_certificates_standing.
"""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import ColumnElement, and_, exists, func, literal, literal_column, or_, select

from birthmark_server.domain import CertificateProfile, DeviceState
from birthmark_server.fleet import OVERDUE_AT, DeviceFilter, NextAction
from birthmark_server.store.fleet_tables import DeviceTags
from birthmark_server.store.rows import to_us
from birthmark_server.store.sql.certificates import CERTIFICATES
from birthmark_server.store.sql.devices import DEVICES
from birthmark_server.store.tables import table_of

TAGS: Final = table_of(DeviceTags)
OPERATIONAL: Final = CERTIFICATES.c.profile.in_(
    [
        literal_column(f"'{profile.value}'")
        for profile in (CertificateProfile.LDEVID, CertificateProfile.LDEVID_SOFTWARE)
    ]
)
_MINE: Final = and_(CERTIFICATES.c.device_id == DEVICES.c.device_id, OPERATIONAL)
_MINE_STANDING: Final = and_(_MINE, CERTIFICATES.c.revoked_at_us.is_(None))
ENDS: Final = select(func.max(CERTIFICATES.c.not_after_us)).where(_MINE_STANDING).correlate(DEVICES).scalar_subquery()
"""When the operational certificate in use ends, revoked ones aside; NULL without one."""
_HOW_MANY: Final = select(func.count()).select_from(CERTIFICATES).where(_MINE).correlate(DEVICES).scalar_subquery()


def conditions(filters: Iterable[DeviceFilter]) -> list[ColumnElement[bool]]:
    """Return what must hold of a device that all filters match; nothing, where none says anything."""
    return [condition for each in filters for condition in _of_one(each)]


def _of_one(wanted: DeviceFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.device_ids:
        found.append(DEVICES.c.device_id.in_([literal(each) for each in wanted.device_ids]))
    if wanted.state is not None:
        found.append(DEVICES.c.state == wanted.state.value)
    if wanted.model:
        found.append(DEVICES.c.model == wanted.model)
    if wanted.batch:
        found.append(DEVICES.c.batch == wanted.batch)
    found += [
        exists().where(TAGS.c.tag == each, TAGS.c.device_id == DEVICES.c.device_id).correlate(DEVICES)
        for each in wanted.tags
    ]
    if wanted.issued_by:
        issuers = or_(*(CERTIFICATES.c.issuer_sha256 == each for each in wanted.issued_by))
        in_use = and_(_MINE_STANDING, CERTIFICATES.c.not_after_us == ENDS, issuers)
        found.append(select(CERTIFICATES.c.issuer_sha256).where(in_use).correlate(DEVICES).exists())
    if wanted.expiring_before is not None:
        found.append(to_us(wanted.expiring_before) > ENDS)
    if wanted.last_seen_before is not None:
        seen = func.coalesce(DEVICES.c.last_seen_at_us, DEVICES.c.enrolled_at_us)
        found.append(seen < to_us(wanted.last_seen_before))
    if wanted.never_rotated:
        found.append(_HOW_MANY < 2)
    if wanted.next_action is not None and wanted.at is not None:
        found.append(_comes_next(wanted.next_action, to_us(wanted.at)))
    return found


def _comes_next(action: NextAction, now: int) -> ColumnElement[bool]:
    """As web/api/health.py says it of one device. now: us."""
    active = DEVICES.c.state == DeviceState.ACTIVE.value
    match action:
        case NextAction.NONE:
            return or_(*(DEVICES.c.state == each.value for each in (DeviceState.RETIRED, DeviceState.DENIED)))
        case NextAction.READMIT:
            return DEVICES.c.state == DeviceState.REVOKED.value
        case NextAction.RESTORE:
            return DEVICES.c.state == DeviceState.QUARANTINED.value
        case NextAction.FIRST_CERTIFICATE:
            return and_(active, ENDS.is_(None))
        case NextAction.RECOVERY:
            return and_(active, now > ENDS)
    life = CERTIFICATES.c.not_after_us - CERTIFICATES.c.not_before_us
    overdue = life * OVERDUE_AT.numerator < (now - CERTIFICATES.c.not_before_us) * OVERDUE_AT.denominator
    in_use = select(CERTIFICATES.c.sha256).where(_MINE_STANDING, CERTIFICATES.c.not_after_us == ENDS, overdue)
    late = in_use.correlate(DEVICES).exists()
    return and_(active, now <= ENDS, late if action is NextAction.RENEWAL_DUE else ~late)
