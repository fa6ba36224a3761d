"""The attestation, from top to bottom: endorsement key -> attestation key -> birth key -> CSR.

    open_challenge      EK proven, AK and birth key judged by their public areas: here is what only that TPM can open
    verify_activation   it was opened: the AK lives beside the EK, certifies the birth key, and the CSR carries that key
    verify_new_key      later: the AK on record certifies the key of a renewal

Each step's proof is a value that only the step can build, and each raises what it refuses. No clock, no randomness and
no I/O of its own: the same bytes give the same answer years later (evidence.py).
"""

import hashlib
import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Final

from birthmark_server.attestation import evidence as records
from birthmark_server.attestation.ak import AttestationKey, check_ak, verify_statement
from birthmark_server.attestation.csr import VerifiedCsr, verify_csr
from birthmark_server.attestation.device_key import DeviceKey, check_device_public, match_certified
from birthmark_server.attestation.ek import ProvenEndorsement, VersionedRoots, verify_endorsement
from birthmark_server.attestation.errors import (
    ActivationSecret,
    CsrEvidenceMissing,
    CsrKey,
    EnrollmentMismatch,
    FirmwareRefused,
    KeysNotDistinct,
    NotEndorsementPrimary,
    QuoteMissing,
)
from birthmark_server.attestation.quote import VerifiedQuote, verify_quote
from birthmark_server.attestation.vendor import Vendor, write_firmware
from birthmark_server.domain import Assurance, DeviceModel, Evidence, PendingEnrollment
from birthmark_server.tpm.credential import EncryptedCredential, make_credential
from birthmark_server.tpm.public import PublicKey
from birthmark_wire.binding import enrollment_binding, renewal_binding
from birthmark_wire.enrollment import ChallengeAnswer, EnrollRequest

VERIFIER_VERSION: Final = "1"
"""Rises with every change of what is accepted or refused; stands in every decision's evidence."""

_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class OpenedChallenge:
    """What the device must open, and the Names that the challenge is bound to."""

    credential: EncryptedCredential
    ak_name: bytes
    key_name: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedDevice:
    """A device whose birth key lives in the TPM of a proven endorsement key. Only `verify_activation` builds one.

    other_ek_sha256: EKs shown beside the proven one: claims, which prove nothing (ADR 0036). ek_certificate: DER, None
    where only a manifest vouched for the EK. birth_spki: SubjectPublicKeyInfo, DER. ak_public: TPMT_PUBLIC, to be kept
    for renewals. quote: None where the model wants none. evidence: every byte that this rests on.
    """

    device_id: str
    serial: str
    model: str
    batch: str
    ek_sha256: str
    other_ek_sha256: tuple[str, ...]
    ek_certificate: bytes | None
    assurance: Assurance
    manufacturer: str
    firmware_version: int
    ak_public: bytes
    birth_key: PublicKey
    birth_spki: bytes
    quote: VerifiedQuote | None
    evidence: Evidence
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        """Refuse to be built by anyone else."""
        if seal is not _SEAL:
            raise TypeError("only verify_activation makes a VerifiedDevice")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedKey:
    """A new key that lives in the TPM of the AK on record. Only `verify_new_key` builds one."""

    key: PublicKey
    spki: bytes
    evidence: Evidence
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        """Refuse to be built by anyone else."""
        if seal is not _SEAL:
            raise TypeError("only verify_new_key makes a VerifiedKey")


@lru_cache(maxsize=256)
def read_request(body: bytes) -> EnrollRequest:
    """Read the first request of an enrollment or raise DecodeError; remembered, since its answer needs it again."""
    return EnrollRequest.decode(body)


def open_challenge(
    request: EnrollRequest,
    *,
    endorsement: ProvenEndorsement,
    secret: bytes,
    random: Callable[[int], bytes] = os.urandom,
) -> OpenedChallenge:
    """Encrypt `secret` (16..32 bytes) to the EK, for the AK; judge AK and birth key by their public areas first.

    Raises TpmDecodeError, UnsupportedKey or a Refused of attestation.errors.
    """
    ak, key = _check_keys(request, endorsement)
    credential = make_credential(endorsement.public, ak.name, secret, random=random)
    return OpenedChallenge(credential=credential, ak_name=ak.name, key_name=key.name)


def verify_activation(
    pending: PendingEnrollment,
    answer: ChallengeAnswer,
    *,
    model: DeviceModel,
    roots: VersionedRoots,
    listed_ek: frozenset[str],
    anchors_sha256: Sequence[bytes],
    now: datetime,
) -> VerifiedDevice:
    """Prove that the device which was challenged holds EK, AK and birth key in one TPM, and that the CSR is its own.

    anchors_sha256: of the root certificates, DER, of which the device pins one; at least one. The endorsement is proven
    again, so a root or a listing that was withdrawn since the challenge counts. Whether `pending` is unexpired and
    unused, and the device welcome, is the caller's question.
    """
    request = read_request(pending.request)
    endorsement = verify_endorsement(request, model=model, roots=roots, listed_ek=listed_ek, now=now)
    ak, key = _check_keys(request, endorsement)
    if (endorsement.ek_sha256, ak.name, key.name) != (pending.ek_sha256, pending.ak_name, pending.key_name):
        raise EnrollmentMismatch("the recorded request shows other keys than the challenge was made for")

    # The AK lives beside the EK: only their TPM could open the credential.
    if not hmac.compare_digest(hashlib.sha256(answer.secret).digest(), pending.secret_sha256):
        raise ActivationSecret("the secret is not the one in the credential")

    bind = partial(
        enrollment_binding,
        enrollment_id=pending.enrollment_id,
        nonce=pending.nonce,
        secret=answer.secret,
        ek_sha256=bytes.fromhex(endorsement.ek_sha256),
        ak_name=ak.name,
        key_name=key.name,
        serial=pending.serial,
        model=pending.model,
        batch=pending.batch,
        csr_sha256=hashlib.sha256(answer.csr).digest(),
        server_name=request.server_name,
    )
    anchor_sha256, binding = _pinned(anchors_sha256, bind, answer.certify.attest)

    # The AK states, for this exchange alone, that the birth key lives in the same TPM, in the endorsement hierarchy.
    statement = verify_statement(
        ak, attest=answer.certify.attest, signature=answer.certify.signature, qualifying_data=binding
    )
    certified = match_certified(statement, key)
    if not hmac.compare_digest(certified.qualified_name, key.public.endorsement_primary_name()):
        raise NotEndorsementPrimary("the birth key is no primary of the endorsement hierarchy")
    _check_firmware(endorsement.vendor, statement.firmware_version)
    quote = _verify_quote(ak, answer, binding, model)

    # The CSR carries that very key, and whoever wrote it can use the key.
    csr = verify_csr(answer.csr)
    if not hmac.compare_digest(csr.spki, key.spki()):
        raise CsrKey("the CSR carries another key than the birth key")

    return VerifiedDevice(
        device_id=pending.device_id,
        serial=pending.serial,
        model=pending.model,
        batch=pending.batch,
        ek_sha256=endorsement.ek_sha256,
        other_ek_sha256=endorsement.other_ek_sha256,
        ek_certificate=endorsement.ek_certificate,
        assurance=endorsement.assurance,
        manufacturer=endorsement.manufacturer,
        firmware_version=statement.firmware_version,
        ak_public=request.ak_public,
        birth_key=key.key,
        birth_spki=csr.spki,
        quote=quote,
        evidence=records.of_activation(
            pending,
            answer,
            endorsement=endorsement,
            model=model,
            listed=endorsement.ek_sha256 in listed_ek,
            anchor_sha256=anchor_sha256,
            now=now,
            verifier_version=VERIFIER_VERSION,
        ),
        seal=_SEAL,
    )


def verify_new_key(
    csr: VerifiedCsr,
    *,
    ak_public: bytes,
    nonce: bytes,
    device_id: str,
    client_certificate: bytes,
    job_id: str = "",
) -> VerifiedKey:
    """Prove that the CSR's key lives in the TPM whose AK is on record, by the statement that the CSR carries.

    ak_public: TPMT_PUBLIC from the device's record. nonce: the one that this device was given. client_certificate: of
    the TLS connection, DER. That the nonce is this device's, fresh and unused is the caller's question.
    """
    if csr.statement is None:
        raise CsrEvidenceMissing("want the attribute id-aa-attestation with a TPM2_Certify statement")
    ak, key = check_ak(ak_public), check_device_public(csr.statement.public)
    binding = renewal_binding(
        nonce=nonce,
        device_id=device_id,
        client_certificate_sha256=hashlib.sha256(client_certificate).digest(),
        spki=csr.spki,
        subject=csr.subject,
        subject_alt_name=csr.subject_alt_name,
        job_id=job_id,
    )
    statement = verify_statement(
        ak, attest=csr.statement.attest, signature=csr.statement.signature, qualifying_data=binding
    )
    match_certified(statement, key)
    if not hmac.compare_digest(csr.spki, key.spki()):
        raise CsrKey("the CSR carries another key than the certified one")
    return VerifiedKey(
        key=key.key,
        spki=csr.spki,
        evidence=records.of_renewal(
            csr,
            ak_public=ak_public,
            nonce=nonce,
            device_id=device_id,
            client_certificate=client_certificate,
            job_id=job_id,
            verifier_version=VERIFIER_VERSION,
        ),
        seal=_SEAL,
    )


def _pinned(anchors: Sequence[bytes], bind: Callable[..., bytes], attest: bytes) -> tuple[bytes, bytes]:
    """Return the anchor by which the statement seems to be bound, with the Q that it must then be over; the first one
    where it is none of them. Proves nothing: verify_statement does."""
    bound = [(anchor, bind(anchor_sha256=anchor)) for anchor in anchors]
    return next(((anchor, binding) for anchor, binding in bound if binding in attest), bound[0])


def _check_keys(request: EnrollRequest, endorsement: ProvenEndorsement) -> tuple[AttestationKey, DeviceKey]:
    ak, key = check_ak(request.ak_public), check_device_public(request.birth_key_public)
    if endorsement.public.key in (ak.public.key, key.public.key) or ak.public.key == key.public.key:
        raise KeysNotDistinct("endorsement, attestation and birth key are not three different keys")
    return ak, key


def _check_firmware(vendor: Vendor | None, version: int) -> None:
    refused = None if vendor is None else vendor.refusal_of(version)
    if refused is not None:
        raise FirmwareRefused(f"TPM firmware {write_firmware(version)} is refused: {refused.why}")


def _verify_quote(
    ak: AttestationKey, answer: ChallengeAnswer, binding: bytes, model: DeviceModel
) -> VerifiedQuote | None:
    if not model.quote_pcrs:
        return None
    if answer.quote is None:
        raise QuoteMissing(f"model {model.name} requires a quote over PCRs {model.quote_pcrs}")
    return verify_quote(
        ak,
        attest=answer.quote.attest,
        signature=answer.quote.signature,
        qualifying_data=binding,
        pcrs=model.quote_pcrs,
    )
