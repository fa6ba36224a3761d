"""Judge a decision again, years later, from nothing but the evidence that was kept of it (evidence.py).

An older verifier's evidence may be judged by this one, to see what it would say today; but only under the very roots
that it was judged by, or the answer would be about other roots.
"""

import hashlib
import json
from datetime import datetime

from birthmark_server.attestation.ak import check_ak
from birthmark_server.attestation.csr import verify_csr
from birthmark_server.attestation.device_key import check_device_public
from birthmark_server.attestation.ek import VersionedRoots, verify_endorsement
from birthmark_server.attestation.evidence import ACTIVATION, RENEWAL
from birthmark_server.attestation.verify import (
    VerifiedDevice,
    VerifiedKey,
    verify_activation,
    verify_new_key,
)
from birthmark_server.domain import DeviceModel, Evidence, PendingEnrollment
from birthmark_server.errors import Malformed, Misconfigured
from birthmark_wire.enrollment import Attestation, ChallengeAnswer, EnrollRequest


class EvidenceIncomplete(Malformed):
    """The evidence is of another kind, or lacks a part."""

    code = "evidence-incomplete"


def replay_activation(evidence: Evidence, *, roots: VersionedRoots) -> VerifiedDevice:
    """Prove the device again as of the time of the decision. Raises as verify_activation, EvidenceIncomplete, and
    Misconfigured if `roots` are not of the version that the evidence names."""
    if roots.version != evidence.roots_version:
        raise Misconfigured(f"want the trust store of version {evidence.roots_version}, got {roots.version}")
    parts = _Parts(evidence, ACTIVATION)
    policy = json.loads(parts.octets("policy"))
    now = datetime.fromisoformat(parts.text("judged-at"))
    model = DeviceModel(
        name=parts.text("model"),
        ek_template=policy["ek_template"],
        require_ek_certificate=policy["require_ek_certificate"],
        quote_pcrs=tuple(policy["quote_pcrs"]),
        manufacturers=tuple(policy["manufacturers"]),
    )
    request = EnrollRequest.decode(parts.octets("request"))
    listed_ek = frozenset(policy["ek_listed"])
    endorsement = verify_endorsement(request, model=model, roots=roots, listed_ek=listed_ek, now=now)
    pending = PendingEnrollment(
        enrollment_id=parts.text("enrollment-id"),
        source=parts.text("source"),
        station=parts.text("station"),
        request=parts.octets("request"),
        nonce=parts.octets("nonce"),
        secret_sha256=hashlib.sha256(parts.octets("secret")).digest(),
        ek_sha256=endorsement.ek_sha256,
        other_ek_sha256=endorsement.other_ek_sha256,
        ak_name=check_ak(request.ak_public).name,
        key_name=check_device_public(request.birth_key_public).name,
        assurance=endorsement.assurance,
        device_id=parts.text("device-id"),
        serial=parts.text("serial"),
        model=model.name,
        batch=parts.text("batch"),
        epoch=0,
        created_at=now,
        expires_at=now,
    )
    quote = Attestation(parts.octets("quote"), parts.octets("quote-signature")) if model.quote_pcrs else None
    answer = ChallengeAnswer(
        secret=parts.octets("secret"),
        csr=parts.octets("csr"),
        certify=Attestation(parts.octets("certify"), parts.octets("certify-signature")),
        quote=quote,
    )
    return verify_activation(
        pending,
        answer,
        model=model,
        roots=roots,
        listed_ek=listed_ek,
        anchors_sha256=[parts.octets("anchor-sha256")],
        now=now,
    )


def replay_renewal(evidence: Evidence) -> VerifiedKey:
    """Prove the renewed key again. Raises as verify_new_key, EvidenceIncomplete."""
    parts = _Parts(evidence, RENEWAL)
    return verify_new_key(
        verify_csr(parts.octets("csr")),
        ak_public=parts.octets("ak-public"),
        nonce=parts.octets("nonce"),
        device_id=parts.text("device-id"),
        client_certificate=parts.octets("client-certificate"),
        job_id=parts.text("job-id"),
    )


class _Parts:
    """The named parts of one piece of evidence."""

    def __init__(self, evidence: Evidence, kind: str) -> None:
        if evidence.kind != kind:
            raise EvidenceIncomplete(f"want evidence of an {kind}, got {evidence.kind!r}")
        self._parts = dict(evidence.parts)

    def octets(self, name: str) -> bytes:
        """Return a part."""
        if name not in self._parts:
            raise EvidenceIncomplete(f"the evidence has no part {name!r}")
        return self._parts[name]

    def text(self, name: str) -> str:
        """Return a part that is text."""
        return self.octets(name).decode()
