"""Every byte that a decision rested on, named, so that it can be judged again years later (replay.py)."""

import json
from datetime import datetime
from typing import Final

from birthmark_server.attestation.csr import VerifiedCsr
from birthmark_server.attestation.ek import ProvenEndorsement
from birthmark_server.domain import DeviceModel, Evidence, PendingEnrollment
from birthmark_wire.enrollment import ChallengeAnswer

ACTIVATION: Final = "activation"
RENEWAL: Final = "renewal"


def of_activation(
    pending: PendingEnrollment,
    answer: ChallengeAnswer,
    *,
    endorsement: ProvenEndorsement,
    model: DeviceModel,
    listed: bool,
    anchor_sha256: bytes,
    now: datetime,
    verifier_version: str,
) -> Evidence:
    """Return the evidence of one activation: what was asked, what was answered, and by which rules it was judged."""
    policy = {
        "ek_template": model.ek_template,
        "require_ek_certificate": model.require_ek_certificate,
        "quote_pcrs": model.quote_pcrs,
        "manufacturers": model.manufacturers,
        "ek_listed": [endorsement.ek_sha256] if listed else [],
    }
    parts = [
        ("judged-at", now.isoformat().encode()),
        ("policy", json.dumps(policy, separators=(",", ":")).encode()),
        ("enrollment-id", pending.enrollment_id.encode()),
        ("device-id", pending.device_id.encode()),
        ("serial", pending.serial.encode()),
        ("model", pending.model.encode()),
        ("batch", pending.batch.encode()),
        ("source", pending.source.encode()),
        ("station", pending.station.encode()),
        ("request", pending.request),
        ("nonce", pending.nonce),
        ("secret", answer.secret),
        ("csr", answer.csr),
        ("certify", answer.certify.attest),
        ("certify-signature", answer.certify.signature),
        ("anchor-sha256", anchor_sha256),
    ]
    if answer.quote is not None:
        parts += [("quote", answer.quote.attest), ("quote-signature", answer.quote.signature)]
    if endorsement.path is not None:
        parts += [("intermediate", certificate.der) for certificate in endorsement.path.intermediates]
        parts += [("root", endorsement.path.anchor.certificate.der)]
    return Evidence(ACTIVATION, verifier_version, endorsement.roots_version, tuple(parts))


def of_renewal(
    csr: VerifiedCsr,
    *,
    ak_public: bytes,
    nonce: bytes,
    device_id: str,
    client_certificate: bytes,
    job_id: str,
    verifier_version: str,
) -> Evidence:
    """Return the evidence of one renewal. No trust store has a part in it: the AK on record has."""
    parts = (
        ("device-id", device_id.encode()),
        ("csr", csr.encoded),
        ("ak-public", ak_public),
        ("nonce", nonce),
        ("client-certificate", client_certificate),
        ("job-id", job_id.encode()),
    )
    return Evidence(RENEWAL, verifier_version, "", parts)
