"""Who works at a station, and whether its clock can be right: by certificates, the pinned root and the record.

A station holds no CA folder: a certificate comes with its chain, and the chain must lead to the root in station.toml.
Whether it was revoked, only the server can say; it is asked where it answers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from birthmark_server.ca.errors import UntrustedCertificate
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.path import valid_policies
from birthmark_server.ca.profile import PROFILES
from birthmark_server.ca.reader import read_leaf
from birthmark_server.domain import CertificateProfile
from birthmark_server.factory.station.errors import ClockWrong, NotAtThisStation
from birthmark_server.roles import OPERATOR_PROFILES

SKEW: Final = timedelta(minutes=5)
"""How far a station's clock may be off: the server refuses entries beyond that."""
WORKS_HERE: Final = frozenset({CertificateProfile.FACTORY, CertificateProfile.SECURITY_OFFICER})
IS_STATION: Final = frozenset({CertificateProfile.STATION})
_LONGEST_PATH: Final = 5


@dataclass(frozen=True, slots=True)
class Badge:
    """A proven certificate of ours, in time and of a role that was asked for. Only `verify_badge` makes one."""

    name: str
    profile: CertificateProfile
    not_before: datetime
    not_after: datetime
    sha256: str


def verify_badge(
    chain: Sequence[x509.Certificate],
    *,
    root: x509.Certificate,
    allowed: Collection[CertificateProfile],
    now: datetime,
    whose: str,
) -> Badge:
    """Return what a certificate says. chain: it, then what stands above it. whose: as messages call it.

    Raise NotAtThisStation, or ClockWrong where it begins after today: it was issued before it was brought here.
    Proves neither that the key is at hand, nor that it was not revoked.
    """
    leaf = chain[0]
    path = _path(leaf, chain[1:], root, whose)
    if now + SKEW < leaf.not_valid_before_utc:
        raise ClockWrong(
            f"this machine's clock says {now:%Y-%m-%d %H:%M}Z, and {whose} begins at "
            f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M}Z: set the clock"
        )
    for each in path:
        if now > each.not_valid_after_utc:
            what = whose if each is leaf else f"the CA of {whose}"
            raise NotAtThisStation(
                f"{what} ended at {each.not_valid_after_utc:%Y-%m-%d %H:%M}Z: have a new one made, or set this "
                f"machine's clock, which says {now:%Y-%m-%d %H:%M}Z"
            )
    profile, name = _read(leaf, whose)
    if profile not in allowed or not valid_policies(path).issuperset(PROFILES[profile].policies):
        wanted = " or ".join(sorted(each.value for each in allowed))
        raise NotAtThisStation(f"{whose} is {name}'s, a {profile} certificate; want one for {wanted}")
    digest = sha256(leaf.public_bytes(Encoding.DER)).hexdigest()
    return Badge(name, profile, leaf.not_valid_before_utc, leaf.not_valid_after_utc, digest)


def check_clock(now: datetime, *, server_date: datetime | None, last_line: datetime | None) -> None:
    """Raise ClockWrong where this machine's clock contradicts the server's, or the record. None: nobody can say."""
    if server_date is not None and abs(now - server_date) > SKEW:
        raise ClockWrong(
            f"this machine's clock says {now:%Y-%m-%d %H:%M}Z, the server's {server_date:%Y-%m-%d %H:%M}Z: "
            "want them within 5 minutes of each other"
        )
    if last_line is not None and now + SKEW < last_line:
        raise ClockWrong(
            f"this machine's clock says {now:%Y-%m-%d %H:%M}Z, and the record's last line is of "
            f"{last_line:%Y-%m-%d %H:%M}Z: it went back; set it"
        )


def _path(
    leaf: x509.Certificate, above: Sequence[x509.Certificate], root: x509.Certificate, whose: str
) -> list[x509.Certificate]:
    """Return the path from the leaf to below the root."""
    path = [leaf]
    while len(path) <= _LONGEST_PATH:
        if _signed(path[-1], root):
            return path
        issuer = next((each for each in above if each not in path and _is_ca(each) and _signed(path[-1], each)), None)
        if issuer is None:
            break
        path.append(issuer)
    raise NotAtThisStation(f"{whose} does not lead to this installation's root; want its chain with it in the file")


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_ca(certificate: x509.Certificate) -> bool:
    values = [extension.value for extension in certificate.extensions]
    return any(isinstance(value, x509.BasicConstraints) and value.ca for value in values)


def _read(leaf: x509.Certificate, whose: str) -> tuple[CertificateProfile, str]:
    organizations = leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    organization = str(organizations[0].value) if organizations else ""
    profiles = [PROFILES[each] for each in (*OPERATOR_PROFILES, CertificateProfile.STATION)]
    try:
        return read_leaf(leaf, profiles=profiles, namespace=Namespace(organization, "station.invalid"))
    except UntrustedCertificate:
        raise NotAtThisStation(f"{whose} is no operator's and no station's certificate of this installation") from None
