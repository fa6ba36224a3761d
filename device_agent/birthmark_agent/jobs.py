"""Rotation by command, over MQTT: the device's side of birthmark_wire.rotation.

    down/cmd -> proven, on disk -> up/ack -> down/nonce -> key and evidence -> up/csr -> down/cert -> spare slot
      -> take-over -> current -> up/active

Rules:
- Nothing is done before the command is on disk, and its job ends in one word, `active` or `failed`, which is said until
  the broker has it, over restarts too. The same command again gets the same answer.
- Attempts share pace and floor with the renewals that the agent starts itself, and never run at once with one: both are
  steps of one thread, and while an answer of the server is awaited here, run.py starts none.
- What may pass (TPM busy, disk full, server or broker away, clock not set) is `later`, and tried again, with jitter,
  until the command expires. What would fail again is `failed`. The identity in use is untouched by either.
- Messages wait here until the loop has time: paho's callbacks do no work. What does not fit is dropped: the server asks
  again at the next hello, and so do we when nothing comes.
"""

import base64
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from paho.mqtt.client import MQTTMessageInfo

from birthmark_agent import log
from birthmark_agent.backoff import Backoff
from birthmark_agent.command import Arrived, CommandExpired, CommandRefused, check_turn, read_command
from birthmark_agent.errors import AgentError, KeyNotOfThisTpm, StorageFailed, TlsKeyFailed
from birthmark_agent.homecoming import Homecoming
from birthmark_agent.http import TlsFailed
from birthmark_agent.identity import Identities
from birthmark_agent.job import Job, JobState, read_job, write_job
from birthmark_agent.job_work import (
    NotYet,
    ServerRefusedJob,
    may_pass,
    new_request,
    prove_command,
    proven_identity,
    retry_after_s,
)
from birthmark_agent.life import Life
from birthmark_agent.mqtt import BrokerRefused, ConnectionLost, Session
from birthmark_agent.slots import Slot
from birthmark_wire.errors import DecodeError
from birthmark_wire.rotation import Ack, AckState, Active, JobAnswer, JobNonce, JobRequest

_MOST_WAITING: Final = 16
_ANSWER_WITHIN_S: Final = 30.0
_MOST_PATIENT_S: Final = 600.0
_BELIEVED: Final = 2
_SENT_AGAIN_WITHIN_S: Final = 10.0
_HELD_S: Final = 60.0

TakeOver = Callable[[Slot], None]


class Jobs:
    """The commands of one device. renewing: the pace of all rotations."""

    def __init__(self, identities: Identities, homecoming: Homecoming, *, renewing: Backoff) -> None:
        self._identities = identities
        self._homecoming = homecoming
        self._renewing = renewing
        self._inbox: deque[tuple[str, bytes]] = deque()
        self._job: Job | None = None
        self._awaits = ""  # "nonce" or "cert": what we asked the server for
        self._next_s = math.inf  # when to go on though nothing comes, by time.monotonic()
        self._unanswered = 0
        self._held = b""  # a command that could not be judged yet
        self._held_until_s = math.inf
        self._word: tuple[Session, MQTTMessageInfo] | None = None

    # -- what the loop asks

    @property
    def last(self) -> tuple[str, int]:
        """Job id and sequence of the last command that was taken; empty and 0 without one."""
        return (self._job.job_id, self._job.sequence) if self._job else ("", 0)

    @property
    def under_way(self) -> bool:
        """Whether an answer of the server is awaited: no other rotation may begin. A silent one is awaited twice."""
        return self._awaits != "" and self._unanswered <= _BELIEVED and time.monotonic() < self._next_s

    def wait_s(self) -> float:
        """Return after how long turn() should be called though nothing came."""
        if self._inbox:
            return 0.0
        return max(0.0, min(self._next_s, self._held_until_s) - time.monotonic())

    def heard(self, leaf: str, payload: bytes) -> None:
        """Note what came on `down/`; turn() does the work."""
        if len(self._inbox) < _MOST_WAITING:
            self._inbox.append((leaf, payload))
        else:
            log.info("message-dropped", leaf=leaf, reason="too many at once")

    def load(self, device_id: str) -> None:
        """Read the last command from disk, once. Raise StorageFailed."""
        if self._job is None or self._job.device_id != device_id:
            self._job = read_job(self._identities.files, device_id)

    def connected(self, life: Life) -> None:
        """Go on with a job that was left, or say again what the broker may not have heard."""
        self._awaits, self._unanswered = "", 0
        if self._job is None or self.promoted(life):
            return
        if not self._job.open:
            if not self._job.reported and (self._word is None or self._word[0] is not life.session):
                self._report(life)
            return
        there = self._slot_of_job(life) is not None
        self._next_s = time.monotonic() + (0.0 if there else _SENT_AGAIN_WITHIN_S)  # the server sends it again at hello

    def turn(self, life: Life, over: TakeOver) -> None:
        """Do what is to be done now. over: takes the session of `life` over by another slot, and calls promoted()."""
        while self._inbox:
            self._handle(life, over, *self._inbox.popleft())
        self._note_reported()
        if self._held and time.monotonic() >= self._held_until_s:
            held, self._held, self._held_until_s = self._held, b"", math.inf
            self._command(life, over, held)
        if self._job is not None and self._job.open and time.monotonic() >= self._next_s:
            self._go_on(life, over)

    def promoted(self, life: Life) -> bool:
        """See whether the slot in use, current on disk, has the job's key: then the job is done, and this said so."""
        job, identity = self._job, life.slot.identity
        if job is None or not job.open or not life.promoted or identity.key_pem.decode() != job.key_pem:
            return False
        self._awaits, self._next_s = "", math.inf
        self._settle(replace(job, state=JobState.DONE, serial=identity.serial_number))
        log.info("command-done", job=job.job_id, serial=identity.serial_number)
        self._report(life)
        return True

    # -- what comes

    def _handle(self, life: Life, over: TakeOver, leaf: str, payload: bytes) -> None:
        try:
            if leaf == "cmd":
                self._command(life, over, payload)
            elif leaf == "nonce":
                self._nonce(life, JobNonce.decode(payload))
            elif leaf == "cert":
                self._answer(life, over, JobAnswer.decode(payload))
            else:
                log.debug("message-ignored", leaf=leaf, size=len(payload))
        except DecodeError as error:
            log.info("message-unreadable", leaf=leaf, size=len(payload), reason=str(error))

    def _command(self, life: Life, over: TakeOver, payload: bytes) -> None:
        arrived = read_command(payload)
        job_id = arrived.command.job_id
        if self._job is not None and arrived.digest == self._job.digest:
            self._again(life, over)
            return
        try:
            check_turn(
                arrived, device_id=life.session.device_id, last=self._job.taken if self._job is not None else None
            )
            prove_command(self._identities, arrived)
            self._take(life, over, arrived)
        except CommandRefused as error:
            log.failed("command-refused", error, job=job_id, sequence=arrived.command.sequence)
            life.session.publish("ack", Ack(job_id, AckState.REFUSED, error.code, str(error)).encode())
        except AgentError as error:
            wait_s = self._renewing.spread(_HELD_S)
            self._held, self._held_until_s = payload, time.monotonic() + wait_s
            self._say_later(life, job_id, error, wait_s)

    def _take(self, life: Life, over: TakeOver, arrived: Arrived) -> None:
        job, before = Job.of(arrived), self._job
        write_job(self._identities.files, job)
        self._job, self._awaits, self._unanswered = job, "", 0
        log.info("command-taken", job=job.job_id, sequence=job.sequence, action=arrived.command.action.value)
        if before is not None and before.open:
            said = Ack(before.job_id, AckState.FAILED, "superseded", f"command {job.sequence} came after it")
            life.session.publish("ack", said.encode())
        self._go_on(life, over)

    def _again(self, life: Life, over: TakeOver) -> None:
        if self._job is None or not self._job.open:
            self._report(life)
        elif not self.under_way:
            self._go_on(life, over)

    def _nonce(self, life: Life, nonce: JobNonce) -> None:
        job = self._job
        if job is None or not job.open or nonce.job_id != job.job_id or self._awaits != "nonce":
            log.debug("message-ignored", leaf="nonce", job=nonce.job_id)
            return
        self._unanswered = 0
        self._renewing.begin()
        identity = life.slot.identity
        try:
            key_pem, request = new_request(self._identities, identity, nonce=nonce.nonce, job_id=job.job_id)
            job = job.with_request(key_pem=key_pem, request=request, presented=identity.serial_number)
            write_job(self._identities.files, job)
        except AgentError as error:
            self._stumbled(life, error)
            return
        self._job = job
        self._send_request(life, job)

    def _send_request(self, life: Life, job: Job) -> None:
        request = JobRequest(job.job_id, job.presented, base64.b64decode(job.request))
        life.session.publish("csr", request.encode())
        self._await("cert")

    def _answer(self, life: Life, over: TakeOver, answer: JobAnswer) -> None:
        job = self._job
        if job is not None and not job.open and answer.chain and answer.job_id == job.job_id:
            self._report(life)  # it is sent again because our word on it was lost
            return
        if job is None or not job.open or answer.job_id != job.job_id or (answer.chain and not job.key_pem):
            log.debug("message-ignored", leaf="cert", job=answer.job_id)
            return
        if answer.code and answer.retry_after_s:
            wait_s = self._renewing.wait_s(retry_after_s=answer.retry_after_s)
            log.info("server-said-later", job=job.job_id, code=answer.code, wait_s=round(wait_s))
            self._awaits, self._next_s = "", time.monotonic() + wait_s
            self._job = job.without_request()
            return
        try:
            if answer.code:
                raise ServerRefusedJob(f"{answer.code}: {answer.detail}")
            if self._slot_of_job(life) is None:
                self._keep(life, answer.chain, job.key_pem.encode())
        except AgentError as error:
            self._stumbled(life, error, code=answer.code)
            return
        self._switch(life, over)

    # -- the steps

    def _go_on(self, life: Life, over: TakeOver) -> None:
        """Take the next step of an open job.

        With a certificate: the take-over; with a request: that one again; else ask for a nonce.
        """
        job = self._job
        if job is None or not job.open:
            return
        if job.expires_at <= self._identities.clock.now():
            self._fail(life, CommandExpired(f"the command expired before its job was done: {job.expires_at}"))
            return
        if (left_s := self._renewing.floor_left_s()) > 0:
            self._awaits, self._next_s = "", time.monotonic() + left_s
            self._say_later(life, job.job_id, NotYet(f"the next attempt may begin in {left_s:.0f} s"), left_s)
            return
        if self._slot_of_job(life) is not None:
            self._renewing.begin()
            self._switch(life, over)
            return
        try:
            self._identities.probe_disk()
        except StorageFailed as error:
            self._stumbled(life, error)
            return
        if job.request and job.presented == life.slot.identity.serial_number:
            self._send_request(life, job)
            return
        life.session.publish("ack", Ack(job.job_id, AckState.ACCEPTED).encode())
        self._await("nonce")

    def _await(self, what: str) -> None:
        patience_s = min(_ANSWER_WITHIN_S * 2.0 ** min(self._unanswered, 10), _MOST_PATIENT_S)
        self._unanswered += 1
        self._awaits, self._next_s = what, time.monotonic() + self._renewing.spread(patience_s)

    def _keep(self, life: Life, chain: tuple[bytes, ...], key_pem: bytes) -> None:
        """Verify the chain and write it into the spare slot. Raise UnusableAnswer, StorageFailed, WorkLost."""
        identity = proven_identity(self._identities, life.slot.identity, chain=chain, key_pem=key_pem)
        slot = self._identities.slots.write_spare(identity)
        self._homecoming.obtained[identity.serial_number] = self._identities.clock.boot_time_s()
        log.info("certificate-obtained", slot=slot.name, serial=identity.serial_number, not_after=identity.not_after)

    def _slot_of_job(self, life: Life) -> Slot | None:
        """Return the slot, not in use, that holds a certificate for the job's key."""
        if self._job is None or not self._job.key_pem:
            return None
        key_pem = self._job.key_pem.encode()
        found = (slot for slot in self._identities.slots.candidates() if slot.identity.key_pem == key_pem)
        return next((slot for slot in found if slot.name != life.slot.name), None)

    def _switch(self, life: Life, over: TakeOver) -> None:
        slot = self._slot_of_job(life)
        if slot is None:
            return
        self._awaits = ""
        try:
            over(slot)
        except AgentError as error:
            self._stumbled(life, self._why(slot, error))

    def _why(self, slot: Slot, error: AgentError) -> AgentError:
        """A broker can't say why it refuses: the server may know. Return the reason, or `error` where there is none."""
        if not isinstance(error, BrokerRefused | ConnectionLost | TlsFailed):
            return error
        try:
            return self._homecoming.ask_why(slot.identity) or error
        except AgentError as silence:
            log.failed("server-can-not-say-why", silence)
            return error

    # -- how it ends, or does not yet

    def _stumbled(self, life: Life, error: AgentError, *, code: str = "") -> None:
        job = self._job
        if job is None:
            return
        if isinstance(error, TlsKeyFailed) and isinstance(error.__cause__, AgentError):
            error = error.__cause__  # the TPM's own word
        if isinstance(error, KeyNotOfThisTpm):  # TPM2_Clear since then
            self._job = job.without_request()
        if not may_pass(error):
            self._fail(life, error, code=code)
            return
        wait_s = self._renewing.wait_s(retry_after_s=retry_after_s(error))
        self._awaits, self._next_s = "", time.monotonic() + wait_s
        self._say_later(life, job.job_id, error, wait_s)

    def _say_later(self, life: Life, job_id: str, error: AgentError, wait_s: float) -> None:
        log.failed("command-later", error, job=job_id, wait_s=round(wait_s))
        later = Ack(job_id, AckState.LATER, error.code, str(error), retry_after_s=max(1, math.ceil(wait_s)))
        life.session.publish("ack", later.encode())

    def _fail(self, life: Life, error: AgentError, *, code: str = "") -> None:
        if self._job is None:
            return
        self._awaits, self._next_s = "", math.inf
        self._settle(replace(self._job, state=JobState.FAILED, code=code or error.code, detail=str(error)[:512]))
        log.failed("command-failed", error, job=self._job.job_id)
        self._report(life)

    def _settle(self, job: Job) -> None:
        """Keep how it ended. On a full disk only in memory: a restart finds the job open, and ends it the same way."""
        self._job = job
        try:
            write_job(self._identities.files, job)
        except StorageFailed as error:
            log.failed("job-record-not-written", error)

    def _report(self, life: Life) -> None:
        job = self._job
        if job is None:
            return
        if job.state is JobState.DONE:
            said = life.session.publish("active", Active(job.serial, job.job_id).encode())
        else:
            said = life.session.publish("ack", Ack(job.job_id, AckState.FAILED, job.code, job.detail).encode())
        self._word = (life.session, said)

    def _note_reported(self) -> None:
        if self._word is None or self._job is None or self._job.open or self._job.reported:
            return
        if self._word[0].has(self._word[1]):
            self._settle(replace(self._job, reported=True))
