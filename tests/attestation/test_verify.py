"""The whole attestation: what holds, and what each kind of splice meets."""

import pytest

from attestation.enrolling import enroll
from birthmark_server.domain import Assurance
from support.software_tpm import SoftwareTpm, VendorCa


@pytest.mark.parametrize("ek", ["p256", "p384", "rsa2048"])
def test_a_genuine_tpm_of_each_ek_template_is_verified(ek: str) -> None:
    vendor = VendorCa.create()
    tpm = SoftwareTpm.create(vendor, ek=ek)
    device = enroll(tpm, vendor.trust_store())
    assert device.ek_sha256 == tpm.ek_sha256
    assert device.birth_spki == tpm.birth_key.spki
    assert device.assurance is Assurance.VENDOR_CERTIFICATE
