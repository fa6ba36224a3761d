"""The verifier against a real TPM 2.0 implementation, and against tpm2-pytss where it has the same thing to say."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_SE,
    TPM2B_DATA,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_NAME,
    TPM2B_PUBLIC,
    TPMT_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
    TSS2_Exception,
)
from tpm2_pytss.utils import NoSuchIndex, create_ek_template
from tpm2_pytss.utils import make_credential as pytss_make_credential

from attestation.enrolling import ANCHOR_SHA256, SERVER, Exchange, begin
from birthmark_agent.csr import birth_names, build_request
from birthmark_agent.tpm.device import Tpm
from birthmark_server.attestation.ak import check_ak, verify_statement
from birthmark_server.attestation.roots import INTERMEDIATES, ROOTS, VENDOR_FILE, TrustStore
from birthmark_server.attestation.vendor import Vendor, write_vendor
from birthmark_server.domain import Assurance, DeviceModel
from birthmark_server.tpm.attest import parse_attest
from birthmark_server.tpm.credential import make_credential
from birthmark_server.tpm.public import parse_public
from birthmark_wire.binding import enrollment_binding
from birthmark_wire.enrollment import Attestation, ChallengeAnswer, EnrollRequest
from birthmark_wire.tpm_templates import AK, BIRTH_KEY, EK_TEMPLATES
from support.software_tpm import SoftwareKey
from support.swtpm import Swtpm, VendorCa

pytestmark = pytest.mark.parts

SWTPM_MANUFACTURER = "id:00001014"  # libtpms: IBM
TPM_PT_FIRMWARE_VERSION_1 = 0x10B
PYTSS_NAMES = {"rsa2048": "EK-RSA2048", "p256": "EK-ECC256", "p384": "EK-HIGH-ECC384"}


@pytest.fixture
def tpm(swtpm: Swtpm) -> Iterator[Tpm]:
    """An open TPM as it left its vendor."""
    with Tpm.open(swtpm.tcti) as opened:
        yield opened


def swtpm_files(vendor: VendorCa) -> dict[str, bytes]:
    """Return the files of a trust store with swtpm's CA."""
    entry = Vendor(name="swtpm", manufacturers=frozenset((SWTPM_MANUFACTURER,)))
    return {f"swtpm/{VENDOR_FILE}": write_vendor(entry), f"swtpm/{ROOTS}/root.pem": vendor.root_pem.read_bytes()}


def roots_of(vendor: VendorCa, *, keep_intermediate: bool = False) -> TrustStore:
    """Return a trust store with swtpm's CA."""
    files = swtpm_files(vendor)
    if keep_intermediate:
        files[f"swtpm/{INTERMEDIATES}/ca.pem"] = vendor.intermediate_pem.read_bytes()
    return TrustStore.from_files(files)


def request_of(tpm: Tpm, ek: str, *, with_certificates: bool = True) -> EnrollRequest:
    """Return the first message of an enrollment by a real TPM."""
    with tpm.primary(AK) as ak, tpm.primary(BIRTH_KEY) as key:
        return EnrollRequest(
            server_name=SERVER,
            ek_certificates=tuple(der for _, der in tpm.endorsement_certificates()) if with_certificates else (),
            ek_chain=tpm.endorsement_chain() if with_certificates else (),
            ek_public=tpm.ek_public(ek),
            ak_public=ak.public,
            birth_key_public=key.public,
            agent="test",
        )


def answer_of(tpm: Tpm, exchange: Exchange) -> ChallengeAnswer:
    """Return the second message of an enrollment by a real TPM."""
    challenge = exchange.challenge
    with tpm.primary(AK) as ak, tpm.primary(BIRTH_KEY) as key:
        secret = tpm.activate(exchange.model.ek_template, ak, challenge.credential_blob, challenge.encrypted_secret)
        csr = build_request(key, birth_names(challenge.serial))
        binding = enrollment_binding(
            enrollment_id=challenge.enrollment_id,
            nonce=challenge.nonce,
            secret=secret,
            ek_sha256=bytes.fromhex(exchange.pending.ek_sha256),
            ak_name=ak.name,
            key_name=key.name,
            serial=challenge.serial,
            model=challenge.model,
            batch=challenge.batch,
            csr_sha256=hashlib.sha256(csr).digest(),
            anchor_sha256=ANCHOR_SHA256,
            server_name=SERVER,
        )
        certify = Attestation(*tpm.certify(key, ak, binding))
        pcrs = challenge.quote_pcrs
        quote = Attestation(*tpm.quote(ak, pcrs, binding)) if pcrs else None
    return ChallengeAnswer(secret=secret, csr=csr, certify=certify, quote=quote)


@pytest.mark.parametrize("ek", ["rsa2048", "p384"])
def test_a_tpm_with_certificates_is_verified_with_its_quote(tpm: Tpm, vendor_ca: VendorCa, ek: str) -> None:
    model = DeviceModel(name="gateway", ek_template=ek, quote_pcrs=(0, 7, 23))
    exchange = begin(request_of(tpm, ek), roots_of(vendor_ca), model=model, now=datetime.now(UTC))
    device = exchange.judge(answer_of(tpm, exchange))
    assert device.assurance is Assurance.VENDOR_CERTIFICATE
    assert device.manufacturer == SWTPM_MANUFACTURER
    assert len(device.other_ek_sha256) == 1
    assert device.quote is not None
    assert device.quote.pcrs == (0, 7, 23)
    assert device.quote.firmware_version == device.firmware_version


def test_a_tpm_whose_key_the_manifest_lists_is_verified_without_a_certificate(tpm: Tpm, vendor_ca: VendorCa) -> None:
    request = request_of(tpm, "p256", with_certificates=False)
    assert request.ek_public is not None
    listed = frozenset((hashlib.sha256(parse_public(request.ek_public).spki()).hexdigest(),))
    model = DeviceModel(name="old", ek_template="p256", require_ek_certificate=False)
    exchange = begin(request, roots_of(vendor_ca), model=model, listed_ek=listed)
    assert exchange.judge(answer_of(tpm, exchange)).assurance is Assurance.LISTED_KEY


def test_an_intermediate_that_the_operator_keeps_completes_the_path(tpm: Tpm, vendor_ca: VendorCa) -> None:
    request = request_of(tpm, "rsa2048")
    model = DeviceModel(name="gateway", ek_template="rsa2048")
    roots = roots_of(vendor_ca, keep_intermediate=True)
    begin(replace(request, ek_chain=()), roots, model=model, now=datetime.now(UTC))


@pytest.mark.parametrize("ek", sorted(EK_TEMPLATES))
def test_our_ek_template_is_the_one_of_tpm2_pytss(ek: str) -> None:
    def no_nonce_and_no_template(index: int) -> bytes:
        if index in (0x01C00002, 0x01C0000A, 0x01C00016):
            return b"certificate"
        raise NoSuchIndex(index)

    _, template = create_ek_template(PYTSS_NAMES[ek], no_nonce_and_no_template)
    assert template.publicArea.marshal() == EK_TEMPLATES[ek]


@pytest.mark.parametrize("ek", ["rsa2048", "p384"])
def test_our_ek_template_makes_the_key_in_the_ek_certificate(tpm: Tpm, ek: str) -> None:
    index = {"rsa2048": 0x01C00002, "p384": 0x01C00016}[ek]
    certificate = x509.load_der_x509_certificate(dict(tpm.endorsement_certificates())[index])
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert parse_public(tpm.ek_public(ek)).spki() == key


@pytest.mark.parametrize("ek", sorted(EK_TEMPLATES))
def test_the_public_area_rebuilt_from_the_key_is_the_tpm_s_own(tpm: Tpm, ek: str) -> None:
    shown = tpm.ek_public(ek)
    rebuilt = parse_public(EK_TEMPLATES[ek]).with_key(parse_public(shown).public_key())
    assert rebuilt.encode() == shown


@pytest.mark.parametrize("ek", sorted(EK_TEMPLATES))
def test_the_tpm_opens_our_credentials_as_those_of_tpm2_pytss(tpm: Tpm, ek: str) -> None:
    public, secret = tpm.ek_public(ek), os.urandom(32)
    with tpm.primary(AK) as ak:
        ours = make_credential(parse_public(public), ak.name, secret)
        assert tpm.activate(ek, ak, ours.id_object, ours.encrypted_secret) == secret
        area, _ = TPMT_PUBLIC.unmarshal(public)
        blob, wrapped = pytss_make_credential(TPM2B_PUBLIC(publicArea=area), secret, TPM2B_NAME(ak.name))
        assert len(bytes(blob)) == len(ours.id_object)
        assert len(bytes(wrapped)) == len(ours.encrypted_secret)


def test_a_credential_for_another_ak_stays_closed(tpm: Tpm) -> None:
    public = tpm.ek_public("p256")
    with tpm.primary(AK) as ak, tpm.primary(BIRTH_KEY) as key:
        other = make_credential(parse_public(public), key.name, os.urandom(32))
        with pytest.raises(Exception, match=r"(?i)integrity"):
            tpm.activate("p256", ak, other.id_object, other.encrypted_secret)


def test_names_and_qualified_names_are_those_of_the_tpm(tpm: Tpm) -> None:
    with tpm.primary(AK) as ak, tpm.primary(BIRTH_KEY) as key:
        area, _ = TPMT_PUBLIC.unmarshal(key.public)
        assert parse_public(key.public).name() == bytes(TPM2B_PUBLIC(publicArea=area).get_name())
        attest, signature = tpm.certify(key, ak, b"q" * 32)
        public = ak.public
    statement = verify_statement(check_ak(public), attest=attest, signature=signature, qualifying_data=b"q" * 32)
    assert statement.encode() == attest


# -- what this design rests on, held against the TPM itself (docs/attestation.md)


def test_a_software_key_that_claims_to_be_an_ak_can_not_open_a_credential(swtpm: Swtpm) -> None:
    """A key loaded by its public area alone may say fixedTPM and restricted; the TPM does nothing for it."""
    claimed = SoftwareKey.create(AK).public.encode()
    with Tpm.open(swtpm.tcti) as tpm:
        ek_public = tpm.ek_public("rsa2048")
    made = make_credential(parse_public(ek_public), parse_public(claimed).name(), os.urandom(32))

    def activate(esapi: ESAPI) -> bytes:
        area, _ = TPMT_PUBLIC.unmarshal(claimed)
        ak = esapi.load_external(TPM2B_PUBLIC(publicArea=area))
        template, _ = TPMT_PUBLIC.unmarshal(EK_TEMPLATES["rsa2048"])
        ek, *_ = esapi.create_primary(None, TPM2B_PUBLIC(publicArea=template), ESYS_TR.RH_ENDORSEMENT)
        session = esapi.start_auth_session(
            ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL), TPM2_ALG.SHA256
        )
        esapi.policy_secret(ESYS_TR.RH_ENDORSEMENT, session, b"", b"", b"")
        blob, wrapped = TPM2B_ID_OBJECT(made.id_object), TPM2B_ENCRYPTED_SECRET(made.encrypted_secret)
        return bytes(esapi.activate_credential(ak, ek, blob, wrapped, session2=session))

    with pytest.raises(TSS2_Exception, match=r"authPolicy|auth"):
        swtpm.do(activate)


def test_only_an_ak_of_the_endorsement_hierarchy_states_the_true_firmware_version(swtpm: Swtpm) -> None:
    def firmware(hierarchy: ESYS_TR) -> Callable[[ESAPI], int]:
        def quote(esapi: ESAPI) -> int:
            template, _ = TPMT_PUBLIC.unmarshal(AK)
            ak, *_ = esapi.create_primary(None, TPM2B_PUBLIC(publicArea=template), hierarchy)
            quoted, _ = esapi.quote(ak, "sha256:0", TPM2B_DATA(b"q"), TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL))
            return parse_attest(bytes(quoted)).firmware_version

        return quote

    def true_version(esapi: ESAPI) -> int:
        _, capability = esapi.get_capability(TPM2_CAP.TPM_PROPERTIES, TPM_PT_FIRMWARE_VERSION_1, 2)
        high, low = (int(item.value) for item in capability.data.tpmProperties)
        return high << 32 | low

    true = swtpm.do(true_version)
    assert swtpm.do(firmware(ESYS_TR.RH_ENDORSEMENT)) == true
    assert swtpm.do(firmware(ESYS_TR.RH_OWNER)) != true
