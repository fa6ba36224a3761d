"""Which of a device's EKs a station signs for."""

from dataclasses import replace

import pytest

from birthmark_server.factory.station.errors import IdentityGarbled, OtherModel
from birthmark_server.factory.station.identity import read_identity
from support.factory_plant import VENDOR
from support.factory_sim import SimulatedDevice, derived_tpm
from support.software_tpm import SoftwareTpm
from support.tpm_vendor import VendorCa


def test_the_ek_is_the_one_that_the_models_template_names() -> None:
    device = SimulatedDevice(derived_tpm(VENDOR, "identity"))
    assert read_identity(device.identity(), "p256")[0] == device.tpm.ek_sha256
    assert read_identity(device.identity(), "")[0] == device.tpm.ek_sha256


def test_it_is_found_by_its_certificate_where_the_device_names_another() -> None:
    device = SimulatedDevice(derived_tpm(VENDOR, "identity"))
    other = SoftwareTpm.create(VendorCa.create(), ek="p384")
    shown = replace(device.identity(), ek_public=other.ek_public.encode())
    assert read_identity(shown, "p256")[0] == device.tpm.ek_sha256


def test_a_tpm_without_such_an_ek_is_not_of_the_model() -> None:
    device = SimulatedDevice(derived_tpm(VENDOR, "identity"))
    with pytest.raises(OtherModel, match="want a TPM with an EK of template rsa2048, this one shows p256"):
        read_identity(device.identity(), "rsa2048")


def test_another_devices_certificate_is_not_signed_for() -> None:
    """An EK certificate is no secret: whoever shows a stranger's would have the stranger refused as a duplicate."""
    device, stranger = (SimulatedDevice(derived_tpm(VENDOR, name)) for name in ("identity", "stranger"))
    shown = replace(device.identity(), ek_certificates=stranger.tpm.ek_certificates)
    with pytest.raises(OtherModel, match="shows 2 different ones"):
        read_identity(shown, "p256")


def test_a_certificate_that_cannot_be_read_is_garbage() -> None:
    shown = replace(SimulatedDevice(derived_tpm(VENDOR, "identity")).identity(), ek_certificates=(b"0" * 99,))
    with pytest.raises(IdentityGarbled):
        read_identity(shown, "p256")
