"""The book of refusals: each with its reason and what was shown, searched as easily as what was granted.

A stranger can make us refuse as often as the web room's limits allow, and must neither fill the disk nor write so much
that nobody finds the rest. So per minute the book takes a bounded number of entries from one source, from all
strangers, and from all who have proven something; what strangers do never keeps the latter out. Bodies are kept whole
only of those, else their SHA-256 and first kibibyte. What is not kept is counted and logged. The store throws away what
is old, or too much (Store.purge_refusals).
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final, Protocol

from birthmark_server.domain import Caller, Refusal
from birthmark_server.errors import Refused
from birthmark_server.store.errors import StoreBusy, StoreFailed

log = logging.getLogger("birthmark.refusals")

MOST_PER_MINUTE: Final = 600
MOST_PER_SOURCE: Final = 60
EXCERPT_BYTES: Final = 1024


class RefusalStore(Protocol):
    """What the book needs of store.protocol.Store."""

    def record_refusal(self, refusal: Refusal) -> None:
        """Write it down. Raise StoreBusy, StoreFailed."""


class RefusalBook:
    """Writes refusals to the store. Never raises: the refusal itself is what the client must hear of. Thread-safe.

    count: told door and code of each refusal, whether there is room for it in the book or not.
    """

    def __init__(
        self,
        store: RefusalStore,
        *,
        count: Callable[[str, str], None] = lambda _door, _code: None,
        most_per_minute: int = MOST_PER_MINUTE,
        most_per_source: int = MOST_PER_SOURCE,
    ) -> None:
        self._store = store
        self._count = count
        self._room = _Room(most_per_minute, most_per_source)

    def write(
        self,
        refused: Refused,
        *,
        door: str,
        caller: Caller,
        at: datetime,
        device_id: str = "",
        ek_sha256: str = "",
        other_ek_sha256: Sequence[str] = (),
        evidence: bytes = b"",
        proven: bool = False,
    ) -> None:
        """Record one refusal. evidence: the body that was refused. proven: the EK that it shows is a genuine TPM's."""
        self._count(door, refused.code)
        known = proven or caller.certificate is not None
        if not self._room.take(caller.source, known=known, minute=int(at.timestamp()) // 60):
            return
        refusal = Refusal(
            at=at,
            request_id=caller.request_id,
            door=door,
            source=caller.source,
            code=refused.code,
            detail=str(refused),
            device_id=device_id,
            ek_sha256=ek_sha256,
            evidence=evidence if known else excerpt(evidence),
            other_ek_sha256=tuple(other_ek_sha256),
        )
        try:
            self._store.record_refusal(refusal)
        except (StoreBusy, StoreFailed) as error:
            log.error(
                "refusal not recorded",
                extra={"fields": {"request": caller.request_id, "code": refused.code, "reason": str(error)}},
            )


class _Room:
    """How many entries this minute has room for. A minute has at most as many sources as entries."""

    def __init__(self, most: int, most_per_source: int) -> None:
        self._most = most
        self._most_per_source = most_per_source
        self._lock = threading.Lock()
        self._minute = 0
        self._of_source: Counter[str] = Counter()
        self._of_kind: Counter[bool] = Counter()
        self._turned_away = 0

    def take(self, source: str, *, known: bool, minute: int) -> bool:
        """Count one entry and return True; return False where there is no room for it."""
        with self._lock:
            if minute != self._minute:
                self._begin(minute)
            if self._of_source[source] >= self._most_per_source or self._of_kind[known] >= self._most:
                self._turned_away += 1
                return False
            self._of_source[source] += 1
            self._of_kind[known] += 1
            return True

    def _begin(self, minute: int) -> None:
        if self._turned_away:
            log.warning("refusals not kept", extra={"fields": {"count": self._turned_away}})
        self._minute, self._turned_away = minute, 0
        self._of_source.clear()
        self._of_kind.clear()


def excerpt(body: bytes) -> bytes:
    """Return `body` if it is short, else one line that names it, and how it begins."""
    if len(body) <= EXCERPT_BYTES:
        return body
    line = f"SHA-256 {sha256(body).hexdigest()} of {len(body)} bytes, which begin:\n"
    return line.encode() + body[:EXCERPT_BYTES]
