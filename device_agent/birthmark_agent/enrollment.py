"""Birth: the device's half of an attested enrollment.

    EnrollRequest -> Challenge -> ChallengeAnswer -> EnrollResult        (birthmark_wire.enrollment, two requests)

Trusts the pinned roots, by which the connection's server was verified, and nothing that the server says about roots:
the answer's `anchors` are not adopted. Rules: the TPM certifies only after it recovered the challenge's secret; the
answer must carry our birth key under a path to a pinned root. All of it can be done again at any time: the same TPM
makes the same keys, and the server gives back the same certificate.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_agent import csr
from birthmark_agent.birth import BadChallenge, BirthRecord, NoEndorsement
from birthmark_agent.chain import find_path
from birthmark_agent.errors import UnusableAnswer
from birthmark_agent.http import Connection
from birthmark_agent.tpm.esapi import spki_of
from birthmark_agent.tpm_protocol import DeviceTpm, KeyT
from birthmark_wire import tpm_templates
from birthmark_wire.binding import enrollment_binding
from birthmark_wire.enrollment import (
    ACTIVATION_SUFFIX,
    ENROLLMENTS_PATH,
    JSON_MIME,
    MAX_CHAIN_CERTIFICATES,
    MAX_EK_CERTIFICATES,
    Attestation,
    Challenge,
    ChallengeAnswer,
    EnrollRequest,
    EnrollResult,
)
from birthmark_wire.errors import DecodeError

_RSA_2048_SECRET_BYTES: Final = 256
_P256_SECRET_MOST_BYTES: Final = 2 + 32 + 2 + 32
_MessageT = TypeVar("_MessageT")


def enroll(
    connection: Connection,
    tpm: DeviceTpm[KeyT],
    *,
    server_name: str,
    anchors: Sequence[x509.Certificate],
    ek_template: str,
    agent: str,
) -> BirthRecord:
    """Prove this TPM to the server and return what it gave.

    server_name: the DNS name that the connection was opened to. anchors: the pinned roots, the first of which this is
    bound to. ek_template: the EK to show
    where the TPM has no EK certificate; empty for none. agent: name and version, at most 64 characters.
    Raises http's errors, TpmError, BadChallenge, NoEndorsement, est.UnusableAnswer.
    """
    with tpm.primary(tpm_templates.AK) as ak, tpm.primary(tpm_templates.BIRTH_KEY) as key:
        request = _show(tpm, ak, key, server_name=server_name, ek_template=ek_template, agent=agent)
        challenge = _post(connection, ENROLLMENTS_PATH, request.encode(), Challenge.decode)
        answer = _answer(tpm, ak, key, challenge, server_name=server_name, anchor=anchors[0])
        path = f"{ENROLLMENTS_PATH}/{challenge.enrollment_id}{ACTIVATION_SUFFIX}"
        result = _post(connection, path, answer.encode(), EnrollResult.decode)
        if result.device_id != challenge.device_id:
            raise BadChallenge(f"the challenge named {challenge.device_id}, the result names {result.device_id}")
        return _record(result, spki=key.spki, anchors=anchors)


def verify_birth_chain(
    chain: tuple[bytes, ...], *, spki: bytes, anchors: Sequence[x509.Certificate], links: Sequence[bytes] = ()
) -> tuple[bytes, ...]:
    """Return the proven chain for a birth certificate found on disk or in NV; raise est.UnusableAnswer if it is not
    for this TPM's birth key, or not under a pinned root.

    links: certificates between roots, DER. A birth certificate has no end, and may outlive the root that it is below.
    """
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in (*chain, *links)]
    except ValueError as error:
        raise UnusableAnswer(f"a certificate of the birth chain can't be read: {error}") from None
    path = find_path(certificates, spki=spki, anchors=anchors)
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in path.certificates)


def _show(
    tpm: DeviceTpm[KeyT], ak: KeyT, key: KeyT, *, server_name: str, ek_template: str, agent: str
) -> EnrollRequest:
    certificates = tuple(der for _index, der in tpm.endorsement_certificates())[:MAX_EK_CERTIFICATES]
    if not certificates and not ek_template:
        raise NoEndorsement("the TPM holds no EK certificate")
    return EnrollRequest(
        server_name=server_name,
        ek_certificates=certificates,
        ek_chain=tuple(tpm.endorsement_chain())[:MAX_CHAIN_CERTIFICATES],
        ek_public=tpm.ek_public(ek_template) if ek_template else None,
        ak_public=ak.public,
        birth_key_public=key.public,
        agent=agent,
    )


def _answer(
    tpm: DeviceTpm[KeyT], ak: KeyT, key: KeyT, challenge: Challenge, *, server_name: str, anchor: x509.Certificate
) -> ChallengeAnswer:
    ek = challenged_ek(challenge.encrypted_secret)
    secret = tpm.activate(ek, ak, challenge.credential_blob, challenge.encrypted_secret)
    request = csr.build_request(key, csr.birth_names(challenge.serial))
    q = enrollment_binding(
        enrollment_id=challenge.enrollment_id,
        nonce=challenge.nonce,
        secret=secret,
        ek_sha256=hashlib.sha256(_ek_spki(tpm, ek)).digest(),
        ak_name=ak.name,
        key_name=key.name,
        serial=challenge.serial,
        model=challenge.model,
        batch=challenge.batch,
        csr_sha256=hashlib.sha256(request).digest(),
        anchor_sha256=hashlib.sha256(anchor.public_bytes(Encoding.DER)).digest(),
        server_name=server_name,
    )
    pcrs = challenge.quote_pcrs
    return ChallengeAnswer(
        secret=secret,
        csr=request,
        certify=Attestation(*tpm.certify(key, ak, q)),
        quote=Attestation(*tpm.quote(ak, pcrs, q)) if pcrs else None,
    )


def challenged_ek(encrypted_secret: bytes) -> str:
    """Return the name of the EK template that a challenge was made for: the model fixes it, its secret's size shows it.

    RSA 2048: one RSA block. ECC: a TPMS_ECC_POINT of two sized coordinates (TPM 2.0 Library Part 1 annex C.8).
    """
    if len(encrypted_secret) == _RSA_2048_SECRET_BYTES:
        return "rsa2048"
    return "p256" if len(encrypted_secret) <= _P256_SECRET_MOST_BYTES else "p384"


def _ek_spki(tpm: DeviceTpm[KeyT], template_name: str) -> bytes:
    """Return the EK's SubjectPublicKeyInfo, DER: from its certificate where one can be read, for a TPM may take seconds
    to make an RSA EK once more."""
    der = dict(tpm.endorsement_certificates()).get(tpm_templates.EK_CERTIFICATE_NV[template_name])
    if der is not None:
        try:
            key = x509.load_der_x509_certificate(der).public_key()
            return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, UnsupportedAlgorithm):
            pass  # genuine vendors' certificates include some that `cryptography` can't read
    return spki_of(tpm.ek_public(template_name))


def _record(result: EnrollResult, *, spki: bytes, anchors: Sequence[x509.Certificate]) -> BirthRecord:
    return BirthRecord(
        device_id=result.device_id,
        trust_domain=result.trust_domain,
        chain=verify_birth_chain(result.chain, spki=spki, anchors=anchors),
        est_url=result.est_url.rstrip("/"),
        broker_host=result.broker_host,
        broker_port=result.broker_port,
    )


def _post(connection: Connection, path: str, body: bytes, decode: Callable[[bytes], _MessageT]) -> _MessageT:
    answer = connection.request("POST", path, body=body, mime=JSON_MIME, accept=JSON_MIME)
    try:
        return decode(answer.body)
    except DecodeError as error:
        raise BadChallenge(f"{path}: {error}") from None
