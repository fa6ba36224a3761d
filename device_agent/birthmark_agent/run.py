"""`birthmark-agent run`: keep one identity alive and one MQTT session open, for as long as the device runs.

    life:      find an identity -> connect -> hello -> serve, until the connection ends or a person stops the agent
    rotation:  new certificate into the spare slot -> take the session over with it -> make it current -> say `active`
               by itself over EST when it is time (here), or by a signed command over MQTT (jobs.py)

One thread and no lock: the connection, the rotation beside it and the signals share one poll. Every exchange with the
server has a time limit well below the keep-alive that the broker allows. Whatever fails, what worked before goes on
working, the reason is in `status`, and the next attempt waits with full jitter above a persisted floor.
"""

import ctypes
import gc
import random
import socket
import time
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from birthmark_agent import log
from birthmark_agent.apart import meanwhile
from birthmark_agent.applications import Applications
from birthmark_agent.backoff import Backoff, Pace
from birthmark_agent.clock import ClockState
from birthmark_agent.console import SILENT, Console
from birthmark_agent.due import RenewalClock
from birthmark_agent.errors import AgentError, Misconfigured, StorageFailed
from birthmark_agent.homecoming import Homecoming, leads_elsewhere
from birthmark_agent.hook import Hook
from birthmark_agent.http import TlsFailed, Unreachable
from birthmark_agent.identity import Identities
from birthmark_agent.job_work import retry_after_s
from birthmark_agent.jobs import Jobs
from birthmark_agent.life import LIVE_WITHIN_S, Life, take_over
from birthmark_agent.mqtt import BrokerRefused, ConnectionLost, Session, drive, drive_until, wait_live
from birthmark_agent.slots import Identity, Slot
from birthmark_agent.status import Phase, StatusBoard, stamp
from birthmark_agent.systemd import Notifier
from birthmark_agent.version import AGENT
from birthmark_agent.waitable import Readable
from birthmark_wire import broker, topics
from birthmark_wire.broker import BrokerEndpoint
from birthmark_wire.errors import DecodeError
from birthmark_wire.rotation import Active, Hello

_FAREWELL_S: Final = 2.0
_IDLE_S: Final = 5.0
_PROMOTE_EVERY_S: Final = 30.0
_MOST_HURRIED: Final = 3
_ASK_EVERY: Final = 4


class RenewalFailed(AgentError):
    """The running agent could not renew; what it had goes on working."""

    code = "renewal-failed"
    advice = "nothing is lost: the old certificate works until its end; `birthmark-agent doctor` looks for the cause"


class Agent:
    """The long-running agent."""

    def __init__(self, identities: Identities, *, notifier: Notifier, console: Console = SILENT) -> None:
        retry, renewal = identities.settings.retry, identities.settings.renewal
        self._identities = identities
        self._notifier = notifier
        self._console = console
        self._homecoming = Homecoming(identities)
        self._board = StatusBoard(identities.settings.state)
        self._connecting = Backoff("connect", Pace(retry.first_s, retry.most_s, retry.floor_s), files=identities.files)
        self._renewing = Backoff("renew", Pace(retry.first_s, retry.most_s, renewal.floor_s), files=identities.files)
        self._jobs = Jobs(identities, self._homecoming, renewing=self._renewing)
        self._applications = Applications(identities.settings.applications)
        self._hook = Hook(identities.settings.hook)
        self._beside = (self._applications, self._hook)
        self._due = RenewalClock(identities, self._homecoming, renewing=self._renewing)
        self._hurried = 0
        self._skip_wait = False
        self._stop = False
        self._renew_now = False
        self._wait_no_longer = False
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)

    @property
    def wake_fd(self) -> int:
        """What signal.set_wakeup_fd takes."""
        return self._waker.fileno()

    def stop(self) -> None:
        """End run() in order. From a signal handler or another thread."""
        self._stop = True
        self._poke()

    def request_renewal(self) -> None:
        """Renew now, due or not; while not connected, connect now and then renew. From a signal handler or another
        thread."""
        self._renew_now = True
        self._wait_no_longer = True
        self._poke()

    def _poke(self) -> None:
        with suppress(BlockingIOError):  # it is awake already
            self._waker.send(b"\0")

    def run(self) -> None:
        """Run until stop(). Raise Misconfigured: a person must change something; all else is waited for."""
        self._notifier.ready()  # whether anybody answers or not: systemd would kill what waits for a network
        self._applications.open()
        first_wait_s = random.uniform(0.0, self._identities.settings.retry.start_s)  # noqa: S311  # spreads, hides nothing
        first_wait_s = max(first_wait_s, self._connecting.floor_left_s())
        self._pause(self._connecting.wait_s() if self._connecting.failures else first_wait_s)
        try:
            while not self._stop:
                try:
                    self._live()
                except Misconfigured:
                    raise
                except AgentError as error:
                    self._fail(error)
        finally:
            self._notifier.stopping()
            self._applications.close()
            self._board.phase(Phase.STOPPED, self._now())
            self._wake.close()
            self._waker.close()

    def renew_once(self) -> None:
        """Renew without staying: connect, rotate, disconnect. Raise what it failed with."""
        slot = self._homecoming.find()
        life = Life(slot, self._connect(slot))
        self._rotate(life, patient=False)
        life.session.close(announce=True)
        self._hook.finish()

    # -- one life of a connection

    def _live(self) -> None:
        self._connecting.begin()
        self._enter(Phase.IDENTIFYING)
        if self._identities.clock.state() is ClockState.WRONG:
            self._identities.try_to_learn_time()
        slot = self._homecoming.find()
        serial = slot.identity.serial_number
        self._console.say("operational", device_id=slot.identity.device_id, serial_number=serial)
        try:
            life = Life(slot, self._connect(slot), promoted=slot.current)
        except AgentError as error:
            self._judge(slot.identity, error)
            raise
        self._hurried = 0
        try:
            self._serve(life)
        except AgentError:
            # Nobody is asked why yet: a broker that restarts ends all of a fleet's connections at one moment. If it was
            # our identity, the next connection is refused, and then the server is asked.
            life.session.close(announce=False)
            raise

    def _connect(self, slot: Slot) -> Session:
        session = self._session(slot.identity, clean_start=self._identities.newborn)
        self._enter(Phase.CONNECTING, broker=session.where, device_id=session.device_id)
        try:
            session.open()
            wait_live(session, timeout_s=LIVE_WITHIN_S, others=self._beside)
            self._identities.has_a_session()
        except AgentError:
            session.close(announce=False)
            raise
        return session

    def _session(self, identity: Identity, *, clean_start: bool = False, at: Session | None = None) -> Session:
        """Return a session, not open yet. at: with the broker of that one, wherever the next connect goes."""
        settings = self._identities.settings
        device_id, host, port = self._identities.broker_of(identity)
        if at is not None:
            host, port = at.address
        return Session(
            device_id=device_id,
            host=host,
            port=port,
            context=self._identities.operational_context(identity),
            keepalive_s=settings.broker.keepalive_s,
            session_expiry_s=settings.broker.session_expiry_s,
            connect_timeout_s=settings.server.timeout_s,
            on_message=self._heard,
            on_published=self._applications.published,
            clean_start=clean_start,
        )

    def _serve(self, life: Life) -> None:
        """Stay connected, rotate when it is time, until stop() (returns) or until the connection ends (raises)."""
        with meanwhile(lambda answer: self._wait_for(answer, life)):
            self._stay(life)

    def _wait_for(self, answer: int, life: Life) -> None:
        """Serve session and applications while work is done apart. answer: can be read when it is done."""
        self._notifier.alive()
        drive([life.session], timeout_s=_IDLE_S, others=(*self._beside, Readable(answer)))

    def _stay(self, life: Life) -> None:
        self._connected(life)
        promote_at_s = 0.0
        # What is cut sooner counts as failed: two agents with one identity, say, that take the session from each other.
        lasting_at_s: float | None = time.monotonic() + self._identities.settings.broker.keepalive_s
        while not self._stop:
            life.session.raise_failure()
            if lasting_at_s is not None and time.monotonic() >= lasting_at_s:
                lasting_at_s = None
                self._connecting.succeeded()
            if not life.promoted and time.monotonic() >= promote_at_s:
                promote_at_s = time.monotonic() + _PROMOTE_EVERY_S
                self._promote(life)
            self._jobs.turn(life, lambda slot: self._take_over(life, slot))
            self._homecoming.trust.turn(life.session)
            if not self._jobs.under_way and (self._renew_now or self._due.due(life.slot.identity)):
                self._rotate(life)
            self._notifier.alive()
            self._board.beside(applications=self._applications.names, hook_failure=self._hook.result)
            wait_s = min(_IDLE_S, self._jobs.wait_s(), self._homecoming.trust.wait_s())
            drive([life.session], timeout_s=wait_s, wake=self._wake, others=self._beside)
        drive_until([life.session], lambda: self._applications.all_sent, timeout_s=_FAREWELL_S)
        self._connecting.succeeded()
        life.session.close(announce=True)

    def _connected(self, life: Life) -> None:
        identity, session = life.slot.identity, life.session
        self._enter(Phase.CONNECTED, session_present=session.session_present)
        log.info("connected", broker=session.where, serial=identity.serial_number, session=session.session_present)
        self._console.say(
            "connected", device_id=session.device_id, serial_number=identity.serial_number, broker=session.where
        )
        self._jobs.load(session.device_id)
        hello = Hello(AGENT, identity.serial_number, identity.not_after, *self._jobs.last)
        session.publish("hello", hello.encode())
        self._jobs.connected(life)
        self._applications.attach(session)
        if (peer_not_after := session.peer_not_after()) is not None:
            self._identities.clock.persist(peer_not_after=peer_not_after)
        _give_memory_back()

    # -- rotation

    def _rotate(self, life: Life, *, patient: bool = True) -> None:
        """Replace certificate and connection of `life`. Where that fails, the old ones stay as they are.

        patient: a failure is for the next attempt to make good; else it is raised.
        """
        self._renew_now = self._wait_no_longer = False
        self._renewing.begin()
        self._enter(Phase.RENEWING)
        try:
            self._take_over(life, self._homecoming.renew(life.slot))
        except AgentError as error:
            self._due.wait(self._renewing.wait_s(retry_after_s=retry_after_s(error)))
            self._board.renewal_failed(error, self._now(), serial=life.slot.identity.serial_number)
            log.failed("renewal-failed", error)
            if not patient:
                raise
            self._enter(Phase.CONNECTED)

    def _take_over(self, life: Life, slot: Slot) -> None:
        """Let the identity of `slot` take the session of `life` over. Raise what failed: then `life` is as it was."""
        old = life.slot.identity
        take_over(life, slot, open_session=partial(self._session, at=life.session), others=self._beside)
        self._renewing.succeeded()
        self._due.renewed()
        self._promote(life)
        self._connected(life)
        state = self._identities.settings.state
        self._hook.rotated(
            device_id=old.device_id,
            old_serial=old.serial_number,
            new_serial=slot.identity.serial_number,
            identity=state / slot.name,
            state=state,
        )

    def _promote(self, life: Life) -> None:
        """Make the slot in use current on disk, then tell the server. A full disk delays that, and nothing else."""
        serial = life.slot.identity.serial_number
        try:
            self._identities.slots.promote(life.slot)
        except StorageFailed as error:
            self._board.renewal_failed(error, self._now(), serial="")
            log.failed("promotion-failed", error, serial=serial)
            return
        life.promoted = True
        if not self._jobs.promoted(life):
            life.session.publish("active", Active(serial).encode())
        self._board.renewed(self._now(), serial=serial)
        log.info("renewed", serial=serial, not_after=stamp(life.slot.identity.not_after))

    def _heard(self, leaf: str, payload: bytes) -> None:
        if leaf.startswith(f"{topics.APPLICATIONS}/"):
            self._applications.deliver(leaf, payload)
        elif leaf == broker.LEAF:
            self._move(payload)
        elif leaf == "trust":
            self._homecoming.trust.heard(payload)
        else:
            self._jobs.heard(leaf, payload)

    def _move(self, payload: bytes) -> None:
        """Keep where the server says that our broker is. The connection stays: the next one goes there."""
        try:
            self._identities.keep_broker(BrokerEndpoint.decode(payload))
        except DecodeError as error:
            log.info("message-unreadable", leaf=broker.LEAF, size=len(payload), reason=str(error))
        except StorageFailed as error:
            log.failed("broker-not-kept", error)  # it is told again at the next hello

    # -- when something fails

    def _judge(self, identity: Identity, error: AgentError) -> None:
        """Find out whether `error` means that this identity is no good: then another is tried at once."""
        if isinstance(error, TlsFailed) and error.time and self._clock_can_be_set():
            self._hurry()
            return
        if isinstance(error, TlsFailed) and not error.peer and not error.time:
            if self._homecoming.trust.pull():  # it was refused by roots that count no more
                self._hurry()
            return
        reason: AgentError | None = error if leads_elsewhere(error) else None
        # Now and then of a broker that can't be reached too: another one may have taken its place. Seldom, since all of
        # a fleet can miss its broker at once.
        missed = isinstance(error, Unreachable) and self._connecting.failures % _ASK_EVERY == _ASK_EVERY - 1
        if missed or isinstance(error, BrokerRefused | ConnectionLost) or (isinstance(error, TlsFailed) and error.peer):
            before = self._identities.broker_of(identity)
            try:
                reason = self._homecoming.ask_why(identity)
            except AgentError as silence:
                log.failed("server-can-not-say-why", silence)
                return
            if reason is None and self._identities.broker_of(identity) != before:
                self._hurry()
        if reason is not None:
            log.failed("identity-refused", reason, serial=identity.serial_number)
            self._board.failed(reason, self._now())
            self._homecoming.refused.add(identity.serial_number)
            self._hurry()

    def _clock_can_be_set(self) -> bool:
        """Return whether the clock was not SET, and is now that the server has told the time."""
        was_set = self._identities.clock.state() is ClockState.SET
        self._identities.try_to_learn_time()
        return not was_set and self._identities.clock.state() is ClockState.SET

    def _hurry(self) -> None:
        """Skip the next wait: another way is open. Only a few times in a row, or two ways could chase each other."""
        self._hurried += 1
        self._skip_wait = self._hurried <= _MOST_HURRIED

    def _fail(self, error: AgentError) -> None:
        self._board.failed(error, self._now())
        log.failed("not-connected", error)
        self._console.say("failed", code=error.code, reason=str(error))
        if self._skip_wait:
            self._skip_wait = False
            return
        self._pause(self._connecting.wait_s(retry_after_s=retry_after_s(error)))

    def _pause(self, wait_s: float) -> None:
        """Wait; stop() and request_renewal() end it."""
        if wait_s <= 0:
            return
        self._enter(Phase.WAITING, wait_until=stamp(self._now() + timedelta(seconds=wait_s)))
        end_at_s = time.monotonic() + wait_s
        while not (self._stop or self._wait_no_longer) and (left_s := end_at_s - time.monotonic()) > 0:
            self._notifier.alive()
            drive([], timeout_s=left_s, wake=self._wake, others=self._beside)
        self._wait_no_longer = False

    # -- small things

    def _enter(self, phase: Phase, **changes: object) -> None:
        self._board.phase(phase, self._now(), **changes)
        self._notifier.status(phase.value)
        self._notifier.alive()

    def _now(self) -> datetime:
        return self._identities.clock.now()


def _give_memory_back() -> None:
    """Return what start or rotation needed for a moment, a few MB, to the kernel. musl has no malloc_trim."""
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
