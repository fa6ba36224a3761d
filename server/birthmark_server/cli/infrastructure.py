"""Certificates of the installation's own: servers, broker, stations, operators; each with a key made here.

The record is in the database before a file is written: a certificate that nobody remembers could not be revoked.
"""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from birthmark_server.ca import files
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.names import RESERVED
from birthmark_server.ca.record import to_record
from birthmark_server.ca.requests import InfraRequest
from birthmark_server.domain import CertificateProfile
from birthmark_server.roles import PROFILE_OF
from birthmark_server.store.protocol import Store

ROLES: Final = (
    CertificateProfile.SERVER,
    CertificateProfile.BROKER,
    CertificateProfile.CONTROL,
    CertificateProfile.COMMAND,
    CertificateProfile.STATION,
    *PROFILE_OF.values(),
    CertificateProfile.DENY_LIST,
)


@dataclass(frozen=True, slots=True)
class Issued:
    """A key and its certificate with what follows it on the wire, all in memory still.

    above: the Infra CA's certificate, then the links from older roots, as `Authority.chain_for` gives them.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...]

    @property
    def chain_pem(self) -> bytes:
        """The certificate, then what is above it."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in (self.certificate, *self.above))

    @property
    def key_pem(self) -> bytes:
        """The key, PKCS #8, in the clear: the file's mode is its protection."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def pkcs12(self, name: str) -> tuple[bytes, str]:
        """Return a PKCS #12 file for a browser, and its new passphrase: 96 random bits."""
        passphrase = base64.b32encode(os.urandom(15)).decode().lower()[:20]
        data = pkcs12.serialize_key_and_certificates(
            name.encode(), self.key, self.certificate, self.above, BestAvailableEncryption(passphrase.encode())
        )
        return data, passphrase


def issue_infrastructure(
    authority: Authority,
    store: Store,
    *,
    profile: CertificateProfile,
    name: str,
    hosts: Sequence[str] = (),
    by: str,
    now: datetime,
) -> Issued:
    """Make a P-256 key, have the Infra CA certify it, and put the certificate on record.

    name: without the `srv-` that the names of the server's own begin with (names.RESERVED); it is put there. hosts: DNS
    names and IP addresses, for server and broker only. by: who has it issued. Raises ProfileViolation for names that
    the installation may not certify.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    request = InfraRequest(
        profile=profile,
        public_key=key.public_key(),
        name=f"srv-{name.removeprefix('srv-')}" if profile in RESERVED else name,
        dns_names=tuple(host for host in hosts if not _is_address(host)),
        ip_addresses=tuple(ip_address(host) for host in hosts if _is_address(host)),
    )
    infra = authority.infra
    certificate = infra.issue(infra.prepare(request, now=now))
    record = to_record(certificate, issuer=infra, profile=profile, issued_at=now)
    store.add_infrastructure_certificate(record, by=by)
    above = tuple(map(x509.load_der_x509_certificate, authority.chain_for(infra)))
    return Issued(key, certificate, above)


def write_pair(issued: Issued, certificate: Path, key: Path) -> None:
    """Write certificate (with what follows it) and key as two PEM files, as servers want them; never over others."""
    files.write_new(key, issued.key_pem, mode=0o600)
    files.write_new(certificate, issued.chain_pem)


def write_person(issued: Issued, folder: Path, name: str) -> str:
    """Write NAME.pem (certificate and key, for `--operator`) and NAME.p12 (for a browser); return its passphrase."""
    files.make_folder(folder)
    data, passphrase = issued.pkcs12(name)
    files.write_new(folder / f"{name}.p12", data, mode=0o600)
    files.write_new(folder / f"{name}.pem", issued.chain_pem + issued.key_pem, mode=0o600)
    return passphrase


def host_name(host: str) -> x509.GeneralName:
    """Return what a person typed as the name that a certificate will hold: an IP address, or a DNS name."""
    return x509.IPAddress(ip_address(host)) if _is_address(host) else x509.DNSName(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
