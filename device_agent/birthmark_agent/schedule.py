"""When a certificate is due for renewal."""

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
