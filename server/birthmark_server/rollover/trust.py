"""The trust bundle as this server gives it out: signed once, offered at a hello, told to whom the broker shows.

One that a device has not acknowledged is sent at its hello, and after a new version to whoever is connected: in
portions, again after a while, by one server each time (AuthorityStore.claim_pushes). Nothing depends on one message.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from birthmark_server.broker.control import Connection
from birthmark_server.broker.errors import BrokerUnavailable
from birthmark_server.broker.policy import Role
from birthmark_server.store.authority_protocol import AuthorityStore
from birthmark_wire import topics
from birthmark_wire.encoding import printable
from birthmark_wire.trust import MAX_TRUST_BYTES, TrustAck, TrustBundle

PORTION: Final = 500
EXPIRES_S: Final = 3600
"""For how long the broker keeps it for a device that is away: it is offered again at its hello."""
_LOOK_AGAIN: Final = timedelta(seconds=15)
_REST: Final = timedelta(minutes=2)
_FIRST_AGAIN: Final = timedelta(seconds=30)
_LAST_AGAIN: Final = timedelta(hours=1)
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """jws: as devices take it (docs/protocol.md 12)."""

    version: int
    jws: bytes


class TrustBook:
    """The bundle in force; `current` is it, signed. sign: makes a JWS of a payload; None where this server signs
    nothing: then it gives none out. `refresh` is to be called after each act."""

    def __init__(self, *, store: AuthorityStore, sign: Callable[[bytes], bytes] | None) -> None:
        self._store = store
        self._sign = sign
        self.bundle: TrustBundle | None = None
        self.current: SignedBundle | None = None

    def refresh(self) -> None:
        """Read the newest version."""
        record = self._store.latest_bundle()
        if record is None or (self.bundle and self.bundle.version == record.version):
            return
        self.bundle = TrustBundle.decode(record.payload)
        if self._sign is None:
            return
        jws = self._sign(record.payload)
        if len(jws) > MAX_TRUST_BYTES:
            _log.error("trust bundle too large", extra={"fields": {"version": record.version, "bytes": len(jws)}})
            return
        self.current = SignedBundle(record.version, jws)

    def offer(self, device_id: str) -> bytes | None:
        """Return what this device is to be sent; None where it has it, or there is none."""
        bundle = self.current
        if bundle is None or self._store.trust_of(device_id) >= bundle.version:
            return None
        return bundle.jws

    def acknowledge(self, device_id: str, payload: bytes, at: datetime) -> None:
        """Keep what a device says it trusts. Raise DecodeError."""
        ack = TrustAck.decode(payload)
        ack = replace(ack, detail=printable(ack.detail))
        self._store.note_trust(device_id, ack, at=at)
        if ack.code:
            _log.warning(
                "trust bundle refused",
                extra={"fields": {"device": device_id, "code": ack.code, "detail": ack.detail, "has": ack.version}},
            )


class Publisher(Protocol):
    """The part of BrokerLink that sends."""

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None: ...


class Shown(Protocol):
    """What the broker shows."""

    @property
    def live(self) -> bool: ...

    def connections(self) -> list[Connection]: ...


class TrustPush:
    """See engine.Work: a portion at each run."""

    def __init__(
        self,
        *,
        store: AuthorityStore,
        book: TrustBook,
        publisher: Publisher,
        broker: Shown,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._book = book
        self._publisher = publisher
        self._broker = broker
        self._now = now
        self._version = 0
        self._look_at: datetime | None = None
        self._waiting: list[str] = []
        self._sent = 0

    def run(self) -> int:
        """Tell the next portion of those connected; return 1 while there is more to look at."""
        bundle, now = self._book.current, self._now()
        if bundle is None or not self._broker.live:
            return 0
        if bundle.version != self._version:
            self._version, self._look_at, self._waiting = bundle.version, None, []
        try:
            if not self._waiting and not self._look(now):
                return 0
            portion, self._waiting = self._waiting[:PORTION], self._waiting[PORTION:]
            for device_id in self._store.claim_pushes(portion, version=bundle.version, at=now, again=_again):
                self._publisher.publish(topics.down(device_id, "trust"), bundle.jws, expires_s=EXPIRES_S)
                self._sent += 1
        except BrokerUnavailable as error:
            _log.warning("trust bundle not sent", extra={"fields": {"reason": str(error)}})
            return 0
        if self._waiting:
            return 1
        self._look_at = now + (_LOOK_AGAIN if self._sent else _REST)
        self._sent = 0
        return 0

    def _look(self, now: datetime) -> bool:
        """Ask the broker who is there, if it is time to; return whether anyone is."""
        if self._look_at is not None and now < self._look_at:
            return False
        self._waiting = sorted({one.identity for one in self._broker.connections() if one.role is Role.DEVICE})
        if not self._waiting:
            self._look_at = now + _REST
        return bool(self._waiting)


def _again(sends: int) -> timedelta:
    return min(_FIRST_AGAIN * 4.0 ** min(sends, 6), _LAST_AGAIN)
