"""What the database says of devices to a broker that can't tell by itself: whose, whether they may come, the CRLs."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from birthmark_server.broker_records import StoreRecords
from birthmark_server.domain import CertificateRecord, RevocationReason
from birthmark_server.store.errors import StoreFailed
from support.core import Core

COMPROMISE = RevocationReason.KEY_COMPROMISE


@pytest.fixture
def device_id(core: Core) -> str:
    """A device with an operational certificate."""
    tpm, device_id = core.listed()
    core.first_ldevid(tpm, core.enroll(tpm), device_id)
    return device_id


@pytest.fixture
def records(core: Core, tmp_path: Path) -> StoreRecords:
    return StoreRecords(
        store=core.store,
        authority=core.services.authority,
        make_crls=core.services.crls.make_anew,
        crl_folder=tmp_path / "crl",
        now=core.clock,
    )


def ldevids(core: Core, device_id: str) -> list[CertificateRecord]:
    return [one for one in core.store.device_certificates(device_id) if one.profile.startswith("ldevid")]


def test_a_certificate_is_found_by_its_validity_and_by_its_serial_number(
    core: Core, records: StoreRecords, device_id: str
) -> None:
    (one,) = ldevids(core, device_id)
    assert records.serial_of(device_id, one.not_before, one.not_after) == one.serial_number
    assert records.serial_of(device_id, one.not_before, one.not_after - timedelta(seconds=1)) == ""
    assert records.serial_of("dev-nobody", one.not_before, one.not_after) == ""
    assert records.device_of(one.serial_number) == device_id
    assert records.device_of("1") == ""


def test_two_certificates_of_one_second_can_not_be_told_apart(core: Core, records: StoreRecords) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    core.renew(tpm, core.first_ldevid(tpm, idevid, device_id), device_id)
    first, second = ldevids(core, device_id)
    assert (first.not_before, first.not_after) == (second.not_before, second.not_after)
    assert records.serial_of(device_id, first.not_before, first.not_after) == ""


def test_who_has_a_good_certificate_may_come(core: Core, records: StoreRecords, device_id: str) -> None:
    assert records.shut_out(device_id) == ""
    core.clock.at = ldevids(core, device_id)[0].not_after
    assert records.shut_out(device_id) == "no-certificate"


def test_who_is_revoked_quarantined_or_unknown_may_not(core: Core, records: StoreRecords, device_id: str) -> None:
    core.store.quarantine_device(device_id, at=core.clock(), by="alice")
    assert records.shut_out(device_id) == "device-denied"
    core.store.restore_device(device_id, at=core.clock(), by="alice")
    assert records.shut_out(device_id) == ""
    core.store.revoke_certificate(ldevids(core, device_id)[0].sha256, reason=COMPROMISE, at=core.clock(), by="alice")
    assert records.shut_out(device_id) == "no-certificate"
    assert records.shut_out("dev-nobody") == "unknown-device"


def test_while_the_database_can_not_be_read_the_deny_list_alone_decides(
    core: Core, records: StoreRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_device_id: str) -> None:
        raise StoreFailed("disk I/O error")

    monkeypatch.setattr(core.store, "get_device", fail)
    assert records.shut_out("dev-nobody") == ""


def test_the_crls_of_the_fleet_are_made_at_once_and_served_as_well(
    core: Core, records: StoreRecords, device_id: str, tmp_path: Path
) -> None:
    (one,) = ldevids(core, device_id)
    core.services.crls.refresh()
    core.store.revoke_certificate(one.sha256, reason=COMPROMISE, at=core.clock(), by="alice")
    fleet = core.services.authority.fleet.certificate
    records.write_crls([fleet])
    (file,) = (tmp_path / "crl").iterdir()
    crl = x509.load_pem_x509_crl(file.read_bytes())
    assert crl.issuer == fleet.subject
    assert crl.get_revoked_certificate_by_serial_number(int(one.serial_number, 16)) is not None
    (age,) = (age for age in core.services.crls.ages() if age.issuer == core.services.authority.fleet.name)
    assert age.age_s < 1
