"""Authorities, the acts that move them, and the trust bundles that come of it. See store/authority_protocol.py."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, func, select

from birthmark_server.authorities import (
    AuthorityAct,
    AuthorityHappening,
    AuthorityState,
    BundleRecord,
    KnownAuthority,
    Leaf,
)
from birthmark_server.ca.profile import CaKind
from birthmark_server.domain import CertificateProfile
from birthmark_server.store.authority_protocol import Decide, Decision
from birthmark_server.store.authority_tables import Authorities, AuthorityActs, DeviceTrust, TrustBundles
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import LeavesStand
from birthmark_server.store.rows import from_us, to_us
from birthmark_server.store.sql.certificates import CERTIFICATES
from birthmark_server.store.statement import Row, Statement, Value, insert_all
from birthmark_server.store.tables import table_of
from birthmark_wire.trust import TrustBundle, most_version

_AUTHORITIES: Final = table_of(Authorities)
_ACTS: Final = table_of(AuthorityActs)
_BUNDLES: Final = table_of(TrustBundles)
_DEVICES: Final = table_of(DeviceTrust)

_ONE_ACT_AT_A_TIME: Final = "authorities"
_LIST: Final = Statement(select(_AUTHORITIES).order_by(_AUTHORITIES.c.name))
_PUT: Final = Statement(
    lambda insert: (new := insert(_AUTHORITIES)).on_conflict_do_update(
        index_elements=[_AUTHORITIES.c.name],
        set_={column.name: new.excluded[column.name] for column in _AUTHORITIES.columns if column.name != "name"},
        where=_AUTHORITIES.c.revision < new.excluded.revision,
    ),
    columns=[column.name for column in _AUTHORITIES.columns],
)
_REVISION: Final = Statement(select(func.coalesce(func.max(_ACTS.c.revision), 0)))
_INSERT_ACT: Final = insert_all(_ACTS)
_HAPPENINGS: Final = Statement(select(_ACTS).order_by(_ACTS.c.revision.desc()).limit(bindparam("most")))
_INSERT_BUNDLE: Final = insert_all(_BUNDLES)
_LATEST: Final = Statement(select(_BUNDLES).order_by(_BUNDLES.c.version.desc()).limit(1))
_HIGHEST: Final = Statement(
    select(func.coalesce(func.max(_DEVICES.c.version), 0)).where(_DEVICES.c.version <= bindparam("most"))
)
_STANDING: Final = (
    CERTIFICATES.c.issuer_sha256 == bindparam("issuer"),
    CERTIFICATES.c.revoked_at_us.is_(None),
    CERTIFICATES.c.not_after_us >= bindparam("now"),
    # Its own OCSP signer speaks of the others, even when they are no more, and is renewed each day: one always stands.
    CERTIFICATES.c.profile != CertificateProfile.OCSP.value,
)
_COUNT_LEAVES: Final = Statement(select(func.count()).select_from(CERTIFICATES).where(*_STANDING))
_LEAVES: Final = Statement(
    select(
        CERTIFICATES.c.sha256,
        CERTIFICATES.c.profile,
        func.coalesce(CERTIFICATES.c.device_id, CERTIFICATES.c.subject),
        CERTIFICATES.c.not_after_us,
    )
    .where(*_STANDING, CERTIFICATES.c.sha256 > bindparam("after"))
    .order_by(CERTIFICATES.c.sha256)
    .limit(bindparam("most"))
)


def found(tx: Transaction, authorities: Sequence[KnownAuthority], at: datetime, by: str) -> bool:
    tx.lock_name(_ONE_ACT_AT_A_TIME)
    if list_authorities(tx) or revision(tx):
        return False
    act = AuthorityHappening(1, AuthorityAct.FOUND, "", at, by, 0)
    for one in authorities:
        _write(tx, replace(one, revision=1, changed_at=at, changed_by=by))
    _write_act(tx, act)
    return True


def list_authorities(tx: Transaction) -> list[KnownAuthority]:
    return [_authority_from(row) for row in tx.rows(_LIST)]


def revision(tx: Transaction) -> int:
    ((number,),) = tx.rows(_REVISION)
    return int(number)


def happenings(tx: Transaction, limit: int) -> list[AuthorityHappening]:
    return [_act_from(row) for row in tx.rows(_HAPPENINGS, most=limit)]


def act(tx: Transaction, decide: Decide, at: datetime, by: str, without_leaves: str) -> AuthorityHappening:
    if without_leaves:
        tx.lock_fleet()
    tx.lock_name(_ONE_ACT_AT_A_TIME)
    latest = latest_bundle(tx)
    following = max(latest.version if latest else 0, _highest(tx, at)) + 1
    decision = decide(list_authorities(tx), following)
    if without_leaves and (left := count_leaves(tx, without_leaves, at)):
        raise LeavesStand(f"certificates of {decision.name} that stand, neither expired nor revoked: {left}")
    version = _give_out(tx, decision, latest, following, at)
    done = AuthorityHappening(
        revision=revision(tx) + 1,
        act=decision.act,
        name=decision.name,
        at=at,
        by=by,
        version=version,
        quorum=decision.quorum,
        missing=decision.missing,
        forced=decision.forced,
    )
    for one in decision.changed:
        _write(tx, replace(one, revision=done.revision, changed_at=at, changed_by=by))
    _write_act(tx, done)
    return done


def _highest(tx: Transaction, at: datetime) -> int:
    """The highest version that any device says it has: a restored database may not know all that it gave out. What none
    can be is a lie, and would leave no version for the bundles to come."""
    ((version,),) = tx.rows(_HIGHEST, most=most_version(at))
    return int(version)


def _give_out(tx: Transaction, decision: Decision, latest: BundleRecord | None, following: int, at: datetime) -> int:
    """Write the next bundle, if it says anything new; return the version in force."""
    last = TrustBundle.decode(latest.payload) if latest else None
    new = decision.bundle
    if new is None or (last and (last.roots, last.links, last.issuers) == (new.roots, new.links, new.issuers)):
        return latest.version if latest else 0
    payload = replace(new, version=following, issued_at=at.replace(microsecond=0)).encode()
    record = BundleRecord(following, payload, at)
    put_bundle(tx, record)
    tx.tell(record)
    return following


def latest_bundle(tx: Transaction) -> BundleRecord | None:
    row = tx.row(_LATEST)
    return None if row is None else BundleRecord(row[0], bytes(row[1]), from_us(row[2]))


def count_leaves(tx: Transaction, issuer_sha256: str, at: datetime) -> int:
    ((number,),) = tx.rows(_COUNT_LEAVES, issuer=issuer_sha256, now=to_us(at))
    return int(number)


def page_leaves(tx: Transaction, issuer_sha256: str, at: datetime, after: str, limit: int) -> list[Leaf]:
    found = tx.rows(_LEAVES, issuer=issuer_sha256, now=to_us(at), after=after, most=limit)
    return [Leaf(sha256, profile, subject, from_us(ends)) for sha256, profile, subject, ends in found]


# -- replay: what is there stays, of two tellings of one authority the later one holds


def put_authority(tx: Transaction, authority: KnownAuthority) -> bool:
    return tx.run(_PUT, **_authority_values(authority)) == 1


def put_act(tx: Transaction, done: AuthorityHappening) -> bool:
    return tx.run(_INSERT_ACT, **_act_values(done)) == 1


def put_bundle(tx: Transaction, record: BundleRecord) -> bool:
    return tx.run(_INSERT_BUNDLE, version=record.version, payload=record.payload, made_at_us=to_us(record.made_at)) == 1


def _write(tx: Transaction, authority: KnownAuthority) -> None:
    put_authority(tx, authority)
    tx.tell(authority)


def _write_act(tx: Transaction, done: AuthorityHappening) -> None:
    put_act(tx, done)
    tx.tell(done)


def _authority_values(one: KnownAuthority) -> dict[str, Value]:
    return {
        "name": one.name,
        "kind": one.ca_kind.value,
        "sha256": one.sha256,
        "root_sha256": one.root_sha256,
        "certificate": one.certificate,
        "state": one.state.value,
        "since": one.since,
        "revision": one.revision,
        "changed_at_us": to_us(one.changed_at),
        "changed_by": one.changed_by,
    }


def _authority_from(row: Row) -> KnownAuthority:
    name, kind, sha256, root, certificate, state, since, number, changed_at, changed_by = row
    return KnownAuthority(
        name=name,
        ca_kind=CaKind(kind),
        sha256=sha256,
        root_sha256=root,
        certificate=bytes(certificate),
        state=AuthorityState(state),
        since=since,
        revision=number,
        changed_at=from_us(changed_at),
        changed_by=changed_by,
    )


def _act_values(one: AuthorityHappening) -> dict[str, Value]:
    return {
        "revision": one.revision,
        "act": one.act.value,
        "name": one.name,
        "at_us": to_us(one.at),
        "acted_by": one.by,
        "version": one.version,
        "quorum": one.quorum,
        "missing": one.missing,
        "forced": one.forced,
    }


def _act_from(row: Row) -> AuthorityHappening:
    number, act_, name, at, by, version, quorum, missing, forced = row
    return AuthorityHappening(
        number, AuthorityAct(act_), name, from_us(at), by, version, float(quorum), missing, bool(forced)
    )
