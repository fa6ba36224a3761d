"""One certificate of every profile, for the tests that go through all of them."""

from birthmark_server.domain import CertificateProfile
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
        case CertificateProfile.CONTROL | CertificateProfile.COMMAND | CertificateProfile.DENY_LIST:
            return pki.infra(profile, f"srv-{profile}")
        case _:
            return pki.infra(profile, f"{profile}-1")
