"""The second message: every way in which a statement, a signature or a splice may be false, and what it meets."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from attestation.enrolling import ANCHOR_SHA256, MODEL, ROOTS, SERVER, VENDOR, Exchange, answer_of, begin, enroll
from birthmark_agent.csr import birth_names, build_request
from birthmark_server.attestation import errors
from birthmark_server.domain import Assurance
from birthmark_server.errors import BirthmarkError
from birthmark_server.tpm.algorithms import ALG_RSASSA, ALG_SHA1
from birthmark_server.tpm.attest import CertifyInfo, parse_attest
from birthmark_server.tpm.errors import NotTpmGenerated, TpmDecodeError
from birthmark_server.tpm.public import Scheme
from birthmark_server.tpm.signature import EcdsaSignature, RsaSignature, parse_signature
from birthmark_server.tpm.wire import u32
from birthmark_wire.enrollment import Attestation, Challenge, ChallengeAnswer
from birthmark_wire.tpm_templates import ALG_ECDSA, ALG_SHA256, ALG_SHA384, BIRTH_KEY
from support.software_tpm import RH_OWNER, SoftwareKey, SoftwareTpm, sign_attest

QUOTING = replace(MODEL, quote_pcrs=(0, 7))


@dataclass(frozen=True)
class Scene:
    """A device in the middle of its enrollment, and the honest answer that a case makes false."""

    tpm: SoftwareTpm
    exchange: Exchange
    honest: ChallengeAnswer

    @property
    def binding(self) -> bytes:
        """What the honest statement is bound to."""
        return parse_attest(self.honest.certify.attest).extra_data


@pytest.fixture
def scene() -> Scene:
    """A device whose model requires a quote."""
    tpm = SoftwareTpm.create(VENDOR)
    exchange = begin(tpm.enroll_request(server_name=SERVER), ROOTS, model=QUOTING)
    return Scene(tpm, exchange, answer_of(tpm, exchange))


@pytest.mark.parametrize("ek", ["p256", "p384", "rsa2048"])
def test_a_genuine_tpm_of_each_ek_template_is_verified(ek: str) -> None:
    tpm = SoftwareTpm.create(VENDOR, ek=ek)
    device = enroll(tpm, ROOTS)
    assert (device.ek_sha256, device.birth_spki) == (tpm.ek_sha256, tpm.birth_key.spki)
    assert device.assurance is Assurance.VENDOR_CERTIFICATE
    assert device.firmware_version == tpm.firmware


def test_a_quote_is_proven_where_the_model_wants_one(scene: Scene) -> None:
    device = scene.exchange.judge(scene.honest)
    assert device.quote is not None
    assert (device.quote.pcrs, device.quote.pcr_digest) == ((0, 7), scene.tpm.pcr_digest)


Forge = Callable[[Scene], Attestation]


def resigned(change: Callable[[bytes], bytes]) -> Forge:
    """Change the honest statement and sign it with the AK, as an unrestricted AK would."""
    return lambda scene: sign_attest(scene.tpm.ak, change(scene.honest.certify.attest))


def unsigned(change: Callable[[bytes], bytes]) -> Forge:
    """Change the honest statement and keep its signature."""
    return lambda scene: replace(scene.honest.certify, attest=change(scene.honest.certify.attest))


def other_signature(change: Callable[[EcdsaSignature], EcdsaSignature | RsaSignature | bytes]) -> Forge:
    """Keep the statement and change its signature."""

    def forge(scene: Scene) -> Attestation:
        parsed = parse_signature(scene.honest.certify.signature)
        assert isinstance(parsed, EcdsaSignature)
        changed = change(parsed)
        return replace(scene.honest.certify, signature=changed if isinstance(changed, bytes) else changed.encode())

    return forge


def certified(name: Callable[[Scene], bytes]) -> Forge:
    """Certify another Name."""
    return lambda scene: scene.tpm.state(CertifyInfo(name(scene), scene.tpm.birth_key.qualified_name), scene.binding)


def owner_hierarchy_signer(scene: Scene) -> Attestation:
    """Be an AK of the owner hierarchy: its Qualified Name is another."""
    tpm = replace(scene.tpm, ak=replace(scene.tpm.ak, parent=u32(RH_OWNER)))
    return tpm.certify(tpm.birth_key, scene.binding)


def owner_hierarchy_key(scene: Scene) -> Attestation:
    """Certify the birth key as a primary of the owner hierarchy."""
    return scene.tpm.certify(replace(scene.tpm.birth_key, parent=u32(RH_OWNER)), scene.binding)


def bound_to(change: Callable[[bytes], bytes]) -> Forge:
    """Certify the right key over other qualifyingData."""
    return lambda scene: scene.tpm.certify(scene.tpm.birth_key, change(scene.binding))


FALSE_STATEMENTS: dict[str, tuple[Forge, type[BirthmarkError]]] = {
    "magic of no TPM": (resigned(lambda a: b"\x00TCG" + a[4:]), NotTpmGenerated),
    "type unknown": (resigned(lambda a: a[:4] + b"\x80\x19" + a[6:]), TpmDecodeError),
    "a byte too many": (resigned(lambda a: a + b"\x00"), TpmDecodeError),
    "a byte too few": (resigned(lambda a: a[:-1]), TpmDecodeError),
    "empty": (resigned(lambda a: b""), TpmDecodeError),
    "clock.safe of 2": (resigned(lambda a: a[:-81] + b"\x02" + a[-80:]), TpmDecodeError),
    "a bit flipped": (unsigned(lambda a: a[:-1] + bytes((a[-1] ^ 1,))), errors.AttestSignature),
    "signed by another AK": (
        lambda scene: sign_attest(SoftwareTpm.create(VENDOR).ak, scene.honest.certify.attest),
        errors.AttestSignature,
    ),
    "signed by the birth key": (
        lambda scene: sign_attest(
            replace(scene.tpm.birth_key, public=scene.tpm.ak.public), scene.honest.certify.attest
        ),
        errors.AttestSignature,
    ),
    "r and s of zero": (other_signature(lambda s: replace(s, r=bytes(32), s=bytes(32))), errors.AttestSignature),
    "r and s of nothing": (other_signature(lambda s: replace(s, r=b"", s=b"")), errors.AttestSignature),
    "hash of the message's choice": (
        other_signature(lambda s: replace(s, scheme=Scheme(ALG_ECDSA, ALG_SHA384))),
        errors.AttestScheme,
    ),
    "SHA-1": (other_signature(lambda s: replace(s, scheme=Scheme(ALG_ECDSA, ALG_SHA1))), errors.AttestScheme),
    "RSA signature for an ECC key": (
        other_signature(lambda _: RsaSignature(Scheme(ALG_RSASSA, ALG_SHA256), bytes(256))),
        errors.AttestScheme,
    ),
    "signature with a byte too many": (other_signature(lambda s: s.encode() + b"\x00"), TpmDecodeError),
    "signature of algorithm NULL": (other_signature(lambda _: b"\x00\x10"), TpmDecodeError),
    "HMAC signature": (other_signature(lambda _: b"\x00\x05\x00\x0b" + bytes(32)), TpmDecodeError),
    "AK of the owner hierarchy": (owner_hierarchy_signer, errors.AttestSigner),
    "bound to nothing": (bound_to(lambda _: b""), errors.AttestBinding),
    "bound to a prefix": (bound_to(lambda q: q[:31]), errors.AttestBinding),
    "bound to more": (bound_to(lambda q: q + b"\x00\x00"), errors.AttestBinding),
    "bound to the nonce alone": (
        lambda s: s.tpm.certify(s.tpm.birth_key, s.exchange.pending.nonce),
        errors.AttestBinding,
    ),
    "a quote": (lambda scene: scene.tpm.quote((0, 7), scene.binding), errors.AttestType),
    "another key's Name": (
        certified(lambda _: SoftwareKey.create(BIRTH_KEY).public.name()),
        errors.CertifiedName,
    ),
    "the AK's own Name": (certified(lambda scene: scene.tpm.ak.public.name()), errors.CertifiedName),
    "no Name": (certified(lambda _: b""), errors.CertifiedName),
    "the digest without nameAlg": (
        certified(lambda scene: scene.tpm.birth_key.public.name()[2:]),
        errors.CertifiedName,
    ),
    "nameAlg of another hash": (
        certified(lambda scene: b"\x00\x0c" + scene.tpm.birth_key.public.name()[2:]),
        errors.CertifiedName,
    ),
    "a birth key of the owner hierarchy": (owner_hierarchy_key, errors.NotEndorsementPrimary),
}


@pytest.mark.parametrize("case", FALSE_STATEMENTS)
def test_a_false_statement_is_refused(scene: Scene, case: str) -> None:
    forge, wanted = FALSE_STATEMENTS[case]
    with pytest.raises(wanted) as caught:
        scene.exchange.judge(replace(scene.honest, certify=forge(scene)))
    assert type(caught.value) is wanted


FALSE_QUOTES: dict[str, tuple[Callable[[Scene], Attestation | None], type[BirthmarkError]]] = {
    "no quote": (lambda _: None, errors.QuoteMissing),
    "fewer PCRs": (lambda scene: scene.tpm.quote((0,), scene.binding), errors.QuotePcrs),
    "more PCRs": (lambda scene: scene.tpm.quote((0, 1, 7), scene.binding), errors.QuotePcrs),
    "no PCRs": (lambda scene: scene.tpm.quote((), scene.binding), errors.QuotePcrs),
    "stale": (lambda scene: scene.tpm.quote((0, 7), bytes(32)), errors.AttestBinding),
    "the certify statement": (lambda scene: scene.honest.certify, errors.AttestType),
    "another TPM's": (lambda scene: SoftwareTpm.create(VENDOR).quote((0, 7), scene.binding), errors.AttestSignature),
}


@pytest.mark.parametrize("case", FALSE_QUOTES)
def test_a_false_quote_is_refused(scene: Scene, case: str) -> None:
    forge, wanted = FALSE_QUOTES[case]
    with pytest.raises(wanted):
        scene.exchange.judge(replace(scene.honest, quote=forge(scene)))


def test_a_quote_of_the_sha1_bank_is_refused(scene: Scene) -> None:
    honest = scene.honest.quote
    assert honest is not None
    sha1_bank = honest.attest.replace(b"\x00\x00\x00\x01\x00\x0b\x03", b"\x00\x00\x00\x01\x00\x04\x03")
    assert sha1_bank != honest.attest
    with pytest.raises(errors.QuotePcrs):
        scene.exchange.judge(replace(scene.honest, quote=sign_attest(scene.tpm.ak, sha1_bank)))


OTHER_EXCHANGES: dict[str, Callable[[Challenge], Challenge]] = {
    "another enrollment": lambda c: replace(c, enrollment_id="e-2"),
    "another nonce": lambda c: replace(c, nonce=bytes(32)),
    "another serial": lambda c: replace(c, serial="SN-2"),
    "another model": lambda c: replace(c, model="gateway2"),
    "another batch": lambda c: replace(c, batch="lot-1"),
    "a character moved from model to serial": lambda c: replace(c, serial="SN-1g", model="ateway"),
    "a character moved from model to batch": lambda c: replace(c, model="gatewa", batch="y"),
}


@pytest.mark.parametrize("case", OTHER_EXCHANGES)
def test_an_answer_for_another_exchange_is_refused(scene: Scene, case: str) -> None:
    other = OTHER_EXCHANGES[case](scene.exchange.challenge)
    answer = scene.tpm.answer(other, anchor_sha256=ANCHOR_SHA256, server_name=SERVER)
    with pytest.raises(errors.AttestBinding):
        scene.exchange.judge(answer)


def test_an_answer_to_another_server_name_or_anchor_is_refused(scene: Scene) -> None:
    challenge = scene.exchange.challenge
    for answer in (
        scene.tpm.answer(challenge, anchor_sha256=ANCHOR_SHA256, server_name="evil.example"),
        scene.tpm.answer(challenge, anchor_sha256=bytes(32), server_name=SERVER),
    ):
        with pytest.raises(errors.AttestBinding):
            scene.exchange.judge(answer)


def test_a_csr_swapped_after_certifying_is_refused(scene: Scene) -> None:
    for key in (SoftwareKey.create(BIRTH_KEY), scene.tpm.birth_key):
        with pytest.raises(errors.AttestBinding):
            scene.exchange.judge(replace(scene.honest, csr=build_request(key, birth_names("SN-9"))))


def test_a_csr_of_another_key_is_refused_even_if_the_tpm_bound_it(scene: Scene) -> None:
    other = replace(scene.tpm, birth_key=SoftwareKey(scene.tpm.ak.private, scene.tpm.birth_key.public))
    with pytest.raises(errors.CsrKey):
        scene.exchange.judge(answer_of(other, scene.exchange))


@pytest.mark.parametrize("secret", [b"", bytes(32), b"s" * 32])
def test_a_guessed_secret_is_refused_first(scene: Scene, secret: bytes) -> None:
    with pytest.raises(errors.ActivationSecret):
        scene.exchange.judge(replace(scene.honest, secret=secret))


def test_an_ak_that_lives_elsewhere_can_not_open_the_credential() -> None:
    genuine, elsewhere = SoftwareTpm.create(VENDOR), SoftwareTpm.create(VENDOR)
    spliced = replace(genuine, ak=elsewhere.ak, birth_key=elsewhere.birth_key)
    exchange = begin(spliced.enroll_request(server_name=SERVER), ROOTS)
    blob, wrapped = exchange.challenge.credential_blob, exchange.challenge.encrypted_secret
    for tpm in (genuine, elsewhere):
        with pytest.raises(ValueError, match="INTEGRITY"):
            tpm.activate(blob, wrapped)


def test_one_device_s_answer_does_not_finish_another_s_enrollment() -> None:
    one, two = SoftwareTpm.create(VENDOR), SoftwareTpm.create(VENDOR)
    first = begin(one.enroll_request(server_name=SERVER), ROOTS)
    second = begin(two.enroll_request(server_name=SERVER), ROOTS)
    with pytest.raises(errors.ActivationSecret):
        first.judge(answer_of(two, second))


@pytest.mark.parametrize("part", ["ek_sha256", "ak_name", "key_name"])
def test_a_record_that_does_not_fit_its_request_is_refused(scene: Scene, part: str) -> None:
    value: object = "00" * 32 if part == "ek_sha256" else b"\x00\x0b" + bytes(32)
    pending = replace(scene.exchange.pending, **{part: value})  # type: ignore[arg-type]  # the table names the field
    with pytest.raises(errors.EnrollmentMismatch):
        replace(scene.exchange, pending=pending).judge(scene.honest)


def test_two_challenges_are_never_equal() -> None:
    request = SoftwareTpm.create(VENDOR).enroll_request(server_name=SERVER)
    challenges = [begin(request, ROOTS).challenge for _ in range(8)]
    assert len({challenge.credential_blob for challenge in challenges}) == 8
    assert len({challenge.encrypted_secret for challenge in challenges}) == 8
