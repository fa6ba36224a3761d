"""The book of refusals: each with its reason and what was shown, searched as easily as what was granted.

A stranger can make us refuse as often as the web room's limits allow, so the book takes a bounded number of entries per
minute; beyond it a refusal is logged and counted, not kept.
"""

import logging
from datetime import datetime
from typing import Final

from birthmark_server.domain import Caller, Refusal
from birthmark_server.errors import Refused
from birthmark_server.store.errors import StoreBusy, StoreFailed
from birthmark_server.store.protocol import Store

log = logging.getLogger("birthmark.refusals")

MOST_PER_MINUTE: Final = 600


class RefusalBook:
    """Writes refusals to the store. Never raises: the refusal itself is what the client must hear of."""

    def __init__(self, store: Store, *, most_per_minute: int = MOST_PER_MINUTE) -> None:
        self._store = store
        self._most = most_per_minute
        self._minute = 0
        self._written = 0

    def write(
        self,
        refused: Refused,
        *,
        door: str,
        caller: Caller,
        at: datetime,
        device_id: str = "",
        ek_sha256: str = "",
        evidence: bytes = b"",
    ) -> None:
        """Record one refusal. evidence: the body that was refused."""
        minute = int(at.timestamp()) // 60
        if minute != self._minute:
            if self._written > self._most:
                log.warning("refusals not kept", extra={"fields": {"count": self._written - self._most}})
            self._minute, self._written = minute, 0
        self._written += 1
        if self._written > self._most:
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
            evidence=evidence,
        )
        try:
            self._store.record_refusal(refusal)
        except (StoreBusy, StoreFailed) as error:
            log.error(
                "refusal not recorded",
                extra={"fields": {"request": caller.request_id, "code": refused.code, "reason": str(error)}},
            )
