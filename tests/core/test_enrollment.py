"""A birth, request by request: what is granted, what is refused, and that a refusal changes nothing."""

from dataclasses import replace
from datetime import timedelta

import pytest

from birthmark_server.admission import NotExpected, OtherEndorsementKey
from birthmark_server.attestation.errors import ActivationSecret, AttestBinding, CsrKey, EkUntrusted
from birthmark_server.domain import (
    BoardSwap,
    DenyEntry,
    DeviceModel,
    DeviceState,
    ManifestEntry,
    RevocationReason,
)
from birthmark_server.enrollment import BirthRevoked, WrongServer
from birthmark_server.enrollment_states import TRANSITIONS, ChallengeExpired, Event, State, require_legal
from birthmark_server.refusals import excerpt
from birthmark_server.store.errors import (
    AlreadyConsumed,
    DeniedDevice,
    DeviceNotActive,
    EpochChanged,
    RekeyQuota,
    TooManyPending,
    UnknownDevice,
    UnknownEnrollment,
)
from birthmark_wire.enrollment import ChallengeAnswer, EnrollResult
from birthmark_wire.errors import DecodeError
from support.core import STRANGER, Core, fresh_serial
from support.server import MODEL, sha256_hex
from support.software_tpm import SoftwareTpm, VendorCa


def test_a_listed_device_is_born_with_the_manifests_names(core: Core) -> None:
    tpm, device_id = core.listed()
    challenge = core.begin(tpm)
    result = core.finish(challenge, core.answer(tpm, challenge))
    device = core.store.get_device(device_id)
    assert (result.device_id, challenge.device_id) == (device_id, device_id)
    assert (device.serial, device.model, device.state) == (challenge.serial, MODEL.name, DeviceState.ACTIVE)
    assert device.ek_sha256 == tpm.ek_sha256
    assert device.ak_public == tpm.ak.public.encode()
    assert result.est_url == f"https://localhost:{core.site.port}/.well-known/est"


def test_all_evidence_is_kept(core: Core) -> None:
    tpm, device_id = core.listed()
    core.enroll(tpm)
    ((_, evidence),) = core.store.device_evidence(device_id)
    parts = dict(evidence.parts)
    assert parts["request"] == tpm.enroll_request(server_name="localhost").encode()
    assert evidence.roots_version == core.services.roots.version


def test_a_byte_identical_repeat_gets_the_stored_answer_for_a_day(core: Core) -> None:
    tpm, _ = core.listed()
    challenge = core.begin(tpm)
    body = core.answer(tpm, challenge)
    first = core.services.enrollment.finish(challenge.enrollment_id, body, STRANGER)
    core.clock.forward(hours=23)
    assert core.services.enrollment.finish(challenge.enrollment_id, body, STRANGER) == first
    core.clock.forward(hours=1)
    with pytest.raises(ChallengeExpired):
        core.services.enrollment.finish(challenge.enrollment_id, body, STRANGER)


def test_anything_else_on_a_consumed_enrollment_is_a_conflict(core: Core) -> None:
    tpm, _ = core.listed()
    challenge = core.begin(tpm)
    body = core.answer(tpm, challenge)
    core.finish(challenge, body)
    with pytest.raises(AlreadyConsumed):
        core.finish(challenge, core.answer(tpm, challenge))  # other signatures, so other bytes
    with pytest.raises(AlreadyConsumed):
        core.finish(challenge, b"not even JSON")


def test_the_stored_answer_is_checked_against_revocation_again(core: Core) -> None:
    tpm, device_id = core.listed()
    challenge = core.begin(tpm)
    body = core.answer(tpm, challenge)
    idevid = core.finish(challenge, body).chain[0]
    core.store.revoke_certificate(sha256_hex(idevid), reason=RevocationReason.SUPERSEDED, at=core.clock(), by="alice")
    with pytest.raises(BirthRevoked):
        core.finish(challenge, body)
    core.store.revoke_device(device_id, reason=RevocationReason.KEY_COMPROMISE, at=core.clock(), by="alice")
    with pytest.raises(DeviceNotActive):
        core.finish(challenge, body)


def test_a_wrong_answer_changes_nothing(core: Core) -> None:
    tpm, _ = core.listed()
    challenge = core.begin(tpm)
    right = core.answer(tpm, challenge)
    wrong = replace(ChallengeAnswer.decode(right), secret=bytes(32)).encode()
    for _ in range(3):
        with pytest.raises(ActivationSecret):
            core.finish(challenge, wrong)
    with pytest.raises(DecodeError):
        core.finish(challenge, b"{}")
    assert core.finish(challenge, right).chain


def test_a_challenge_expires(core: Core) -> None:
    tpm, device_id = core.listed()
    challenge = core.begin(tpm)
    body = core.answer(tpm, challenge)
    core.clock.forward(seconds=challenge.expires_in_s)
    with pytest.raises(ChallengeExpired):
        core.finish(challenge, body)
    with pytest.raises(UnknownDevice):
        core.store.get_device(device_id)


def test_two_challenges_are_never_equal(core: Core) -> None:
    tpm, _ = core.listed()
    first, second = core.begin(tpm), core.begin(tpm)
    assert first.nonce != second.nonce
    assert first.enrollment_id != second.enrollment_id
    assert tpm.activate(first.credential_blob, first.encrypted_secret) != tpm.activate(
        second.credential_blob, second.encrypted_secret
    )


def test_an_answer_to_one_challenge_is_no_answer_to_another(core: Core) -> None:
    tpm, _ = core.listed()
    first, second = core.begin(tpm), core.begin(tpm)
    mixed = replace(
        ChallengeAnswer.decode(core.answer(tpm, first)),
        secret=ChallengeAnswer.decode(core.answer(tpm, second)).secret,
    )
    with pytest.raises(AttestBinding):
        core.finish(second, mixed.encode())


def test_a_source_holds_eight_challenges_for_the_same_keys(core: Core) -> None:
    tpm, _ = core.listed()
    for _ in range(8):
        challenge = core.begin(tpm)
    with pytest.raises(TooManyPending) as caught:
        core.begin(tpm)
    assert 0 < caught.value.retry_after_s <= 301
    core.begin(tpm, replace(STRANGER, source="198.51.100.66"))
    assert core.finish(challenge, core.answer(tpm, challenge)).chain


def test_a_stranger_behind_the_same_address_takes_no_challenge_away(core: Core) -> None:
    """It knows the victim's EK certificate, which is no secret, and has keys of its own."""
    tpm, _ = core.listed()
    for _ in range(9):
        core.begin(tpm.reset())
    assert core.enroll(tpm)


def test_an_unknown_enrollment_is_unknown(core: Core) -> None:
    with pytest.raises(UnknownEnrollment):
        core.services.enrollment.finish("nobody", b"{}", STRANGER)


def test_a_device_on_its_way_to_another_server_is_turned_away(core: Core) -> None:
    tpm, _ = core.listed()
    with pytest.raises(WrongServer):
        core.services.enrollment.begin(tpm.enroll_request(server_name="other.example").encode(), STRANGER)


def test_a_device_that_nobody_expects_is_refused_and_the_refusal_is_in_the_book(core: Core) -> None:
    tpm = core.site.tpm()
    with pytest.raises(NotExpected):
        core.begin(tpm)
    refusal = next(r for r in core.refusals("not-expected") if r.ek_sha256 == tpm.ek_sha256)
    assert (refusal.door, refusal.source, refusal.request_id) == ("enrollment", "192.0.2.1", "r-1")
    assert refusal.evidence == excerpt(tpm.enroll_request(server_name="localhost").encode())


def test_a_foreign_vendors_tpm_is_refused_though_its_ek_is_listed(core: Core) -> None:
    tpm = SoftwareTpm.create(VendorCa.create("Nobody's TPMs"))
    core.site.list_ek(tpm.ek_sha256, fresh_serial())
    with pytest.raises(EkUntrusted):
        core.begin(tpm)


def test_the_models_ek_template_is_the_identity_and_no_other(core: Core) -> None:
    """The manifest lists this TPM's P-384 EK, the model is proven by P-256: neither stands in for the other."""
    tpm = core.site.tpm()
    other = SoftwareTpm.create(core.site.vendor, ek="p384")
    both = replace(tpm, ek_certificates=(*other.ek_certificates, *tpm.ek_certificates))
    core.site.list_ek(other.ek_sha256, fresh_serial())
    with pytest.raises(OtherEndorsementKey):
        core.begin(both)


def test_a_csr_for_another_key_is_refused(core: Core) -> None:
    tpm, _ = core.listed()
    challenge = core.begin(tpm)
    liar = replace(tpm, birth_key=tpm.reset().birth_key)
    with pytest.raises((AttestBinding, CsrKey)):
        core.finish(challenge, core.answer(liar, challenge))


# -- coming home


def test_the_same_birth_key_gets_its_existing_idevid(core: Core) -> None:
    tpm, device_id = core.listed()
    first = core.enroll(tpm)
    again = core.enroll(tpm)
    assert again.der == first.der
    assert len(core.store.device_certificates(device_id)) == 1


def test_a_new_birth_key_revokes_the_old_one_and_has_a_quota_of_one_a_day(core: Core) -> None:
    tpm, device_id = core.listed()
    first = core.enroll(tpm)
    ldevid = core.first_ldevid(tpm, first, device_id)
    core.clock.forward(hours=1)
    reset = tpm.reset()
    second = core.enroll(reset)
    for old in (first, ldevid):
        assert core.caller(old).certificate.revoked_at is not None  # type: ignore[union-attr]
    assert core.caller(second).certificate.revoked_at is None  # type: ignore[union-attr]
    assert core.store.get_device(device_id).ak_public == reset.ak.public.encode()
    third = reset.reset()
    with pytest.raises(RekeyQuota):
        core.enroll(third)
    core.clock.forward(days=1)
    core.enroll(third)


def test_a_device_whose_idevid_was_revoked_by_mistake_gets_a_new_one_after_readmission(core: Core) -> None:
    tpm, device_id = core.listed()
    first = core.enroll(tpm)
    core.store.revoke_device(device_id, reason=RevocationReason.UNSPECIFIED, at=core.clock(), by="alice")
    with pytest.raises(DeviceNotActive):
        core.begin(tpm)
    core.store.readmit_device(device_id, at=core.clock(), by="alice")
    second = core.enroll(tpm)
    assert second.der != first.der
    assert second.certificate.public_key() == first.certificate.public_key()


def test_a_revocation_between_the_two_requests_wins(core: Core) -> None:
    tpm, device_id = core.listed()
    core.enroll(tpm)
    challenge = core.begin(tpm)
    body = core.answer(tpm, challenge)
    core.store.revoke_device(device_id, reason=RevocationReason.KEY_COMPROMISE, at=core.clock(), by="alice")
    with pytest.raises(DeviceNotActive):
        core.finish(challenge, body)
    core.store.readmit_device(device_id, at=core.clock(), by="alice")
    with pytest.raises(EpochChanged):
        core.finish(challenge, body)


def test_a_swapped_board_comes_back_as_the_same_device(core: Core) -> None:
    tpm, device_id = core.listed()
    old = core.enroll(tpm)
    board = core.site.tpm()
    at = core.clock()
    core.store.request_swap(BoardSwap(device_id, board.ek_sha256, "alice", at))
    with pytest.raises(NotExpected):
        core.begin(board)  # one operator is not enough
    core.store.approve_swap(device_id, by="bob", at=at, expires_at=at + timedelta(days=1))
    assert core.caller(old).certificate.revoked_at is not None  # type: ignore[union-attr]
    with pytest.raises(DeniedDevice):
        core.begin(tpm)
    new = core.enroll(board)
    device = core.store.get_device(device_id)
    assert (device.ek_sha256, device.state) == (board.ek_sha256, DeviceState.ACTIVE)
    assert new.certificate.subject == old.certificate.subject


def test_a_board_swap_admits_for_a_day(core: Core) -> None:
    tpm, device_id = core.listed()
    core.enroll(tpm)
    board = core.site.tpm()
    at = core.clock()
    core.store.request_swap(BoardSwap(device_id, board.ek_sha256, "alice", at))
    core.store.approve_swap(device_id, by="bob", at=at, expires_at=at + timedelta(days=1))
    core.clock.forward(days=1)
    with pytest.raises(NotExpected):
        core.begin(board)


# -- the deny list


def test_a_denied_device_stays_out_by_serial_and_by_its_other_ek(core: Core) -> None:
    tpm, device_id = core.listed()
    other = SoftwareTpm.create(core.site.vendor, ek="p384")
    both = replace(tpm, ek_certificates=(*tpm.ek_certificates, *other.ek_certificates))
    core.enroll(both)
    core.store.deny(DenyEntry(device_id, "", (), "stolen", "alice", core.clock()))
    with pytest.raises(DeniedDevice):
        core.begin(tpm)
    with pytest.raises(NotExpected):
        core.begin(other)
    assert "stolen" in core.refusals("denied-device")[0].detail  # the reason is for the operators


def test_an_insider_cannot_take_a_strangers_ek_by_showing_its_certificate(core: Core) -> None:
    """The victim is of another model, so its EK is one that the insider may show beside its own."""
    core.store.add_model(DeviceModel("rsa", ek_template="rsa2048"), by="alice")
    victim = SoftwareTpm.create(core.site.vendor, ek="rsa2048")
    serial = fresh_serial()
    core.store.import_manifest([ManifestEntry(victim.ek_sha256, serial, "rsa", serial.lower(), "alice", core.clock())])
    insider, insiders_id = core.listed()
    core.enroll(replace(insider, ek_certificates=(*insider.ek_certificates, *victim.ek_certificates)))
    assert core.store.get_device(insiders_id).other_ek_sha256 == (victim.ek_sha256,)
    core.store.deny(DenyEntry(insiders_id, "", (), "insider", "alice", core.clock()))
    core.enroll(victim)
    assert core.store.get_device(serial.lower()).state is DeviceState.ACTIVE


def test_the_book_says_which_device_was_not_active_and_every_ek_that_it_showed(core: Core) -> None:
    tpm, device_id = core.listed()
    core.enroll(tpm)
    core.store.quarantine_device(device_id, at=core.clock(), by="alice")
    rsa = SoftwareTpm.create(core.site.vendor, ek="rsa2048")
    with pytest.raises(DeviceNotActive):
        core.begin(replace(tpm, ek_certificates=(*rsa.ek_certificates, *tpm.ek_certificates)))
    refusal = core.refusals("device-not-active")[0]
    assert refusal.device_id == device_id
    assert (refusal.ek_sha256, refusal.other_ek_sha256) == (rsa.ek_sha256, (tpm.ek_sha256,))


def test_a_serial_that_was_denied_before_the_device_came_is_refused_at_birth(core: Core) -> None:
    tpm, _ = core.listed("SN-DENIED")
    core.store.deny(DenyEntry("", "SN-DENIED", (), "scrapped", "alice", core.clock()))
    challenge = core.begin(tpm)
    with pytest.raises(DeniedDevice):
        core.finish(challenge, core.answer(tpm, challenge))


# -- states


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", list(Event))
def test_what_the_table_does_not_name_is_illegal(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert require_legal(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises((AlreadyConsumed, ChallengeExpired)):
            require_legal(state, event)


def test_an_answer_is_bytes_that_both_sides_can_read(core: Core) -> None:
    tpm, device_id = core.listed()
    challenge = core.begin(tpm)
    answer = core.services.enrollment.finish(challenge.enrollment_id, core.answer(tpm, challenge), STRANGER)
    assert EnrollResult.decode(answer).encode() == answer
    assert EnrollResult.decode(answer).device_id == device_id
