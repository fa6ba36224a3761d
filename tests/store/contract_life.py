"""The contract: operational certificates, devices, revocation, CRLs, refusals."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from birthmark_server.domain import (
    Assurance,
    CertificateProfile,
    CertificateStatus,
    CrlIssue,
    DeviceRevocation,
    DeviceState,
    Refusal,
    RevocationReason,
)
from birthmark_server.store.errors import (
    AlreadyExists,
    DeviceNotActive,
    DuplicateDevice,
    EpochChanged,
    IllegalMove,
    KeyUsedBefore,
    NonceUnknown,
    TooManyCertificates,
    UnknownCertificate,
    UnknownDevice,
)
from birthmark_server.store.protocol import Store
from store.values import (
    DAY,
    EVIDENCE,
    HOUR,
    ISSUER,
    MINUTE,
    NOW,
    bear,
    certificate,
    denial,
    device,
    give_nonce,
    issuance,
    pending,
)

COMPROMISE = RevocationReason.KEY_COMPROMISE
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class IssuanceContract:
    """`store` has MODEL."""

    def test_an_issuance_consumes_its_nonce_and_leaves_older_certificates_alone(self, store: Store) -> None:
        known = bear(store, 1)
        nonce = give_nonce(store, known.device_id)
        told = issuance(known, "first", nonce, at=NOW + MINUTE)
        store.commit_issuance(told)
        new, birth = sorted(store.device_certificates(known.device_id), key=lambda one: one.profile, reverse=True)
        assert new == told.certificate
        assert birth.revoked_at is None
        assert store.device_evidence(known.device_id)[1:] == [(NOW + MINUTE, EVIDENCE)]
        assert store.get_device(known.device_id) == replace(known, last_seen_at=NOW + MINUTE)
        with pytest.raises(NonceUnknown):
            store.commit_issuance(issuance(known, "second", nonce))
        assert len(store.device_certificates(known.device_id)) == 2

    def test_a_nonce_is_good_for_its_device_and_its_time(self, store: Store) -> None:
        one, two = bear(store, 1), bear(store, 2)
        nonce = give_nonce(store, one.device_id)
        with pytest.raises(NonceUnknown):
            store.commit_issuance(issuance(two, "x", nonce))
        with pytest.raises(NonceUnknown):
            store.commit_issuance(issuance(one, "x", nonce, at=NOW + 5 * MINUTE))
        with pytest.raises(NonceUnknown):
            store.commit_issuance(issuance(one, "x", b"never given"))
        store.commit_issuance(issuance(one, "x", nonce))

    def test_a_refused_issuance_leaves_the_nonce(self, store: Store) -> None:
        known = bear(store, 1)
        nonce = give_nonce(store, known.device_id)
        with pytest.raises(EpochChanged):
            store.commit_issuance(issuance(known, "x", nonce, expected_epoch=9))
        assert store.est_nonces(known.device_id, at=NOW) == [nonce]

    def test_usable_nonces_come_newest_first_and_no_more_than_eight(self, store: Store) -> None:
        given = [give_nonce(store, "dev-1", str(i), expires_at=NOW + (i + 1) * MINUTE) for i in range(10)]
        give_nonce(store, "dev-2")
        assert store.est_nonces("dev-1", at=NOW) == given[:1:-1]
        assert store.est_nonces("dev-1", at=NOW + 9 * MINUTE) == given[:8:-1]
        assert store.purge_expired(at=NOW + HOUR) == 11
        assert store.est_nonces("dev-1", at=NOW) == []

    def test_the_same_nonce_is_never_given_twice(self, store: Store) -> None:
        give_nonce(store, "dev-1")
        with pytest.raises(AlreadyExists):
            give_nonce(store, "dev-1")

    def test_nothing_is_issued_to_a_device_that_is_not_active(self, store: Store) -> None:
        known = bear(store, 1)
        nonce = give_nonce(store, known.device_id)
        store.revoke_device(known.device_id, reason=COMPROMISE, at=NOW, by="alice")
        with pytest.raises(DeviceNotActive):
            store.commit_issuance(issuance(known, "x", nonce))
        again = store.readmit_device(known.device_id, at=NOW, by="alice")
        with pytest.raises(EpochChanged):
            store.commit_issuance(issuance(known, "x", nonce))
        store.commit_issuance(issuance(again, "x", nonce))
        with pytest.raises(UnknownDevice):
            store.commit_issuance(issuance(device(9), "x", None))

    def test_a_device_is_issued_no_more_than_its_quota_in_any_day(self, store: Store) -> None:
        known = bear(store, 1)  # whose birth certificate counts
        told = [
            issuance(
                known,
                "x",
                None,
                certificate=certificate(f"c{hours}", known.device_id, issued_at=NOW + hours * HOUR),
                at=NOW + hours * HOUR,
                most_per_day=3,
            )
            for hours in (1, 2, 3)
        ]
        store.commit_issuance(told[0])
        store.commit_issuance(told[1])
        with pytest.raises(TooManyCertificates) as caught:
            store.commit_issuance(told[2])
        assert caught.value.retry_after_s > 0
        store.commit_issuance(replace(told[2], at=NOW + DAY + MINUTE))

    def test_a_key_is_certified_once(self, store: Store) -> None:
        known = bear(store, 1)
        record = certificate("first", known.device_id)
        store.commit_issuance(issuance(known, "x", None, certificate=record))
        store.revoke_certificate(record.sha256, reason=COMPROMISE, at=NOW, by="alice")
        known = store.get_device(known.device_id)
        (birth_certificate,) = store.list_certificates(profile="idevid")
        for spki in (record.spki_sha256, birth_certificate.spki_sha256, known.birth_spki_sha256):
            nonce = give_nonce(store, known.device_id, spki)
            again = certificate(f"again {spki}", known.device_id, spki_sha256=spki)
            with pytest.raises(KeyUsedBefore):
                store.commit_issuance(issuance(known, "x", nonce, certificate=again))
            assert nonce in store.est_nonces(known.device_id, at=NOW)
        other = bear(store, 2)
        store.commit_issuance(
            issuance(other, "x", None, certificate=certificate("o", other.device_id, spki_sha256=record.spki_sha256))
        )

    def test_a_certificate_is_found_with_its_device(self, store: Store) -> None:
        known = bear(store, 1)
        told = issuance(known, "x", None, evidence=None)
        store.commit_issuance(told)
        assert store.certificate_by_sha256(told.certificate.sha256) == (told.certificate, known)
        assert store.certificate_by_sha256("00" * 32) is None

    def test_the_infrastructures_certificates_belong_to_no_device(self, store: Store) -> None:
        server = certificate("srv-1", profile=CertificateProfile.SERVER)
        store.add_infrastructure_certificate(server, by="alice")
        assert store.certificate_by_sha256(server.sha256) == (replace(server, issued_by="alice"), None)
        with pytest.raises(AlreadyExists):
            store.add_infrastructure_certificate(server, by="alice")
        with pytest.raises(ValueError, match="not the infrastructure's"):
            store.add_infrastructure_certificate(certificate("x", "dev-1"), by="alice")

    def test_certificates_are_listed_by_profile_and_by_pages(self, store: Store) -> None:
        bear(store, 1)
        operators = [certificate(f"op-{i}", profile=CertificateProfile.OPERATOR, issued_by="alice") for i in range(3)]
        for record in operators:
            store.add_infrastructure_certificate(record, by="alice")
        in_order = sorted(operators, key=lambda record: record.sha256)
        assert store.list_certificates(profile="operator") == in_order
        assert store.list_certificates(profile="operator", after=in_order[0].sha256, limit=1) == in_order[1:2]
        assert [one.profile for one in store.list_certificates(profile="idevid")] == ["idevid"]
        assert len(store.list_certificates()) == 4


class DeviceContract:
    """`store` has MODEL."""

    def test_devices_are_listed_by_filter_and_by_pages(self, store: Store) -> None:
        known = [bear(store, number) for number in (1, 2, 3)]
        store.revoke_device("dev-000002", reason=COMPROMISE, at=NOW, by="alice")
        assert store.list_devices(state=DeviceState.ACTIVE) == [known[0], known[2]]
        assert store.list_devices(after="dev-000001", limit=1)[0].device_id == "dev-000002"
        assert len(store.list_devices(model="edge-1")) == 3
        assert store.list_devices(model="edge-2") == []
        assert store.list_devices(batch="lot-1") == []
        assert store.count_devices() == {
            DeviceState.ACTIVE: 2,
            DeviceState.QUARANTINED: 0,
            DeviceState.REVOKED: 1,
            DeviceState.DENIED: 0,
            DeviceState.RETIRED: 0,
        }

    def test_a_sign_of_life_is_noted_and_never_set_back(self, store: Store) -> None:
        known = bear(store, 1)
        store.touch_device(known.device_id, at=NOW + HOUR)
        store.touch_device(known.device_id, at=NOW + MINUTE)
        store.touch_device("none", at=NOW)
        assert store.get_device(known.device_id).last_seen_at == NOW + HOUR
        with pytest.raises(UnknownDevice):
            store.get_device("none")

    def test_software_devices_need_no_ek_and_no_serial(self, store: Store) -> None:
        for name in ("plain-1", "plain-2"):
            plain = device(
                1,
                device_id=name,
                serial="",
                ek_sha256="",
                other_ek_sha256=(),
                ak_public=b"",
                assurance=Assurance.NONE,
                birth_spki_sha256="",
                last_seen_at=None,
            )
            store.add_software_device(plain)
            assert store.get_device(name) == plain
            with pytest.raises(DuplicateDevice):
                store.add_software_device(plain)


class RevocationContract:
    """`store` has MODEL."""

    def test_a_revoked_device_loses_every_certificate(self, store: Store) -> None:
        known = bear(store, 1)
        store.commit_issuance(issuance(known, "x", None))
        taken = store.revoke_device(known.device_id, reason=COMPROMISE, at=NOW + HOUR, by="bob")
        assert {one.sha256 for one in taken} == {one.sha256 for one in store.device_certificates(known.device_id)}
        assert {(one.revoked_at, one.reason, one.revoked_by) for one in taken} == {(NOW + HOUR, COMPROMISE, "bob")}
        assert store.get_device(known.device_id) == replace(known, state=DeviceState.REVOKED, epoch=2)
        assert store.revoke_device(known.device_id, reason=COMPROMISE, at=NOW + DAY, by="alice") == []
        with pytest.raises(UnknownDevice):
            store.revoke_device("none", reason=COMPROMISE, at=NOW, by="alice")

    def test_a_readmitted_device_is_active_and_its_certificates_stay_revoked(self, store: Store) -> None:
        known = bear(store, 1)
        with pytest.raises(IllegalMove):
            store.readmit_device(known.device_id, at=NOW, by="alice")
        store.revoke_device(known.device_id, reason=COMPROMISE, at=NOW, by="alice")
        assert store.readmit_device(known.device_id, at=NOW, by="bob") == replace(known, epoch=3)
        assert all(one.revoked_at == NOW for one in store.device_certificates(known.device_id))
        store.revoke_device(known.device_id, reason=COMPROMISE, at=NOW + HOUR, by="carol")
        assert store.device_revocations(known.device_id) == [
            DeviceRevocation(known.device_id, 2, COMPROMISE, NOW, "alice", NOW, "bob"),
            DeviceRevocation(known.device_id, 4, COMPROMISE, NOW + HOUR, "carol"),
        ]
        with pytest.raises(UnknownDevice):
            store.readmit_device("none", at=NOW, by="alice")

    def test_one_certificate_is_revoked_once_and_the_device_stays(self, store: Store) -> None:
        known = bear(store, 1)
        told = issuance(known, "x", None)
        store.commit_issuance(told)
        revoked = replace(told.certificate, revoked_at=NOW + HOUR, reason=COMPROMISE, revoked_by="alice")
        for at, reason, by in ((NOW + HOUR, COMPROMISE, "alice"), (NOW + DAY, RevocationReason.SUPERSEDED, "bob")):
            assert store.revoke_certificate(revoked.sha256, reason=reason, at=at, by=by) == revoked
        assert store.get_device(known.device_id) == replace(known, epoch=2)
        assert len([one for one in store.device_certificates(known.device_id) if one.revoked_at is None]) == 1
        with pytest.raises(UnknownCertificate):
            store.revoke_certificate("00" * 32, reason=COMPROMISE, at=NOW, by="alice")

    def test_an_operators_certificate_is_revoked_like_any(self, store: Store) -> None:
        operator = certificate("op-1", profile=CertificateProfile.OPERATOR)
        store.add_infrastructure_certificate(operator, by="alice")
        store.revoke_certificate(operator.sha256, reason=COMPROMISE, at=NOW, by="alice")
        found = store.certificate_by_sha256(operator.sha256)
        assert found is not None
        assert found[0].revoked_at == NOW

    def test_a_crl_lists_what_is_revoked_by_its_issuer_and_not_long_expired(self, store: Store) -> None:
        records = {
            "living": certificate("living"),
            "revoked": certificate("revoked"),
            "just expired": certificate("just expired", not_after=NOW - DAY),
            "long expired": certificate("long expired", not_after=NOW - DAY - MINUTE),
            "of another": certificate("of another", issuer_sha256="16" * 32),
        }
        for name, record in records.items():
            store.add_infrastructure_certificate(record, by="alice")
            if name != "living":
                store.revoke_certificate(record.sha256, reason=COMPROMISE, at=NOW, by="alice")
        listed = [records[name].serial_number for name in ("revoked", "just expired")]
        since = (NOW - EPOCH) // timedelta(microseconds=1)
        entries = [(serial, since, COMPROMISE.value) for serial in sorted(listed)]
        assert list(store.revoked_entries(ISSUER, since=NOW - DAY)) == entries
        profiles = [records["revoked"].profile]
        revoked = [records["revoked"].serial_number]
        assert list(store.revoked_serials(ISSUER, profiles=profiles, at=NOW)) == revoked
        assert list(store.revoked_serials(ISSUER, profiles=[CertificateProfile.IDEVID], at=NOW)) == []
        assert list(store.revoked_serials(ISSUER, profiles=list(CertificateProfile), at=NOW)) == revoked
        assert list(store.revoked_entries("17" * 32, since=NOW)) == []
        assert list(store.revoked_serials("17" * 32, profiles=profiles, at=NOW)) == []

    def test_the_number_of_revoked_certificates_rises_with_each_revocation(self, store: Store) -> None:
        first, second, other = certificate("1"), certificate("2"), certificate("3", issuer_sha256="16" * 32)
        for record in (first, second, other):
            store.add_infrastructure_certificate(record, by="alice")
        counts = [store.count_revoked(ISSUER)]
        for record in (first, first, other, second):
            store.revoke_certificate(record.sha256, reason=COMPROMISE, at=NOW - DAY, by="alice")
            counts.append(store.count_revoked(ISSUER))
        assert counts == [0, 1, 1, 1, 2]

    def test_the_status_of_a_certificate_is_found_by_issuer_and_serial_number(self, store: Store) -> None:
        good, revoked = certificate("good"), certificate("revoked")
        for record in (good, revoked):
            store.add_infrastructure_certificate(record, by="alice")
        store.revoke_certificate(revoked.sha256, reason=COMPROMISE, at=NOW, by="alice")
        assert store.certificate_status(ISSUER, good.serial_number) == CertificateStatus(None, None)
        assert store.certificate_status(ISSUER, revoked.serial_number) == CertificateStatus(NOW, COMPROMISE)
        assert store.certificate_status(ISSUER, "1") is None
        assert store.certificate_status("16" * 32, good.serial_number) is None
        assert store.certificate_holder(ISSUER, good.serial_number) == ""  # the infrastructure's own

    def test_whose_a_certificate_is_is_found_by_issuer_and_serial_number(self, store: Store) -> None:
        known = bear(store, 1)
        (birth,) = store.device_certificates(known.device_id)
        assert store.certificate_holder(birth.issuer_sha256, birth.serial_number) == known.device_id
        assert store.certificate_holder(birth.issuer_sha256, "1") == ""
        assert store.certificate_holder("16" * 32, birth.serial_number) == ""

    def test_crl_numbers_count_up_for_each_issuer(self, store: Store) -> None:
        assert store.crl_made_at(ISSUER) is None
        assert [store.next_crl(ISSUER, at=NOW + i * DAY) for i in range(3)] == [
            CrlIssue(1, None),
            CrlIssue(2, NOW),
            CrlIssue(3, NOW + DAY),
        ]
        assert store.crl_made_at(ISSUER) == NOW + 2 * DAY
        assert store.next_crl("16" * 32, at=NOW) == CrlIssue(1, None)


class RefusalContract:
    """`store` has MODEL."""

    def test_refusals_are_found_newest_first_by_code_device_and_time(self, store: Store) -> None:
        told = [
            Refusal(
                NOW + i * MINUTE, f"r{i}", "enrollment", "192.0.2.1", "denied" if i % 2 else "unknown", "why", f"d{i}"
            )
            for i in range(4)
        ]
        for refusal in told:
            store.record_refusal(refusal)
        assert store.list_refusals() == told[::-1]
        assert store.list_refusals(code="denied", limit=1) == [told[3]]
        assert store.list_refusals(device_id="d2") == [told[2]]
        assert store.list_refusals(since=NOW + 2 * MINUTE) == [told[3], told[2]]

    def test_old_refusals_are_purged(self, store: Store) -> None:
        for i in range(3):
            store.record_refusal(Refusal(NOW + i * HOUR, f"r{i}", "d", "s", "c", "why", "dev-1"))
        assert store.purge_refusals(before=NOW, most_bytes=1 << 20) == 0
        assert store.purge_refusals(before=NOW + HOUR, most_bytes=1 << 20) == 1
        assert [refusal.request_id for refusal in store.list_refusals()] == ["r2", "r1"]

    def test_refusals_beyond_their_room_are_purged_those_of_no_device_first(self, store: Store) -> None:
        for i in range(1100):
            store.record_refusal(Refusal(NOW + i * MINUTE, f"r{i}", "d", "s", "c", "", evidence=bytes(4096)))
            if i % 100 == 0:
                store.record_refusal(Refusal(NOW, f"d{i}", "d", "s", "c", "", f"dev-{i}", evidence=bytes(4096)))
        room = 20 * (4096 + 512)
        assert store.purge_refusals(before=NOW, most_bytes=room) == 1091
        kept = [refusal.request_id for refusal in store.list_refusals()]
        assert sorted(kept) == sorted([f"d{i}" for i in range(0, 1100, 100)] + [f"r{i}" for i in range(1091, 1100)])
        assert store.purge_refusals(before=NOW, most_bytes=room) == 0
        assert store.purge_refusals(before=NOW, most_bytes=2 * (4096 + 512)) == 18
        assert [refusal.request_id for refusal in store.list_refusals()] == ["d1000", "d900"]

    def test_a_strangers_text_is_kept_whatever_it_holds(self, store: Store) -> None:
        store.record_refusal(Refusal(NOW, "r", "d", "s", "c", "a\0b\ud800c", "x\0", evidence=b"\0\xff"))
        (kept,) = store.list_refusals()
        assert (kept.detail, kept.device_id, kept.evidence) == ("a\\x00b\\ud800c", "x\\x00", b"\0\xff")

    def test_a_well_kept_store_has_nothing_to_report(self, store: Store) -> None:
        bear(store, 1)
        store.deny(denial(device_id="dev-000001"))
        assert store.check() == []
        assert store.get_pending(pending(1).enrollment_id).answer
