"""One enrollment as the server's core would run it, for the tests of this folder: each step can be tampered with."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_server.attestation.ek import ProvenEndorsement, verify_endorsement
from birthmark_server.attestation.roots import TrustStore
from birthmark_server.attestation.verify import VerifiedDevice, open_challenge, verify_activation
from birthmark_server.domain import DeviceModel, PendingEnrollment
from birthmark_wire.enrollment import Challenge, ChallengeAnswer, EnrollRequest
from support.software_tpm import SoftwareTpm
from support.tpm_vendor import VendorCa, build_ca

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SERVER = "enroll.example"
ANCHOR_SHA256 = hashlib.sha256(b"root").digest()
MODEL = DeviceModel(name="gateway", ek_template="p256")
NO_EKS: frozenset[str] = frozenset()
VENDOR = VendorCa.create()
ROOTS = VENDOR.trust_store()
EK_KEY = ec.generate_private_key(ec.SECP256R1())
FOREIGN = VendorCa.create("Foreign")
"""A vendor that ROOTS does not trust."""
IMPOSTOR = build_ca("Test TPM Vendor Root CA")
"""A CA that calls itself what VENDOR's root is called."""
FORGED = build_ca("Test TPM Vendor EK CA 1", issuer=IMPOSTOR)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


def prove_ek(
    request: EnrollRequest,
    *,
    roots: TrustStore = ROOTS,
    model: DeviceModel = MODEL,
    listed_ek: frozenset[str] = NO_EKS,
    now: datetime = NOW,
) -> ProvenEndorsement:
    """Let the verifier judge the endorsement key of a request."""
    return verify_endorsement(request, model=model, roots=roots, listed_ek=listed_ek, now=now)


def showing(*certificates: bytes, chain: Sequence[bytes] = VENDOR.chain) -> EnrollRequest:
    """Return the request of a device that shows these EK certificates, of EK_KEY or others, and no public area."""
    request = SoftwareTpm.create(VENDOR, ek_key=EK_KEY).enroll_request(server_name=SERVER)
    return replace(request, ek_certificates=certificates, ek_chain=tuple(chain), ek_public=None)


@dataclass(frozen=True)
class Exchange:
    """What server and device hold after the first round trip."""

    pending: PendingEnrollment
    challenge: Challenge
    model: DeviceModel
    roots: TrustStore
    listed_ek: frozenset[str]
    now: datetime

    def judge(self, answer: ChallengeAnswer, *, anchor_sha256: bytes = ANCHOR_SHA256) -> VerifiedDevice:
        """Let the server judge an answer."""
        return verify_activation(
            self.pending,
            answer,
            model=self.model,
            roots=self.roots,
            listed_ek=self.listed_ek,
            anchors_sha256=[anchor_sha256],
            now=self.now,
        )


def begin(
    request: EnrollRequest,
    roots: TrustStore,
    *,
    model: DeviceModel = MODEL,
    listed_ek: frozenset[str] = NO_EKS,
    now: datetime = NOW,
) -> Exchange:
    """Run the first round trip."""
    endorsement = prove_ek(request, roots=roots, model=model, listed_ek=listed_ek, now=now)
    secret, nonce = os.urandom(32), os.urandom(32)
    opened = open_challenge(request, endorsement=endorsement, secret=secret)
    pending = PendingEnrollment(
        enrollment_id="e-1",
        source="192.0.2.1",
        station="",
        request=request.encode(),
        nonce=nonce,
        secret_sha256=hashlib.sha256(secret).digest(),
        ek_sha256=endorsement.ek_sha256,
        other_ek_sha256=endorsement.other_ek_sha256,
        ak_name=opened.ak_name,
        key_name=opened.key_name,
        assurance=endorsement.assurance,
        device_id="dev-1",
        serial="SN-1",
        model=model.name,
        batch="",
        epoch=0,
        created_at=now,
        expires_at=now + timedelta(minutes=5),
    )
    challenge = Challenge(
        enrollment_id=pending.enrollment_id,
        nonce=nonce,
        credential_blob=opened.credential.id_object,
        encrypted_secret=opened.credential.encrypted_secret,
        quote_pcrs=model.quote_pcrs,
        device_id=pending.device_id,
        serial=pending.serial,
        model=pending.model,
        batch=pending.batch,
        expires_in_s=300,
    )
    return Exchange(pending, challenge, model, roots, listed_ek, now)


def answer_of(tpm: SoftwareTpm, exchange: Exchange) -> ChallengeAnswer:
    """Let the device answer as it should."""
    return tpm.answer(exchange.challenge, anchor_sha256=ANCHOR_SHA256, server_name=SERVER)


def enroll(tpm: SoftwareTpm, roots: TrustStore, *, model: DeviceModel = MODEL) -> VerifiedDevice:
    """Run both round trips."""
    exchange = begin(tpm.enroll_request(server_name=SERVER), roots, model=replace(model, ek_template=tpm.ek_template))
    return exchange.judge(answer_of(tpm, exchange))
