"""One certificate of every profile, for the tests that go through all of them."""

from birthmark_server.domain import CertificateProfile, CertificateRecord, RevokedEntry
from support.pki import Leaf, Pki


def leaf_of(pki: Pki, profile: CertificateProfile) -> Leaf:
    """Issue one certificate of this profile."""
    match profile:
        case CertificateProfile.IDEVID:
            return pki.birth("SN-0001")
        case CertificateProfile.LDEVID:
            return pki.device("device-1")
        case CertificateProfile.LDEVID_SOFTWARE:
            return pki.device("sw-1", tpm_backed=False)
        case CertificateProfile.SERVER | CertificateProfile.BROKER:
            return pki.infra(
                profile, f"srv-{profile}", dns_names=("server.fleet.example",), ip_addresses=("127.0.0.1",)
            )
        case (
            CertificateProfile.CONTROL
            | CertificateProfile.COMMAND
            | CertificateProfile.DENY_LIST
            | CertificateProfile.OCSP
        ):
            return pki.infra(profile, f"srv-{profile}")
        case _:
            return pki.infra(profile, f"{profile}-1")


def entry_of(record: CertificateRecord) -> RevokedEntry:
    """What a CRL says of a revoked certificate."""
    if record.revoked_at is None or record.reason is None:
        raise ValueError(f"{record.serial_number} is not revoked")
    return record.serial_number, int(record.revoked_at.timestamp()) * 1_000_000, record.reason.value
