"""Who is an operator: certificates of the Infra CA, one policy for each role (ADR 0026)."""

from collections.abc import Iterator
from datetime import datetime

from birthmark_server.ca.authority import Authority
from birthmark_server.ca.record import common_name
from birthmark_server.domain import CertificateRecord, RevocationReason
from birthmark_server.roles import OPERATOR_PROFILES, PROFILE_OF, ROLE_OF
from birthmark_server.store.errors import UnknownOperator
from birthmark_server.store.protocol import Store
from birthmark_server.web.api import bodies, views
from birthmark_server.web.api.requests import certify_request


def all_operators(store: Store) -> list[views.OperatorView]:
    """Return every operator's certificate, whether it stands or not."""
    return [_view(record) for record in _records(store)]


def certify(
    authority: Authority, store: Store, operator: bodies.NewOperator, *, by: str, now: datetime
) -> views.IssuedOperator:
    """As certify_request(), with the role's profile: ProfileViolation too where the Infra CA is from before roles."""
    certified = certify_request(
        authority, store, operator.csr, profile=PROFILE_OF[operator.role], name=operator.name, by=by, now=now
    )
    return views.IssuedOperator(operator=_view(certified.record), chain=certified.chain_pem.decode())


def revoke(store: Store, name: str, *, reason: RevocationReason, by: str, now: datetime) -> views.OperatorCut:
    """Revoke every certificate of this name. Raise UnknownOperator if none stands."""
    standing = [
        record for record in _records(store) if common_name(record.subject) == name and record.revoked_at is None
    ]
    if not standing:
        raise UnknownOperator(f"no operator {name!r} has a certificate that stands")
    for record in standing:
        store.revoke_certificate(record.sha256, reason=reason, at=now, by=by)
    return views.OperatorCut(name=name, certificates=len(standing), by=by)


def _records(store: Store) -> Iterator[CertificateRecord]:
    for profile in OPERATOR_PROFILES:
        after = ""
        while page := store.list_certificates(profile=profile.value, after=after, limit=500):
            yield from page
            after = page[-1].sha256


def _view(record: CertificateRecord) -> views.OperatorView:
    return views.OperatorView(
        name=common_name(record.subject),
        role=ROLE_OF[record.profile],
        sha256=record.sha256,
        serial_number=record.serial_number,
        not_before=record.not_before,
        not_after=record.not_after,
        issued_at=record.issued_at,
        issued_by=record.issued_by,
        revoked_at=record.revoked_at,
        reason=record.reason,
        revoked_by=record.revoked_by,
    )
