"""The birth of a device: two requests, with a state in the database between them.

    EnrollRequest -> admitted -> EK proven -> Challenge          begin()
    ChallengeAnswer -> VerifiedDevice -> certificate -> answer   finish()

Trusts the store for one-use and uniqueness, attestation for every proof, the authority for what a certificate says.
Rules: a wrong answer changes nothing, so nobody can spoil another's enrollment; a right one counts once; the very same
bytes again get the very same answer for a day, as long as what they were given still stands. All that a birth writes is
one transaction (Store.commit_birth), which fails if the device was revoked meanwhile.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, Protocol

from birthmark_server.admission import AdmissionStore, Admitted, admit, device_named, require_proven
from birthmark_server.attestation.ek import shown_ek_hashes, verify_endorsement
from birthmark_server.attestation.roots import TrustStore
from birthmark_server.attestation.verify import VerifiedDevice, open_challenge, read_request, verify_activation
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.issuer import Issuer
from birthmark_server.ca.record import to_record
from birthmark_server.ca.requests import IDevIdRequest
from birthmark_server.domain import (
    Assurance,
    Caller,
    CertificateProfile,
    CertificateRecord,
    Device,
    DeviceModel,
    DeviceState,
    PendingEnrollment,
)
from birthmark_server.enrollment_states import Event, State, require_legal, state_of
from birthmark_server.errors import Refused
from birthmark_server.refusals import RefusalBook
from birthmark_server.store.errors import AlreadyConsumed, DeviceNotActive
from birthmark_server.store.protocol import Birth
from birthmark_server.tracing import NO_TRACE, Tracer, of_issuance
from birthmark_wire.broker import BrokerEndpoint
from birthmark_wire.encoding import b64
from birthmark_wire.enrollment import (
    NONCE_BYTES,
    SECRET_BYTES,
    Challenge,
    ChallengeAnswer,
    EnrollRequest,
    EnrollResult,
)
from birthmark_wire.est import BASE_PATH

ID_BYTES: Final = 16


class WrongServer(Refused):
    """The device was on its way to another server."""

    code = "wrong-server"


class OtherStation(Refused):
    """The enrollment was begun through another door: a station's is finished by that station."""

    code = "other-station"


class BirthRevoked(Refused):
    """What this answer handed out was revoked since."""

    code = "birth-revoked"


@dataclass(frozen=True, slots=True)
class EnrollmentPolicy:
    """What the operator sets. server_names: DNS names that devices may have connected to. broker_of: where the device
    of an id finds its broker."""

    server_names: frozenset[str]
    public_url: str
    broker_of: Callable[[str], BrokerEndpoint]
    challenge_ttl: timedelta = timedelta(minutes=5)
    answer_ttl: timedelta = timedelta(days=1)
    most_challenges_per_source: int = 8


@dataclass(slots=True)
class _Trail:
    """What a request has shown so far, for the book of refusals. proven: the EK is a genuine TPM's, or listed."""

    device_id: str = ""
    ek_sha256: str = ""
    other_ek_sha256: tuple[str, ...] = ()
    proven: bool = False
    evidence: bytes = field(default=b"", repr=False)


class EnrollmentStore(AdmissionStore, Protocol):
    """What an enrollment reads and writes: a part of store.protocol.Store, which says what each promises."""

    def get_model(self, name: str) -> DeviceModel: ...

    def add_pending(self, pending: PendingEnrollment, *, most_per_source: int) -> None: ...

    def get_pending(self, enrollment_id: str) -> PendingEnrollment: ...

    def commit_birth(self, birth: Birth) -> None: ...

    def certificate_by_sha256(self, sha256: str) -> tuple[CertificateRecord, Device | None] | None: ...

    def device_certificates(self, device_id: str) -> list[CertificateRecord]: ...


class EnrollmentService:
    """Both requests of an enrollment. now: UTC. random: n -> n unpredictable bytes."""

    def __init__(
        self,
        *,
        store: EnrollmentStore,
        authority: Authority,
        roots: TrustStore,
        policy: EnrollmentPolicy,
        refusals: RefusalBook,
        now: Callable[[], datetime],
        random: Callable[[int], bytes],
        tracer: Tracer = NO_TRACE,
    ) -> None:
        self._tracer = tracer
        self._store = store
        self._authority = authority
        self._roots = roots
        self._policy = policy
        self._refusals = refusals
        self._now = now
        self._random = random
        self._models: dict[str, DeviceModel] = {}

    def begin(self, body: bytes, caller: Caller) -> bytes:
        """Read an EnrollRequest and return a Challenge, both JSON.

        Raises DecodeError, Malformed, Refused (recorded), Busy. Proves nothing yet about who asks: an EK certificate
        is no secret.
        """
        trail = _Trail(evidence=body)
        with self._tracer.span("enrollment") as span:
            try:
                return self._begin(read_request(body), body, caller, trail)
            except Refused as refused:
                self._record("enrollment", refused, caller, trail)
                raise
            finally:
                span.note({"birthmark.device_id": trail.device_id})

    def finish(self, enrollment_id: str, body: bytes, caller: Caller) -> bytes:
        """Read a ChallengeAnswer and return an EnrollResult, both JSON. Raises as begin()."""
        trail = _Trail(evidence=body)
        with self._tracer.span("activation") as span:
            try:
                return self._finish(enrollment_id, body, caller, trail)
            except Refused as refused:
                self._record("activation", refused, caller, trail)
                raise
            finally:
                span.note({"birthmark.device_id": trail.device_id})

    # -- first request

    def _begin(self, request: EnrollRequest, body: bytes, caller: Caller, trail: _Trail) -> bytes:
        now = self._now()
        if request.server_name not in self._policy.server_names:
            raise WrongServer(f"this server is not {request.server_name[:80]!r}")
        shown = shown_ek_hashes(request)
        trail.ek_sha256, trail.other_ek_sha256 = shown[0], shown[1:]
        admitted = self._admit(shown, request, caller, trail, now)
        trail.device_id = admitted.device_id
        model = self._model(admitted.model)
        endorsement = verify_endorsement(request, model=model, roots=self._roots, listed_ek=admitted.listed_ek, now=now)
        trail.ek_sha256, trail.proven = endorsement.ek_sha256, True
        trail.other_ek_sha256 = endorsement.other_ek_sha256
        require_proven(admitted, endorsement.ek_sha256)
        secret = self._random(SECRET_BYTES)
        opened = open_challenge(request, endorsement=endorsement, secret=secret, random=self._random)
        pending = PendingEnrollment(
            enrollment_id=b64(self._random(ID_BYTES)),
            source=caller.source,
            station=caller.station,
            request=body,
            nonce=self._random(NONCE_BYTES),
            secret_sha256=sha256(secret).digest(),
            ek_sha256=endorsement.ek_sha256,
            other_ek_sha256=endorsement.other_ek_sha256,
            ak_name=opened.ak_name,
            key_name=opened.key_name,
            assurance=endorsement.assurance,
            device_id=admitted.device_id,
            serial=admitted.serial,
            model=admitted.model,
            batch=admitted.batch,
            epoch=admitted.epoch,
            created_at=now,
            expires_at=now + self._policy.challenge_ttl,
        )
        self._store.add_pending(pending, most_per_source=self._policy.most_challenges_per_source)
        return Challenge(
            enrollment_id=pending.enrollment_id,
            nonce=pending.nonce,
            credential_blob=opened.credential.id_object,
            encrypted_secret=opened.credential.encrypted_secret,
            quote_pcrs=model.quote_pcrs,
            device_id=pending.device_id,
            serial=pending.serial,
            model=pending.model,
            batch=pending.batch,
            expires_in_s=int(self._policy.challenge_ttl.total_seconds()),
        ).encode()

    def _admit(
        self, shown: tuple[str, ...], request: EnrollRequest, caller: Caller, trail: _Trail, now: datetime
    ) -> Admitted:
        try:
            return admit(self._store, shown, request.claim, caller, now=now)
        except Refused:
            trail.device_id = device_named(self._store, shown, now=now)
            raise

    # -- second request

    def _finish(self, enrollment_id: str, body: bytes, caller: Caller, trail: _Trail) -> bytes:
        now = self._now()
        pending = self._store.get_pending(enrollment_id)
        trail.device_id, trail.ek_sha256, trail.proven = pending.device_id, pending.ek_sha256, True
        trail.other_ek_sha256 = pending.other_ek_sha256
        state = state_of(pending, now=now)
        if pending.station != caller.station:
            raise OtherStation("this enrollment was begun through another door")
        if state is not State.CHALLENGED:
            return self._repeat(pending, state, body)
        answer = ChallengeAnswer.decode(body)
        with self._tracer.span("verify"):
            verified = verify_activation(
                pending,
                answer,
                model=self._model(pending.model),
                roots=self._roots,
                listed_ek=frozenset({pending.ek_sha256} if pending.assurance is Assurance.LISTED_KEY else ()),
                anchors_sha256=[root.anchor_sha256 for root in self._authority.in_force.roots],
                now=now,
            )
        require_legal(state, Event.PROVEN)
        birth = self._birth(pending, verified, body, caller, now)
        try:
            with self._tracer.span("commit"):
                self._store.commit_birth(birth)
        except AlreadyConsumed:  # the same request, twice at the same time
            again = self._store.get_pending(enrollment_id)
            return self._repeat(again, state_of(again, now=now), body)
        return birth.answer

    def _repeat(self, pending: PendingEnrollment, state: State, body: bytes) -> bytes:
        """Give the stored answer again to the very same request, if it still stands."""
        same = hmac.compare_digest(sha256(body).hexdigest(), pending.request_sha256)
        require_legal(state, Event.REPEATED if same else Event.PROVEN)
        device = self._store.get_device(pending.device_id)
        if device.state is not DeviceState.ACTIVE:
            raise DeviceNotActive(f"device {device.device_id} is {device.state}")
        born = self._store.certificate_by_sha256(sha256(EnrollResult.decode(pending.answer).chain[0]).hexdigest())
        if born is None or born[0].revoked_at is not None:
            raise BirthRevoked("the birth certificate of this answer is revoked: begin again")
        self._issuer(born[0])
        return pending.answer

    def _birth(
        self, pending: PendingEnrollment, verified: VerifiedDevice, body: bytes, caller: Caller, now: datetime
    ) -> Birth:
        """Decide what this birth writes: a new device, the same one again, or one with a new birth key."""
        known = self._store.get_device(pending.device_id) if pending.epoch else None
        swap = None
        if known is not None and known.ek_sha256 != verified.ek_sha256:
            swap = self._store.admission_facts((verified.ek_sha256, *verified.other_ek_sha256), at=now).swap
        spki_sha256 = sha256(verified.birth_spki).hexdigest()
        rekeyed = known is not None and known.birth_spki_sha256 != spki_sha256
        existing = None if known is None or rekeyed else self._living_idevid(known, now)
        idevid = existing or self._issue(verified, now)
        relayed = caller.certificate if caller.station else None
        device = Device(
            device_id=verified.device_id,
            serial=verified.serial,
            model=verified.model,
            batch=verified.batch,
            state=DeviceState.ACTIVE,
            epoch=pending.epoch or 1,
            assurance=verified.assurance,
            ek_sha256=verified.ek_sha256,
            other_ek_sha256=verified.other_ek_sha256,
            ak_public=verified.ak_public,
            birth_spki_sha256=spki_sha256,
            enrolled_at=known.enrolled_at if known is not None else now,
            last_seen_at=now,
        )
        return Birth(
            enrollment_id=pending.enrollment_id,
            expected_epoch=pending.epoch,
            device=device,
            certificate=None if existing else idevid,
            revoke_previous=rekeyed,
            swap=swap,
            evidence=verified.evidence,
            request_sha256=sha256(body).hexdigest(),
            answer=self._result(verified.device_id, idevid).encode(),
            answer_expires_at=now + self._policy.answer_ttl,
            at=now,
            station_sha256="" if relayed is None else relayed.sha256,
        )

    def _living_idevid(self, device: Device, now: datetime) -> CertificateRecord | None:
        """Return the device's birth certificate that still stands: a birth key has one, however often it is proven."""
        for record in self._store.device_certificates(device.device_id):
            is_its = record.profile is CertificateProfile.IDEVID and record.spki_sha256 == device.birth_spki_sha256
            living = record.revoked_at is None and record.not_before <= now <= record.not_after
            if is_its and living and self._authority.issuer_with(record.issuer_sha256) is not None:
                return record
        return None

    def _issuer(self, idevid: CertificateRecord) -> Issuer:
        """Return the Birth CA that issued it: with one for each year or lot, not always the one that issues today."""
        issuer = self._authority.issuer_with(idevid.issuer_sha256)
        if issuer is None:
            raise BirthRevoked("the Birth CA of this answer is no longer ours: begin again")
        return issuer

    def _issue(self, verified: VerifiedDevice, now: datetime) -> CertificateRecord:
        issuer = self._authority.birth
        with self._tracer.span("issue") as span:
            token = issuer.prepare(
                IDevIdRequest(
                    public_key=verified.birth_key,
                    serial=verified.serial,
                    ek_sha256=verified.ek_sha256,
                    ek_certificate=verified.ek_certificate,
                ),
                now=now,
            )
            certificate = issuer.issue(token)
            span.note(of_issuance(issuer.name, token.profile, token.serial_number))
        return to_record(certificate, issuer=issuer, profile=token.profile, device_id=verified.device_id, issued_at=now)

    def _result(self, device_id: str, idevid: CertificateRecord) -> EnrollResult:
        policy, broker = self._policy, self._policy.broker_of(device_id)
        return EnrollResult(
            device_id=device_id,
            chain=(idevid.der, *self._authority.ways_to(self._issuer(idevid))),
            anchors=tuple(root.der for root in self._authority.in_force.roots),
            trust_domain=self._authority.namespace.trust_domain,
            est_url=policy.public_url + BASE_PATH,
            broker_host=broker.host,
            broker_port=broker.port,
        )

    # -- shared

    def _model(self, name: str) -> DeviceModel:
        """Return the model. One that is on record never changes, so it is read once."""
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = self._store.get_model(name)
        return model

    def _record(self, door: str, refused: Refused, caller: Caller, trail: _Trail) -> None:
        self._refusals.write(
            refused,
            door=door,
            caller=caller,
            at=self._now(),
            device_id=trail.device_id,
            ek_sha256=trail.ek_sha256,
            other_ek_sha256=trail.other_ek_sha256,
            evidence=trail.evidence,
            proven=trail.proven,
        )
