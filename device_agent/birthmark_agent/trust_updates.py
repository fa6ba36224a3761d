"""How a device comes to other roots: a bundle pushed on `down/trust`, or pulled from the server over HTTPS.

Each that was pushed is answered on `up/trust`, with the version that is pinned afterwards. Pulled is after EST, since
who comes home from a long sleep does so that way, and when the broker's certificate is refused; at a pace that restarts
do not reset. Connections that are open go on: the next ones are judged by the new roots.

What may pass (the clock is not set, the disk is full, memory is short) is answered too; the same bundle is tried again
when it is pushed again, and by ourselves, later each time.
"""

import time
from collections import deque
from math import inf
from typing import Final

from birthmark_agent import log
from birthmark_agent.apart import apart
from birthmark_agent.backoff import Backoff, Pace
from birthmark_agent.clock import ClockState
from birthmark_agent.command import ClockNotSet
from birthmark_agent.errors import AgentError
from birthmark_agent.http import PROBLEM_MIME, Refused
from birthmark_agent.identity import Identities
from birthmark_agent.mqtt import Session
from birthmark_agent.trust_bundle import ArrivedBundle, TrustRefused, check_version, read_bundle, verify_bundle
from birthmark_wire.trust import TRUST_CONTENT_TYPE, TRUST_PATH, TrustAck

_MOST_WAITING: Final = 4
_HELD_S: Final = 60.0
_MOST_HELD_S: Final = 3600.0
_NOT_FOUND: Final = 404


class TrustUpdates:
    """The trust bundles of one device."""

    def __init__(self, identities: Identities) -> None:
        retry, renewal = identities.settings.retry, identities.settings.renewal
        self._identities = identities
        self._pace = Backoff("trust", Pace(retry.first_s, retry.most_s, renewal.floor_s), files=identities.files)
        self._inbox: deque[bytes] = deque()
        self._held = b""
        self._held_for_s = 0.0
        self._held_until_s = inf

    # -- pushed

    def heard(self, payload: bytes) -> None:
        """Note what came on `down/trust`; turn() does the work. What is too much is dropped: it is pushed again."""
        if len(self._inbox) < _MOST_WAITING:
            self._inbox.append(payload)
        else:
            log.info("message-dropped", leaf="trust", reason="too many at once")

    def wait_s(self) -> float:
        """Return after how long turn() should be called though nothing came."""
        return 0.0 if self._inbox else max(0.0, self._held_until_s - time.monotonic())

    def turn(self, session: Session) -> None:
        """Take or refuse what was pushed, and say so."""
        while self._inbox:
            self._held_for_s = 0.0
            self._answer(session, self._inbox.popleft())
        if time.monotonic() >= self._held_until_s:
            self._answer(session, self._held)

    def _answer(self, session: Session, payload: bytes) -> None:
        self._held, self._held_until_s = b"", inf
        code = detail = ""
        try:
            self._take(payload)
        except AgentError as error:
            code, detail = error.code, str(error)
            log.failed("trust-bundle-not-taken", error)
            if not isinstance(error, TrustRefused):
                self._hold(payload)
        session.publish("trust", TrustAck(self._identities.trust.version, code, detail).encode())

    def _hold(self, payload: bytes) -> None:
        self._held_for_s = min(max(_HELD_S, 2 * self._held_for_s), _MOST_HELD_S)
        self._held, self._held_until_s = payload, time.monotonic() + self._pace.spread(self._held_for_s)

    # -- pulled

    def pull(self) -> bool:
        """Ask the server which roots count now, unless the last time was just now; return whether others do.

        What goes wrong is logged, and nothing else: what is pinned still counts.
        """
        if self._pace.floor_left_s() > 0:
            return False
        self._pace.begin()
        try:
            payload = apart(self._fetch)
            changed = payload is not None and self._take(payload)
        except AgentError as error:
            log.failed("trust-bundle-not-pulled", error)
            return False
        self._pace.succeeded()
        return changed

    def _fetch(self) -> bytes | None:
        with self._identities.to_server() as connection:
            try:
                answer = connection.request("GET", TRUST_PATH, accept=f"{TRUST_CONTENT_TYPE}, {PROBLEM_MIME}")
            except Refused as error:
                if error.problem.status == _NOT_FOUND:  # no bundle yet: what was flashed counts
                    return None
                raise
        return answer.body

    # -- taken

    def _take(self, payload: bytes) -> bool:
        """Pin the roots of this bundle, durably; return whether they are others. Raise TrustRefused where it must not
        be, ClockNotSet, WorkLost, StorageFailed where it may be later."""
        arrived = read_bundle(payload)
        if arrived.digest == self._identities.trust.digest:
            return False
        check_version(arrived, pinned=self._identities.trust)
        self._prove(arrived)
        self._identities.adopt(arrived.message.payload)
        log.info("trust-bundle-taken", version=arrived.bundle.version, roots=len(arrived.bundle.roots))
        return True

    def _prove(self, arrived: ArrivedBundle) -> None:
        clock, pinned = self._identities.clock, self._identities.trust
        if clock.state() is not ClockState.SET:
            apart(lambda: verify_bundle(arrived, pinned=pinned, at=None))
            self._identities.try_to_learn_time()
            if clock.state() is not ClockState.SET:
                raise ClockNotSet("nobody vouches for the clock, and the server did not tell the time")
        now = clock.now()
        apart(lambda: verify_bundle(arrived, pinned=pinned, at=now))
