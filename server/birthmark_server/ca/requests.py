"""What may be asked of an issuer. Values only; issuer.py checks them against the profile."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from birthmark_server.domain import CertificateProfile


@dataclass(frozen=True, slots=True)
class IDevIdRequest:
    """A birth certificate, for a key that attestation proved. serial: of the device. ek_sha256: hex, over the EK's
    SubjectPublicKeyInfo. ek_certificate: the verified EK certificate, DER; None without one."""

    public_key: PublicKeyTypes
    serial: str
    ek_sha256: str
    ek_certificate: bytes | None = None


@dataclass(frozen=True, slots=True)
class LDevIdRequest:
    """An operational certificate. tpm_backed: TPM evidence for this very key was verified."""

    public_key: PublicKeyTypes
    device_id: str
    tpm_backed: bool


@dataclass(frozen=True, slots=True)
class InfraRequest:
    """A certificate of the infrastructure's own. name: `[a-z0-9-]{1,64}`; server, broker, control and ocsp begin with
    `srv-`, the others must not. Only server and broker have hosts, and those at least one."""

    profile: CertificateProfile
    public_key: PublicKeyTypes
    name: str
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[IPv4Address | IPv6Address, ...] = ()


LeafRequest = IDevIdRequest | LDevIdRequest | InfraRequest
