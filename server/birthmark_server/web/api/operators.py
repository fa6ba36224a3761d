"""Who is an operator: certificates of the Infra CA, one policy for each role (ADR 0026).

A certificate is on record before it is given away: one that nobody remembers could not be revoked.
"""

from collections.abc import Iterator
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca.authority import Authority
from birthmark_server.ca.record import common_name, to_record
from birthmark_server.ca.requests import InfraRequest
from birthmark_server.domain import CertificateRecord, RevocationReason
from birthmark_server.errors import Malformed
from birthmark_server.roles import OPERATOR_PROFILES, PROFILE_OF, ROLE_OF
from birthmark_server.store.errors import UnknownOperator
from birthmark_server.store.protocol import Store
from birthmark_server.web.api import bodies, views


def all_operators(store: Store) -> list[views.OperatorView]:
    """Return every operator's certificate, whether it stands or not."""
    return [_view(record) for record in _records(store)]


def certify(
    authority: Authority, store: Store, operator: bodies.NewOperator, *, by: str, now: datetime
) -> views.IssuedOperator:
    """Have the Infra CA certify the key of a request, and put the certificate on record.

    Raises Malformed for a request that is none, or is not signed by its own key; ProfileViolation for a key or a name
    that no certificate may have, and where the Infra CA is from before there were roles. Nothing else of the request is
    believed.
    """
    try:
        request = x509.load_pem_x509_csr(operator.csr.encode("ascii"))
        proven, key = request.is_signature_valid, request.public_key()
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise Malformed(f"want a PKCS #10 request in PEM: {error}") from None
    if not proven:
        raise Malformed("the request is not signed by the key that is in it")
    profile = PROFILE_OF[operator.role]
    asked = InfraRequest(profile=profile, public_key=key, name=operator.name)
    infra = authority.infra
    certificate = infra.issue(infra.prepare(asked, now=now))
    record = to_record(certificate, issuer=infra, profile=profile, issued_at=now)
    store.add_infrastructure_certificate(record, by=by)
    chain = certificate.public_bytes(Encoding.PEM) + authority.chain_pem(infra)
    known = store.certificate_by_sha256(record.sha256)
    return views.IssuedOperator(operator=_view(known[0] if known else record), chain=chain.decode())


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
