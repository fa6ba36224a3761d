"""Every kind of certificate, as data: who issues it, for how long, with which extensions.

Nothing else decides what a certificate contains: issuer.py builds from these values, lint.py compares with them before
anything is signed, authority.py recognises a certificate's role by them, and docs/certificates.md lists them.
Subjects are O, then one attribute; a role is an extended key usage or a policy, never a name.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from birthmark_server.ca import oids
from birthmark_server.domain import CertificateProfile

NEVER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""GeneralizedTime 99991231235959Z: no expiration (RFC 5280 §4.1.2.5, IEEE 802.1AR §8.7)."""

BACKDATED: Final = timedelta(minutes=5)
"""How long before its issuance a certificate begins. It is used the moment it is made, and a verifier whose clock is
behind ours (the broker, a replica, a device) would refuse it; five minutes is the clock skew that Kerberos allows by
custom (RFC 4120 §8.2). Never before the issuing CA's own notBefore."""

SOFTWARE_PREFIX: Final = "sw-"
"""Ids of devices without TPM evidence begin so, and no others: the two never meet in one name."""


class CaKind(StrEnum):
    """The authorities. Each leaf profile belongs to one of the last three."""

    ROOT = "root"
    BIRTH = "birth"
    FLEET = "fleet"
    INFRA = "infra"


class AltName(Enum):
    """What the subject alternative name holds."""

    ABSENT = "none"
    HARDWARE_MODULE = "one HardwareModuleName"
    DEVICE_URI = "one URI, spiffe://TRUST-DOMAIN/device/ID"
    HOST = "DNS names and IP addresses"


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of leaf certificate. Its key usage is digitalSignature alone, its basicConstraints CA:FALSE.

    lifetime: what is issued when nothing else is asked; None means `NEVER`. most: the longest that may be asked.
    issued_by: one kind of CA, but for the OCSP signer: each issuing CA has its own (RFC 6960 §4.2.2.2). subject: the
    attribute that follows O. located: carries a CRL distribution point when the installation has a URL. checked: False
    tells verifiers not to ask whether it is revoked (id-pkix-ocsp-nocheck).
    """

    name: CertificateProfile
    issued_by: tuple[CaKind, ...]
    lifetime: timedelta | None
    most: timedelta | None
    subject: x509.ObjectIdentifier
    alt_name: AltName
    key_purposes: tuple[x509.ObjectIdentifier, ...]
    policies: tuple[x509.ObjectIdentifier, ...]
    located: bool = True
    checked: bool = True


@dataclass(frozen=True, slots=True)
class CaProfile:
    """One kind of CA certificate: keyCertSign and cRLSign, CA:TRUE. key_purposes and policies bound what is below."""

    kind: CaKind
    title: str
    lifetime: timedelta | None
    path_length: int
    key_purposes: tuple[x509.ObjectIdentifier, ...] = ()
    policies: tuple[x509.ObjectIdentifier, ...] = ()


_ROLES = (oids.CP_VIEWER, oids.CP_FACTORY, oids.CP_FLEET_OPERATOR, oids.CP_SECURITY_OFFICER)
_TPM = (oids.TCG_VERIFIED_TPM_RESIDENCY, oids.TCG_VERIFIED_TPM_FIXED)
_YEAR = timedelta(days=365)


def _host(name: CertificateProfile, purpose: x509.ObjectIdentifier) -> Profile:
    return Profile(
        name=name,
        issued_by=(CaKind.INFRA,),
        lifetime=_YEAR,
        most=_YEAR,
        subject=NameOID.COMMON_NAME,
        alt_name=AltName.HOST,
        key_purposes=(oids.SERVER_AUTH, purpose),
        policies=(oids.CP_INFRASTRUCTURE,),
    )


def _client(name: CertificateProfile, purpose: x509.ObjectIdentifier, *roles: x509.ObjectIdentifier) -> Profile:
    return Profile(
        name=name,
        issued_by=(CaKind.INFRA,),
        lifetime=_YEAR,
        most=_YEAR,
        subject=NameOID.COMMON_NAME,
        alt_name=AltName.ABSENT,
        key_purposes=(oids.CLIENT_AUTH, purpose),
        policies=(oids.CP_INFRASTRUCTURE, *roles),
    )


def _signer(name: CertificateProfile, purpose: x509.ObjectIdentifier) -> Profile:
    # No clientAuth: the key that signs for those who are absent opens no connection.
    return Profile(
        name=name,
        issued_by=(CaKind.INFRA,),
        lifetime=_YEAR,
        most=_YEAR,
        subject=NameOID.COMMON_NAME,
        alt_name=AltName.ABSENT,
        key_purposes=(purpose,),
        policies=(oids.CP_INFRASTRUCTURE,),
    )


def _operational(name: CertificateProfile, policies: tuple[x509.ObjectIdentifier, ...]) -> Profile:
    # No extended key usage here: an X.509-SVID that has one must name serverAuth too (SPIFFE X509-SVID §4.4), and a
    # device is nobody's server. The Fleet CA's own clientAuth binds instead (docs/adr/0011-device-key-purposes.md).
    return Profile(
        name=name,
        issued_by=(CaKind.FLEET,),
        lifetime=timedelta(days=30),
        most=_YEAR,
        subject=NameOID.COMMON_NAME,
        alt_name=AltName.DEVICE_URI,
        key_purposes=(),
        policies=policies,
    )


PROFILES: Final = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(
                name=CertificateProfile.IDEVID,
                issued_by=(CaKind.BIRTH,),
                lifetime=None,
                most=None,
                subject=NameOID.SERIAL_NUMBER,
                alt_name=AltName.HARDWARE_MODULE,
                key_purposes=(oids.CLIENT_AUTH,),
                policies=(*_TPM, oids.CP_IDEVID),
                located=False,  # a URL in a certificate without an end is a promise nobody can keep (docs/adr/0012)
            ),
            _operational(CertificateProfile.LDEVID, (*_TPM, oids.CP_LDEVID)),
            _operational(CertificateProfile.LDEVID_SOFTWARE, (oids.CP_LDEVID_SOFTWARE,)),
            _host(CertificateProfile.SERVER, oids.KP_SERVER),
            _host(CertificateProfile.BROKER, oids.KP_BROKER),
            _client(CertificateProfile.CONTROL, oids.KP_CONTROL),
            Profile(
                name=CertificateProfile.COMMAND,
                issued_by=(CaKind.INFRA,),
                lifetime=_YEAR,
                most=_YEAR,
                subject=NameOID.COMMON_NAME,
                alt_name=AltName.ABSENT,
                key_purposes=(oids.KP_COMMAND,),  # no clientAuth: it signs messages, and opens no door (docs/adr/0080)
                policies=(oids.CP_INFRASTRUCTURE,),
            ),
            _client(CertificateProfile.STATION, oids.KP_STATION),
            _client(CertificateProfile.OPERATOR, oids.KP_OPERATOR),
            _client(CertificateProfile.VIEWER, oids.KP_OPERATOR, oids.CP_VIEWER),
            _client(CertificateProfile.FACTORY, oids.KP_OPERATOR, oids.CP_FACTORY),
            _client(CertificateProfile.FLEET_OPERATOR, oids.KP_OPERATOR, oids.CP_FLEET_OPERATOR),
            _client(CertificateProfile.SECURITY_OFFICER, oids.KP_OPERATOR, oids.CP_SECURITY_OFFICER),
            _signer(CertificateProfile.DENY_LIST, oids.KP_DENY_LIST),
            Profile(
                name=CertificateProfile.OCSP,
                issued_by=(CaKind.BIRTH, CaKind.FLEET, CaKind.INFRA),
                # Whoever steals such a key can vouch for the revoked until it ends: nobody is told to ask about it.
                lifetime=timedelta(days=2),
                most=timedelta(days=2),
                subject=NameOID.COMMON_NAME,
                alt_name=AltName.ABSENT,
                key_purposes=(oids.OCSP_SIGNING,),
                policies=(),  # three CAs issue it, and they have no policy in common
                located=False,
                checked=False,
            ),
        )
    }
)

CA_PROFILES: Final = MappingProxyType(
    {
        profile.kind: profile
        for profile in (
            # One issuing CA, and one link for who counts those too: against RFC 5280 §4.2.1.9, but GnuTLS 3.7 does.
            CaProfile(kind=CaKind.ROOT, title="Root CA", lifetime=None, path_length=2),
            CaProfile(
                kind=CaKind.BIRTH,
                title="Birth CA",
                lifetime=None,
                path_length=0,
                key_purposes=(oids.CLIENT_AUTH,),
                # The TCG's policies here too, or the policy tree of an IDevID is null (RFC 5280 §6.1.3).
                policies=(*_TPM, oids.CP_IDEVID),
            ),
            CaProfile(
                kind=CaKind.FLEET,
                title="Fleet CA",
                lifetime=10 * _YEAR,
                path_length=0,
                key_purposes=(oids.CLIENT_AUTH,),
                policies=(*_TPM, oids.CP_LDEVID, oids.CP_LDEVID_SOFTWARE),
            ),
            CaProfile(
                kind=CaKind.INFRA,
                title="Infra CA",
                lifetime=10 * _YEAR,
                path_length=0,
                key_purposes=(
                    oids.SERVER_AUTH,
                    oids.CLIENT_AUTH,
                    oids.KP_SERVER,
                    oids.KP_BROKER,
                    oids.KP_CONTROL,
                    oids.KP_STATION,
                    oids.KP_OPERATOR,
                    oids.KP_COMMAND,
                    oids.KP_DENY_LIST,
                ),
                policies=(oids.CP_INFRASTRUCTURE, *_ROLES),
            ),
        )
    }
)

LINK_PROFILE: Final = CaProfile(
    kind=CaKind.ROOT, title="Root CA", lifetime=None, path_length=1, policies=(oids.ANY_POLICY,)
)
"""A link: one root's certificate for another root's name and key (docs/adr/0100-roots-of-one-name.md). It stands where
a trust anchor would, and bounds what is below no more than that does; without anyPolicy no policy would hold below it
(RFC 5280 §6.1.3)."""

EARLIER_CA_PROFILES: Final = MappingProxyType(
    {
        CaKind.ROOT: (replace(CA_PROFILES[CaKind.ROOT], path_length=1),),
        CaKind.INFRA: (
            replace(
                CA_PROFILES[CaKind.INFRA],
                key_purposes=CA_PROFILES[CaKind.INFRA].key_purposes[:-2],
                policies=(oids.CP_INFRASTRUCTURE,),
            ),
        ),
    }
)
"""How CAs of a kind were certified before: they are still believed, for what their own certificates hold. A root from
before there were links allowed for none (docs/adr/0100-roots-of-one-name.md).
An Infra CA from before there were commands, signed deny lists and roles of operators certifies all but those
(docs/adr/0026-roles-are-policies.md, docs/adr/0080-commands-are-signed-apart.md)."""

CRITICAL: Final = MappingProxyType(
    {
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
        ExtensionOID.BASIC_CONSTRAINTS: True,
        ExtensionOID.KEY_USAGE: True,
        ExtensionOID.EXTENDED_KEY_USAGE: False,
        ExtensionOID.CERTIFICATE_POLICIES: False,
        ExtensionOID.NAME_CONSTRAINTS: True,
        ExtensionOID.CRL_DISTRIBUTION_POINTS: False,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME: False,
        ExtensionOID.OCSP_NO_CHECK: False,
    }
)
"""Every extension that any of our certificates may have, and whether it is critical."""
