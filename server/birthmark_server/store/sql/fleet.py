"""Selecting devices, and what is known of them beside their records: certificate in use, tags, agent."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import bindparam, case, delete, func, select

from birthmark_server.domain import Device, DeviceState
from birthmark_server.fleet import MOST_TAGS, DaysLeft, DeviceFacts, DeviceFilter, OperationalCertificate
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import TooManyTags
from birthmark_server.store.fleet_tables import AgentReports
from birthmark_server.store.rows import device_from, from_us, to_us
from birthmark_server.store.sql.certificates import CERTIFICATES
from birthmark_server.store.sql.devices import DEVICE_COLUMNS, DEVICES, lock_device
from birthmark_server.store.sql.selection import ENDS, OPERATIONAL, TAGS, conditions
from birthmark_server.store.statement import LookUp, Statement, insert_all, keys, one_of
from birthmark_server.store.tables import table_of

_AGENTS: Final = table_of(AgentReports)

_CERTIFICATES_OF: Final = LookUp(
    lambda number: (
        select(
            CERTIFICATES.c.device_id,
            CERTIFICATES.c.sha256,
            CERTIFICATES.c.issuer_sha256,
            CERTIFICATES.c.serial_number,
            CERTIFICATES.c.not_before_us,
            CERTIFICATES.c.not_after_us,
        )
        .where(one_of(CERTIFICATES.c.device_id, number), OPERATIONAL, CERTIFICATES.c.revoked_at_us.is_(None))
        .order_by(CERTIFICATES.c.device_id, CERTIFICATES.c.not_after_us, CERTIFICATES.c.issued_at_us)
    )
)
_TAGS_OF: Final = LookUp(
    lambda number: select(TAGS).where(one_of(TAGS.c.device_id, number)).order_by(TAGS.c.device_id, TAGS.c.tag)
)
_AGENTS_OF: Final = LookUp(lambda number: select(_AGENTS).where(one_of(_AGENTS.c.device_id, number)))
_ADD_TAG: Final = insert_all(TAGS)
_DROP_TAG: Final = Statement(
    delete(TAGS).where(TAGS.c.device_id == bindparam("device"), TAGS.c.tag == bindparam("word"))
)
_KNOWN: Final = Statement(select(DEVICES.c.device_id).where(DEVICES.c.device_id == bindparam("device")))
_NOTE_AGENT: Final = Statement(
    lambda insert: (
        insert(_AGENTS)
        .values(device_id=bindparam("device"), agent=bindparam("words"), heard_at_us=bindparam("now"))
        .on_conflict_do_update(
            index_elements=[_AGENTS.c.device_id],
            set_={"agent": bindparam("words"), "heard_at_us": bindparam("now")},
            where=_AGENTS.c.heard_at_us < bindparam("now"),
        )
    )
)


def select_devices(tx: Transaction, filters: Sequence[DeviceFilter], after: str, limit: int) -> list[Device]:
    page = (
        select(*DEVICE_COLUMNS)
        .where(DEVICES.c.device_id > after, *conditions(filters))
        .order_by(DEVICES.c.device_id)
        .limit(limit)
    )
    return [device_from(row) for row in tx.rows(Statement(page))]


def device_facts(tx: Transaction, device_ids: Sequence[str]) -> dict[str, DeviceFacts]:
    named = keys(device_ids)
    tags: dict[str, tuple[str, ...]] = {}
    for device_id, word in tx.rows(_TAGS_OF.of(device_ids), **named):
        tags[device_id] = (*tags.get(device_id, ()), word)
    in_use = {
        device_id: OperationalCertificate(sha256, issuer, serial, from_us(begins), from_us(ends))
        for device_id, sha256, issuer, serial, begins, ends in tx.rows(_CERTIFICATES_OF.of(device_ids), **named)
    }  # the last of each device stays: the one that ends last
    agents = {device_id: (agent, from_us(at)) for device_id, agent, at in tx.rows(_AGENTS_OF.of(device_ids), **named)}
    return {
        each: DeviceFacts(tags.get(each, ()), in_use.get(each), *agents.get(each, ("", None))) for each in device_ids
    }


def count_days_left(tx: Transaction, days: Sequence[int], at: datetime) -> DaysLeft:
    ends = select(ENDS.label("ends")).where(DEVICES.c.state == DeviceState.ACTIVE.value).subquery()
    classes = [(ends.c.ends <= to_us(at + timedelta(days=limit)), place) for place, limit in enumerate(days)]
    place_of = case((ends.c.ends.is_(None), -1), *classes, else_=len(days)).label("place")
    places = select(place_of).subquery()
    counted = select(places.c.place, func.count()).group_by(places.c.place)
    found = {int(place): int(number) for place, number in tx.rows(Statement(counted))}
    return DaysLeft(tuple(found.get(place, 0) for place in range(len(days) + 1)), found.get(-1, 0))


def change_tags(tx: Transaction, device_id: str, add: Sequence[str], remove: Sequence[str]) -> tuple[str, ...]:
    lock_device(tx, device_id)
    for word in remove:
        tx.run(_DROP_TAG, device=device_id, word=word)
    for word in add:
        tx.run(_ADD_TAG, device_id=device_id, tag=word)
    tags = tuple(word for _, word in tx.rows(_TAGS_OF.of([device_id]), **keys([device_id])))
    if len(tags) > MOST_TAGS:
        raise TooManyTags(f"device {device_id} would have {len(tags)} tags, at most {MOST_TAGS}")
    return tags


def note_agent(tx: Transaction, device_id: str, agent: str, at: datetime) -> None:
    if tx.row(_KNOWN, device=device_id) is not None:
        tx.run(_NOTE_AGENT, device=device_id, words=agent, now=to_us(at))
