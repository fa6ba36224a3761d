"""`Idempotency-Key`: a request that is sent again, because its answer was lost, is answered as the first time.

The answer is kept for 24 hours, by who asked and the key. The same key with another request is refused (422), and one
whose first request is still being worked on, too (409). Only success is kept: what was refused may be tried again.
Whoever takes a key has a minute; a server that dies within leaves what it did undone or done, and a second request of
the same content then finds out which, from the rules of the act itself ("already there").
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from birthmark_server.store.fleet_protocol import FleetStore
from birthmark_server.web.doors import Answer, Call
from birthmark_server.web.errors import BadIdempotencyKey, KeyInUse, KeyReused

KEEP: Final = timedelta(hours=24)
LEASE: Final = timedelta(minutes=1)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class AnswerBook:
    """The answers kept in the store. now: UTC."""

    store: FleetStore
    now: Callable[[], datetime]

    def once(self, caller: str, call: Call, operation: str, answer: Callable[[], Answer]) -> Answer:
        """Return `answer()`, or what it returned when this caller asked for it before under this key.

        Raise BadIdempotencyKey, KeyReused, KeyInUse, and whatever `answer` raises. Without a key it is asked at once.
        """
        key = call.idempotency_key
        if not key:
            return answer()
        if not _KEY.fullmatch(key):
            raise BadIdempotencyKey("want an Idempotency-Key of 1 to 128 printable ASCII characters without spaces")
        digest = _digest(operation, call)
        at = self.now()
        kept = self.store.take_key(
            caller, key, request_sha256=digest, at=at, lease_until=at + LEASE, expires_at=at + KEEP
        )
        if kept is not None:
            if kept.request_sha256 != digest:
                raise KeyReused("this idempotency key came before, with another request")
            if kept.status == 0:
                raise KeyInUse("the first request with this idempotency key has not ended; ask again in a moment")
            return Answer(kept.status, kept.body, kept.media_type, (("Idempotency-Replayed", "true"),))
        try:
            given = answer()
        except BaseException:
            self.store.drop_key(caller, key)
            raise
        self.store.keep_answer(caller, key, status=given.status, media_type=given.media_type, body=given.body)
        return given


def _digest(operation: str, call: Call) -> str:
    fields = (operation.encode(), call.argument.encode(), call.query.encode(), call.body)
    return sha256(b"".join(len(part).to_bytes(8, "big") + part for part in fields)).hexdigest()
