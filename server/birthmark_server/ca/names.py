"""Which name a certificate of each profile may carry, and which hosts an installation may certify."""

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from cryptography import x509

from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import SOFTWARE_PREFIX
from birthmark_server.domain import CertificateProfile
from birthmark_wire import ids
from birthmark_wire.errors import DecodeError

RESERVED: Final = (
    CertificateProfile.SERVER,
    CertificateProfile.BROKER,
    CertificateProfile.CONTROL,
    CertificateProfile.COMMAND,
    CertificateProfile.DENY_LIST,
    CertificateProfile.OCSP,
)
"""The profiles whose names begin with `srv-`, and no others."""

_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)(?:\*\.)?[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*",
    re.ASCII | re.IGNORECASE,
)
"""RFC 5280 §4.2.1.6: the preferred name syntax of RFC 1034 §3.5, its leftmost label a wildcard perhaps (RFC 6125)."""


def check_name(name: str, profile: CertificateProfile) -> None:
    """Raise DecodeError unless certificates of this profile may carry `name`.

    Infrastructure names have no dots: OpenSSL holds a CN that looks like a host name to the dNSName constraints.
    """
    match profile:
        case CertificateProfile.IDEVID:
            ids.printable_name(name, field="serial")
        case CertificateProfile.LDEVID | CertificateProfile.LDEVID_SOFTWARE:
            ids.device_id(name)
            software = profile is CertificateProfile.LDEVID_SOFTWARE
            if name.startswith(SOFTWARE_PREFIX) != software:
                raise DecodeError(f"{SOFTWARE_PREFIX!r} begins the ids of keys without TPM evidence, got {name!r}")
        case _:
            if name.startswith(ids.RESERVED_PREFIX) != (profile in RESERVED):
                raise DecodeError(f"{ids.RESERVED_PREFIX!r} begins the names of the server's own; got {name!r}")
            ids.device_id(name.removeprefix(ids.RESERVED_PREFIX), field="name")


def host_permitted(name: x509.GeneralName, namespace: Namespace) -> bool:
    """Return whether the Infra CA's constraints cover the name (RFC 5280 §4.2.1.10): a domain covers itself and what is
    below it, an address lies within a network. Any other form of name is not covered, nor is a domain name that is
    none: a verifier in C reads it up to its first NUL."""
    if isinstance(name, x509.DNSName):
        if not _HOST.fullmatch(name.value):
            return False
        return any(name.value == domain or name.value.endswith(f".{domain}") for domain in namespace.dns_domains)
    if isinstance(name, x509.IPAddress) and not isinstance(name.value, IPv4Network | IPv6Network):
        return any(name.value in network for network in namespace.ip_networks)
    return False
