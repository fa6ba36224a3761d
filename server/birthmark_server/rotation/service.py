"""What the server makes of a device's message, and what it answers: the other end of birthmark_wire.rotation.

One call is one message. It changes the record by compare-and-set and returns what is to be published once that is
durable; nothing is published here. A message that is a duplicate, late, for another's job, or garbage changes nothing,
and whatever has an answer gets the same one again.

Trusts the gate for which device speaks on a topic, the renewal for names and evidence, the store for one-use of nonces
and keys, for the quota and for revocation. A serial number in a payload proves nothing: what a device says it uses is
retired for only when the broker's own list shows it (retire.py).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, Protocol

from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca.authority import Authority
from birthmark_server.domain import Caller, CertificateRecord, Device
from birthmark_server.errors import Busy, Malformed, Refused
from birthmark_server.jobs import ENDED, Job, JobEvent, JobState, Retirement, after
from birthmark_server.refusals import RefusalBook
from birthmark_server.renewal import RenewalService
from birthmark_server.rotation.errors import Garbage, JobOver, NotYourCertificate, NotYourJob
from birthmark_server.rotation.signer import CommandSigner
from birthmark_server.store.errors import DeviceNotActive, EpochChanged, NonceUnknown, UnknownJob
from birthmark_server.store.job_protocol import JobStore
from birthmark_server.tracing import NO_TRACE, Tracer
from birthmark_wire import topics
from birthmark_wire.encoding import printable
from birthmark_wire.errors import DecodeError
from birthmark_wire.est import NONCE_BYTES
from birthmark_wire.rotation import Ack, AckState, Active, Hello, JobAnswer, JobNonce, JobRequest

_log: Final = logging.getLogger(__name__)

_SOON_S: Final = 5
"""After which a device may ask anew where something else of its own was in its way."""
_ANSWER_EXPIRES_S: Final = 300
_TRUST_EXPIRES_S: Final = 3600
_WORN: Final = timedelta(seconds=30)
"""A nonce with less than this left is replaced: the TPM and the way back need their time."""
_SETTLED: Final = timedelta(hours=1)
_MOST_TRIES: Final = 4


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be published when what led to it is durable. expires_s: the broker forgets it after so long."""

    topic: str
    payload: bytes
    expires_s: int


@dataclass(frozen=True, slots=True)
class RotationPolicy:
    """What the operator sets. silence: after which a device that has accepted, and says no more, is told again.

    most_under_way: devices with a nonce at the same time; the others are told "later", within `spread`.
    """

    nonce_ttl: timedelta = timedelta(minutes=5)
    silence: timedelta = timedelta(seconds=20)
    most_under_way: int = 1000
    spread: timedelta = timedelta(minutes=2)


class RotationStore(Protocol):
    """What the service reads and writes beside jobs: a part of store.protocol.Store."""

    def touch_device(self, device_id: str, *, at: datetime) -> None: ...

    def note_agent(self, device_id: str, *, agent: str, at: datetime) -> None: ...

    def get_device(self, device_id: str) -> Device: ...

    def certificate_by_sha256(self, sha256: str) -> tuple[CertificateRecord, Device | None] | None: ...


class Trust(Protocol):
    """What a device is to be told of whom it trusts (rollover/trust.py)."""

    def offer(self, device_id: str) -> bytes | None:
        """The trust bundle, if the device has not acknowledged it."""

    def acknowledge(self, device_id: str, payload: bytes, at: datetime) -> None:
        """Keep what it says that it has. Raise DecodeError."""


class RotationService:
    """signer: None where this server commands nothing. random: n -> n unpredictable bytes."""

    def __init__(
        self,
        *,
        store: RotationStore,
        jobs: JobStore,
        renewal: RenewalService,
        authority: Authority,
        signer: CommandSigner | None,
        policy: RotationPolicy,
        refusals: RefusalBook,
        trust: Trust,
        random: Callable[[int], bytes],
        tracer: Tracer = NO_TRACE,
    ) -> None:
        self._tracer = tracer
        self._store = store
        self._jobs = jobs
        self._renewal = renewal
        self._authority = authority
        self._signer = signer
        self._policy = policy
        self._refusals = refusals
        self._trust = trust
        self._random = random
        self._on = {
            "hello": self._hello,
            "ack": self._ack,
            "csr": self._csr,
            "active": self._active,
            "trust": self._trusts,
        }

    def handle(self, device_id: str, leaf: str, payload: bytes, at: datetime) -> tuple[Outgoing, ...]:
        """Return what to publish. at: when the message came. Raises StoreFailed and StoreBusy: then do it again."""
        if leaf in ("hello", "status"):
            self._store.touch_device(device_id, at=at)
        if leaf not in self._on:
            return ()
        with self._tracer.span(f"message {leaf}", {"birthmark.device_id": device_id}):
            return self._judge(device_id, leaf, payload, at)

    def _judge(self, device_id: str, leaf: str, payload: bytes, at: datetime) -> tuple[Outgoing, ...]:
        try:
            return self._on[leaf](device_id, payload, at)
        except (DecodeError, Malformed) as error:
            # A hello of another form is a sign of life all the same; an agent of another version may say it so.
            if leaf != "hello":
                self._record(Garbage(str(error)), device_id, leaf, payload, at)
        except Refused as refused:
            self._record(refused, device_id, leaf, payload, at)
        return ()

    def command(self, job: Job, *, at: datetime) -> Outgoing | None:
        """Return the signed command of an open job, None where its time is over or nothing is commanded here."""
        left = int((job.deadline - at).total_seconds())
        if self._signer is None or left < 1:
            return None
        told = {"birthmark.device_id": job.device_id, "birthmark.job_id": job.job_id}
        with self._tracer.span("command", told):
            return Outgoing(topics.down(job.device_id, "cmd"), self._signer.sign(job), left)

    def reminder(self, job: Job, *, at: datetime) -> Outgoing | None:
        """Return what to say to a device that is silent: its command, or the certificate that it may not have got; of
        the two in turns, since it may have lost its key as well."""
        if job.state is JobState.ISSUED and job.sends % 2 == 0:
            found = self._store.certificate_by_sha256(job.certificate_sha256)
            if found is not None:
                return self._certificate(job, found[0].der)[0]
        return self.command(job, at=at)

    # -- what devices say

    def _hello(self, device_id: str, payload: bytes, at: datetime) -> tuple[Outgoing, ...]:
        hello = Hello.decode(payload)
        if hello.agent.isascii() and hello.agent.isprintable():  # for people's eyes, and believed no further than that
            self._store.note_agent(device_id, agent=hello.agent, at=at)
        self._jobs.hasten_retirement(device_id, at=at)
        shown = self._jobs.device_certificate(device_id, hello.serial)
        if shown is not None:
            self._note_use(shown, at)
        bundle = self._trust.offer(device_id)
        offer = () if bundle is None else (Outgoing(topics.down(device_id, "trust"), bundle, _TRUST_EXPIRES_S),)
        return (*offer, *self._command_again(device_id, shown, at))

    def _command_again(self, device_id: str, shown: CertificateRecord | None, at: datetime) -> tuple[Outgoing, ...]:
        job = self._jobs.open_job(device_id)
        if job is None or job.state is JobState.ACTIVE or (shown and shown.sha256 == job.certificate_sha256):
            return ()  # with the new certificate it is taking over its session: it must not be told to begin again
        command = self.command(job, at=at)
        return () if command is None else (command,)

    def _trusts(self, device_id: str, payload: bytes, at: datetime) -> tuple[Outgoing, ...]:
        self._trust.acknowledge(device_id, payload, at)
        return ()

    def _note_use(self, shown: CertificateRecord, at: datetime) -> None:
        """A device that shows a certificate an hour after its issuance has long made it current, whether its word on
        that came through or not. Before that it may be trying it out, and go back to the old one yet."""
        if shown.revoked_at is None and at - shown.issued_at > _SETTLED:
            self._jobs.ask_retirement(Retirement(shown.device_id, shown.sha256, shown.serial_number, at, at))

    def _ack(self, device_id: str, payload: bytes, at: datetime) -> tuple[Outgoing, ...]:
        ack = Ack.decode(payload)
        ack = replace(ack, detail=printable(ack.detail))
        try:
            job = self._job(device_id, ack.job_id)
        except NotYourJob as refused:
            self._record(refused, device_id, "ack", payload, at)
            return self._no(device_id, ack.job_id, refused)
        for _ in range(_MOST_TRIES):
            if ack.state is AckState.ACCEPTED:
                changed, answer = self._accepted(job, at)
            else:
                changed, answer = self._declined(job, ack, at), ()
            if changed is None or self._jobs.change_job(job, changed):
                return answer
            job = self._jobs.get_job(ack.job_id)
        return ()

    def _accepted(self, job: Job, at: datetime) -> tuple[Job | None, tuple[Outgoing, ...]]:
        """Return the job with a nonce, and that nonce; the nonce that it has where that is still good."""
        if job.state in ENDED:
            return None, self._no(job.device_id, job.job_id, JobOver(f"job {job.job_id} is {job.state}"))
        state = after(job.state, JobEvent.ACCEPTS)
        if state is None:
            return None, ()
        if job.nonce and job.nonce_expires_at and job.nonce_expires_at - at > _WORN:
            return None, self._nonce(job, at)
        if self._jobs.count_under_way(at=at) >= self._policy.most_under_way:
            wait = self._later()
            busy = Busy("many devices rotate just now", retry_after_s=wait)
            put_off = replace(job, send_at=at + timedelta(seconds=wait), code=busy.code, detail=str(busy))
            return put_off, self._no(job.device_id, job.job_id, busy)
        with_nonce = replace(
            job,
            state=state,
            nonce=self._random(NONCE_BYTES),
            nonce_expires_at=at + self._policy.nonce_ttl,
            send_at=at + self._policy.silence,
            code="",
            detail="",
        )
        return with_nonce, self._nonce(with_nonce, at)

    def _declined(self, job: Job, ack: Ack, at: datetime) -> Job | None:
        """Return the job as the device's no leaves it, None where that changes nothing."""
        event = {
            AckState.LATER: JobEvent.DEFERS,
            AckState.REFUSED: JobEvent.REFUSES,
            AckState.FAILED: JobEvent.FAILS,
        }[ack.state]
        state = after(job.state, event)
        if state is None:
            return None
        code = ack.code or f"device-{ack.state}"
        if state in ENDED:
            return replace(job, state=state, send_at=None, code=code, detail=ack.detail, ended_at=at)
        wait = max(timedelta(seconds=ack.retry_after_s), timedelta(minutes=1))
        return replace(job, state=state, send_at=at + wait, code=code, detail=ack.detail)

    def _csr(self, device_id: str, payload: bytes, at: datetime) -> tuple[Outgoing, ...]:
        request = JobRequest.decode(payload)
        job: Job | None = None
        try:
            job = self._job(device_id, request.job_id)
            return self._certify(job, request, at)
        except Busy as busy:
            return self._no(device_id, request.job_id, busy)
        except (NonceUnknown, EpochChanged) as refused:
            self._record(refused, device_id, "csr", payload, at)
            return self._no(device_id, request.job_id, refused, retry_after_s=_SOON_S)
        except Malformed as error:
            return self._refuse(job, request, Garbage(str(error)), device_id, payload, at)
        except Refused as refused:
            return self._refuse(job, request, refused, device_id, payload, at)

    def _refuse(
        self, job: Job | None, request: JobRequest, refused: Refused, device_id: str, payload: bytes, at: datetime
    ) -> tuple[Outgoing, ...]:
        """Say no. The job goes on, with the reason noted, unless the device may be issued nothing at all."""
        self._record(refused, device_id, "csr", payload, at)
        if job is not None and job.state not in ENDED:
            noted = replace(job, code=refused.code, detail=str(refused)[:512])
            state = after(job.state, JobEvent.FAILS) if isinstance(refused, DeviceNotActive) else None
            self._jobs.change_job(job, replace(noted, state=state, send_at=None, ended_at=at) if state else noted)
        return self._no(device_id, request.job_id, refused)

    def _certify(self, job: Job, request: JobRequest, at: datetime) -> tuple[Outgoing, ...]:
        asked = sha256(request.csr).hexdigest()
        if job.certificate_sha256 and asked == job.request_sha256:
            return self._certificate_again(job)
        if job.state in ENDED:
            raise JobOver(f"job {job.job_id} is {job.state}")
        state = after(job.state, JobEvent.ISSUED)
        if state is None or not job.nonce or job.nonce_expires_at is None or job.nonce_expires_at <= at:
            raise NonceUnknown(f"job {job.job_id} has no nonce that can be used now")
        presented = self._standing(job.device_id, request.serial, at)
        certificate, issuance = self._renewal.renew_for_job(
            request.csr,
            self._store.get_device(job.device_id),
            presented,
            job_id=job.job_id,
            nonce=job.nonce,
            now=at,
        )
        issued = replace(
            job,
            state=state,
            nonce=b"",
            nonce_expires_at=None,
            request_sha256=asked,
            certificate_sha256=issuance.certificate.sha256,
            send_at=at + self._policy.silence,
            code="",
            detail="",
        )
        self._jobs.commit_job_issuance(issuance, job, issued)
        return self._certificate(issued, certificate.public_bytes(Encoding.DER))

    def _certificate_again(self, job: Job) -> tuple[Outgoing, ...]:
        found = self._store.certificate_by_sha256(job.certificate_sha256)
        if found is None or found[0].revoked_at is not None:
            raise JobOver(f"the certificate of job {job.job_id} stands no more")
        return self._certificate(job, found[0].der)

    def _standing(self, device_id: str, serial: str, at: datetime) -> CertificateRecord:
        """Return the device's certificate of this serial number; raise NotYourCertificate unless it stands."""
        found = self._jobs.device_certificate(device_id, serial)
        if found is None or found.revoked_at is not None or not found.not_before <= at <= found.not_after:
            raise NotYourCertificate(f"{serial} is no certificate of {device_id} that stands now")
        return found

    def _active(self, device_id: str, payload: bytes, at: datetime) -> tuple[Outgoing, ...]:
        """Remember what the device says it uses, to be believed when the broker shows it."""
        active = Active.decode(payload)
        certificate = self._standing(device_id, active.serial, at)
        job = self._job(device_id, active.job_id) if active.job_id else None
        state = after(job.state, JobEvent.ACTIVE) if job else None
        of_job = job is not None and state is not None and job.certificate_sha256 == certificate.sha256
        if job and state and of_job:
            changed = replace(job, state=state, nonce=b"", nonce_expires_at=None, send_at=None, code="", detail="")
            self._jobs.change_job(job, changed)
        retirement = Retirement(device_id, certificate.sha256, certificate.serial_number, at, at)
        self._jobs.ask_retirement(retirement, proof=of_job)
        return ()

    # -- what is said to them

    def _job(self, device_id: str, job_id: str) -> Job:
        try:
            job = self._jobs.get_job(job_id)
        except UnknownJob:
            raise NotYourJob(f"{device_id} has no job {job_id!r}") from None
        if job.device_id != device_id:
            raise NotYourJob(f"{device_id} has no job {job_id!r}")
        return job

    def _nonce(self, job: Job, at: datetime) -> tuple[Outgoing, ...]:
        if job.nonce_expires_at is None:
            raise ValueError("a nonce ends")
        left = max(1, int((job.nonce_expires_at - at).total_seconds()))
        said = JobNonce(job.job_id, job.nonce, left)
        return (Outgoing(topics.down(job.device_id, "nonce"), said.encode(), left),)

    def _certificate(self, job: Job, der: bytes) -> tuple[Outgoing, ...]:
        chain = (der, *self._authority.ways_to(self._authority.issuer_of(der)))
        said = JobAnswer(job.job_id, chain)
        return (Outgoing(topics.down(job.device_id, "cert"), said.encode(), _ANSWER_EXPIRES_S),)

    def _no(
        self, device_id: str, job_id: str, error: Refused | Busy, *, retry_after_s: int = 0
    ) -> tuple[Outgoing, ...]:
        wait = error.retry_after_s if isinstance(error, Busy) else retry_after_s
        said = JobAnswer(job_id, code=error.code, detail=(error.told or str(error))[:512], retry_after_s=wait)
        return (Outgoing(topics.down(device_id, "cert"), said.encode(), _ANSWER_EXPIRES_S),)

    def _later(self) -> int:
        """Return a wait in seconds, spread evenly, so that those put off together don't come back together."""
        spread = int(self._policy.spread.total_seconds())
        return _SOON_S + int.from_bytes(self._random(4), "big") % max(1, spread)

    def _record(self, refused: Refused, device_id: str, leaf: str, payload: bytes, at: datetime) -> None:
        self._refusals.write(
            refused,
            door=f"mqtt {leaf}",
            caller=Caller(request_id="", source=device_id),
            at=at,
            device_id=device_id,
            evidence=payload,
            proven=True,
        )
