"""When a certificate is due for renewal, by a clock or without one."""

import hashlib
from datetime import datetime, timedelta
from typing import Final

from birthmark_agent.settings import Renewal

_LATEST: Final = 0.98


def renew_at(leaf: bytes, *, not_before: datetime, not_after: datetime, renewal: Renewal) -> datetime:
    """Return when a certificate is due.

    The jitter comes from the certificate's own hash: it is the same after a restart, it needs no file, and it differs
    between devices that were born in the same second.
    """
    lifetime = (not_after - not_before).total_seconds()
    spread = int.from_bytes(hashlib.sha256(leaf).digest()[:8], "big") / 2**63 - 1.0  # -1 to 1
    part = min(renewal.fraction + spread * renewal.jitter, _LATEST)
    return not_before + timedelta(seconds=lifetime * max(part, 0.0))


def is_due(
    due: datetime, *, not_before: datetime, now: datetime, vouched: bool, held_s: float, obtained_here: bool
) -> bool:
    """Tell whether renew_at()'s moment has come.

    vouched: whether somebody vouches for `now`. held_s: how long this process has had the certificate, by a clock that
    never jumps: it is at least that old. obtained_here: this process fetched it, so it is not older either. Then a
    clock that runs ahead does not make it due: it would make the next one due as well, and the one after that.
    """
    if vouched:
        return now >= due
    return held_s >= (due - not_before).total_seconds() or (not obtained_here and now >= due)
