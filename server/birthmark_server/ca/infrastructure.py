"""Certificates of the installation's own: server, broker, control, stations, operators.

Keys of services stay in the clear, mode 0600: a broker restarts without anybody there, and such a certificate is
revoked and made again in a minute. An operator's key travels to a browser, so it is a PKCS #12 under a passphrase.
Every certificate comes with its record for the store: one that is not on record opens no door.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from birthmark_server.ca import files
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.errors import CeremonyRefused, KeyUnusable
from birthmark_server.ca.record import to_record
from birthmark_server.ca.requests import InfraRequest
from birthmark_server.domain import CertificateProfile, CertificateRecord

_P12_ROUNDS: Final = 600_000


@dataclass(frozen=True, slots=True)
class InfraIssued:
    """One service's certificate. certificate: a PEM file, leaf and issuing CA. key: a PEM file, mode 0600."""

    certificate: Path
    key: Path
    record: CertificateRecord


@dataclass(frozen=True, slots=True)
class OperatorIssued:
    """One operator's certificate and key in a PKCS #12 file; passphrase: what opens it, given or made here."""

    bundle: Path
    passphrase: str
    record: CertificateRecord


def issue_infrastructure(
    *,
    authority: Authority,
    out: Path,
    profile: CertificateProfile,
    name: str,
    now: datetime,
    dns_names: tuple[str, ...] = (),
    ip_addresses: tuple[IPv4Address | IPv6Address, ...] = (),
    lifetime: timedelta | None = None,
) -> InfraIssued:
    """Issue to a service: `out/NAME.key` is made if it is not there, `out/NAME.pem` is written anew.

    So the same call renews: the key stays, the certificate is replaced in one step. Raises ProfileViolation.
    """
    files.make_folder(out)
    key = _service_key(out / f"{name}.key")
    request = InfraRequest(profile, key.public_key(), name, dns_names, ip_addresses)
    certificate, record = _issue(authority, request, now=now, lifetime=lifetime)
    path = out / f"{name}.pem"
    files.replace(path, _pem(certificate) + _pem(authority.infra.certificate))
    return InfraIssued(path, out / f"{name}.key", record)


def issue_operator(
    *,
    authority: Authority,
    out: Path,
    name: str,
    now: datetime,
    passphrase: str = "",
    lifetime: timedelta | None = None,
) -> OperatorIssued:
    """Issue to a person, as `out/NAME.p12` for a browser. passphrase: empty to have one made.

    Raises CeremonyRefused if the file is there, before anything is issued; ProfileViolation.
    """
    files.make_folder(out)
    path = out / f"{name}.p12"
    if path.exists():
        raise CeremonyRefused(f"{path} is there already; nothing was overwritten")
    key = ec.generate_private_key(ec.SECP256R1())
    request = InfraRequest(CertificateProfile.OPERATOR, key.public_key(), name)
    certificate, record = _issue(authority, request, now=now, lifetime=lifetime)
    passphrase = passphrase or secrets.token_urlsafe(18)
    protection = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_P12_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(passphrase.encode())
    )
    chain = [authority.infra.certificate, authority.root]
    bundle = pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, chain, protection)
    files.write_new(path, bundle, mode=0o600)
    return OperatorIssued(path, passphrase, record)


def _issue(
    authority: Authority, request: InfraRequest, *, now: datetime, lifetime: timedelta | None
) -> tuple[x509.Certificate, CertificateRecord]:
    issuer = authority.infra
    certificate = issuer.issue(issuer.prepare(request, now=now, lifetime=lifetime))
    return certificate, to_record(certificate, issuer=issuer, profile=request.profile, issued_at=now)


def _service_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.exists():
        try:
            key = load_pem_private_key(files.read_private(path), None)
        except (ValueError, TypeError) as error:
            raise KeyUnusable(f"{path}: want an unencrypted key in PEM: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise KeyUnusable(f"{path}: want an elliptic curve key")
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    files.write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
