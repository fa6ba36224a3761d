"""Certificate revocation lists over plain HTTP (RFC 5280 §4.2.1.13), where the certificates say that they are.

A list is signed, so it needs no TLS, and fetching it over TLS could need the list itself. Lists are made in the
background: in time, and within a couple of seconds of a revocation, by whatever process it was done; of many at once
comes one list. They are served from memory with ETag, Last-Modified and Cache-Control, so that caches in between do
their work.

A list that was not made anew though its turn came twice is growing stale: whoever checks it will refuse everyone once
nextUpdate has passed. The publisher says so at each look, as an error, long before.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from hashlib import sha256
from typing import Final, Protocol
from urllib.parse import urlsplit

from birthmark_server.ca.authority import Authority
from birthmark_server.ca.crl import build_crl
from birthmark_server.ca.issuer import Issuer
from birthmark_server.domain import Caller, CrlIssue, RevokedEntry
from birthmark_server.web.doors import PUBLIC, Answer, Call, Route
from birthmark_server.web.errors import NoSuchResource

log = logging.getLogger("birthmark.crl")

CRL_MIME: Final = "application/pkix-crl"  # RFC 2585 §4.2
POLL: Final = timedelta(seconds=1)
REST: Final = 10
"""How many times as long as making a list took, no other is made for a revocation: a tenth of a core at most, however
long the list has become."""
RETRY: Final = timedelta(minutes=1)
STALE: Final = 0.5
"""Which part of its lifetime may pass before a list counts as growing stale: two turns, or more."""
MAX_AGE_S: Final = 60
"""How long a cache may keep a list without asking: a revocation shall not wait for it."""


class CrlStore(Protocol):
    """What lists are made from: a part of store.protocol.Store, which says what each promises."""

    def count_revoked(self, issuer_sha256: str) -> int: ...

    def revoked_entries(self, issuer_sha256: str, *, since: datetime) -> Iterator[RevokedEntry]: ...

    def next_crl(self, issuer_sha256: str, *, at: datetime) -> CrlIssue: ...


@dataclass(frozen=True, slots=True)
class PublishedCrl:
    """One list as it is served."""

    der: bytes
    etag: str
    made_at: datetime
    next_update: datetime | None


@dataclass(frozen=True, slots=True)
class CrlAge:
    """How old an issuer's list is, and how long it is good: until its nextUpdate, negative from then on; seconds."""

    issuer: str
    age_s: float
    left_s: float


@dataclass(frozen=True, slots=True)
class _Turn:
    """When the next list of an issuer is due: at `until`, or from `rested` on if not `revoked` are revoked any more."""

    began: datetime
    rested: datetime
    until: datetime
    revoked: int


class CrlPublisher:
    """Makes and serves the lists of all our CAs. `refresh` is to be called every POLL.

    lifetime: from thisUpdate to nextUpdate. refresh: a new list is made this often though nothing was revoked, and at
    least four times within a list's lifetime.
    """

    def __init__(
        self,
        *,
        store: CrlStore,
        authority: Authority,
        lifetime: timedelta,
        refresh: timedelta,
        now: Callable[[], datetime],
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._authority = authority
        self._lifetime = lifetime
        self._every = min(refresh, lifetime / 4)
        self._now = now
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}
        self._shouted: datetime | None = None
        at = now().replace(microsecond=0)
        self._lists = {root.name: PublishedCrl(root.crl.der, _etag(root.crl.der), at, None) for root in authority.roots}

    def refresh(self) -> None:
        """Make the lists that are due. What fails for one leaves its old list in place and is logged, then retried."""
        for issuer in self._authority.issuers:
            try:
                with self._lock:
                    self._refresh(issuer)
            except Exception:
                log.exception("crl not made", extra={"fields": {"issuer": issuer.name}})
                now = self._now()
                self._turns[issuer.name] = _Turn(began=now, rested=now + RETRY, until=now + RETRY, revoked=0)
        self._watch()

    def make_anew(self, issuers: Collection[str]) -> list[bytes]:
        """Make the lists of these CAs (SHA-256 of their certificates) at once, whatever their turn; serve them, and
        return them, DER. One that is none of ours is left out. What fails is raised."""
        made = []
        for issuer in self._authority.issuers:
            if issuer.sha256 in issuers:
                with self._lock:
                    self._lists[issuer.name] = self._make(issuer)
                    made.append(self._lists[issuer.name].der)
        return made

    def stale(self) -> tuple[str, ...]:
        """Return, a sentence each, which lists were not made anew in time: with STALE of their lifetime gone."""
        now, sentences = self._now(), []
        for issuer in self._authority.issuers:
            made = self._lists.get(issuer.name)
            if made is None or made.next_update is None:
                sentences.append(f"there is no CRL of {issuer.name}")
            elif now > made.next_update - (1 - STALE) * self._lifetime:
                sentences.append(f"the CRL of {issuer.name} ends at {made.next_update:%Y-%m-%dT%H:%M:%SZ}")
        return tuple(sentences)

    def ages(self) -> tuple[CrlAge, ...]:
        """Return the ages of our issuing CAs' lists; of one that has no list, nothing."""
        now = self._now()
        served = ((issuer.name, self._lists.get(issuer.name)) for issuer in self._authority.issuers)
        return tuple(
            CrlAge(name, (now - made.made_at).total_seconds(), (made.next_update - now).total_seconds())
            for name, made in served
            if made is not None and made.next_update is not None
        )

    def _watch(self) -> None:
        """Shout what grows stale, once every RETRY."""
        stale, now = self.stale(), self._now()
        if not stale:
            self._shouted = None
        elif self._shouted is None or not timedelta(0) <= now - self._shouted < RETRY:
            self._shouted = now
            for sentence in stale:
                log.error("crl grows stale", extra={"fields": {"detail": sentence}})

    def _refresh(self, issuer: Issuer) -> None:
        now, turn = self._now(), self._turns.get(issuer.name)
        in_time = turn is not None and turn.began <= now < turn.until  # a clock that was set back is not waited for
        if turn is not None and in_time and now < turn.rested:
            return
        revoked = self._store.count_revoked(issuer.sha256)  # before the list is read: it may have more, never less
        if turn is not None and in_time and revoked == turn.revoked:
            return
        began = self._stopwatch()
        self._lists[issuer.name] = self._make(issuer)
        rest = timedelta(seconds=REST * (self._stopwatch() - began))
        self._turns[issuer.name] = _Turn(began=now, rested=now + rest, until=now + self._every, revoked=revoked)

    def _make(self, issuer: Issuer) -> PublishedCrl:
        now = self._now().replace(microsecond=0)
        next_update = now + self._lifetime
        issue = self._store.next_crl(issuer.sha256, at=now)
        # An entry is on every list for a whole lifetime after its certificate expired, and on one in any case, however
        # long none was made (RFC 5280 §3.3): whoever relies on the scheduled ones has seen it there.
        since = min(now - self._lifetime, issue.previous_at or now)
        der = build_crl(
            issuer,
            self._store.revoked_entries(issuer.sha256, since=since),
            number=issue.number,
            now=now,
            next_update=next_update,
        )
        log.info("crl made", extra={"fields": {"issuer": issuer.name, "bytes": len(der)}})
        return PublishedCrl(der, _etag(der), now, next_update)

    def routes(self) -> list[Route]:
        """Return the route under which the certificates' distribution points lead here."""
        folder = urlsplit(self._authority.namespace.public_url).path.rstrip("/")
        return [Route("GET", f"{folder}/crl/{{id}}", PUBLIC, self._serve, cheap=True)]

    def _serve(self, call: Call, _caller: Caller) -> Answer:
        published = self._lists.get(call.argument.removesuffix(".crl"))
        if published is None or not call.argument.endswith(".crl"):
            raise NoSuchResource(f"no CRL is called {call.argument[:80]}")
        headers = (
            ("ETag", published.etag),
            ("Last-Modified", format_datetime(published.made_at, usegmt=True)),
            ("Cache-Control", f"public, max-age={MAX_AGE_S}"),
        )
        if _unchanged(call, published):
            return Answer(304, b"", CRL_MIME, headers)
        return Answer(200, published.der, CRL_MIME, headers)


def _etag(der: bytes) -> str:
    return f'"{sha256(der).hexdigest()[:32]}"'


def _unchanged(call: Call, published: PublishedCrl) -> bool:
    """Return whether the client has this very list already (RFC 9110 §13.2.2: the ETag wins over the date)."""
    if call.if_none_match:
        return call.if_none_match.strip() == "*" or published.etag in (
            tag.strip().removeprefix("W/") for tag in call.if_none_match.split(",")
        )
    try:
        return bool(call.if_modified_since) and published.made_at <= parsedate_to_datetime(call.if_modified_since)
    except (ValueError, TypeError):
        return False
