"""Certificates of the Infra CA for keys that were made elsewhere: an operator's, a station's.

A certificate is on record before it is given away: one that nobody remembers could not be revoked.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca.authority import Authority
from birthmark_server.ca.record import to_record
from birthmark_server.ca.requests import InfraRequest
from birthmark_server.domain import CertificateProfile, CertificateRecord
from birthmark_server.errors import Malformed
from birthmark_server.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Certified:
    """What was issued. record: as it is kept. chain_pem: the certificate, then what is above it."""

    record: CertificateRecord
    chain_pem: bytes


def certify_request(
    authority: Authority, store: Store, csr: str, *, profile: CertificateProfile, name: str, by: str, now: datetime
) -> Certified:
    """Have the Infra CA certify the key of a request (PKCS #10 in PEM), and put the certificate on record.

    Raises Malformed for a request that is none, or is not signed by its own key; ProfileViolation for a key or a name
    that no certificate may have. Nothing else of the request is believed.
    """
    try:
        request = x509.load_pem_x509_csr(csr.encode("ascii"))
        proven, key = request.is_signature_valid, request.public_key()
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise Malformed(f"want a PKCS #10 request in PEM: {error}") from None
    if not proven:
        raise Malformed("the request is not signed by the key that is in it")
    infra = authority.infra
    certificate = infra.issue(infra.prepare(InfraRequest(profile=profile, public_key=key, name=name), now=now))
    record = to_record(certificate, issuer=infra, profile=profile, issued_at=now)
    store.add_infrastructure_certificate(record, by=by)
    known = store.certificate_by_sha256(record.sha256)
    chain = certificate.public_bytes(Encoding.PEM) + authority.chain_pem(infra)
    return Certified(known[0] if known else record, chain)
