"""What one source may ask of us, judged before anything is computed for it.

A source is an IPv4 address, an IPv6 /64 (one subscriber holds that many addresses), or a verified client certificate: a
station relays a whole line's devices from one address. Tables are bounded; the least recently seen source leaves first,
and what it gains by that is one full bucket.
"""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from birthmark_server.web.errors import TooManyRequests

MOST_SOURCES: Final = 100_000


def source_of(address: str) -> str:
    """Return the key under which an address is counted; those that are none count as they are."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


class TokenBuckets:
    """One bucket of `burst` tokens per source, refilled at `per_s`. clock: seconds, monotonic."""

    __slots__ = ("_buckets", "_burst", "_clock", "_per_s")

    def __init__(self, *, per_s: float, burst: int, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, source: str) -> None:
        """Take one token or raise TooManyRequests, which says when the next one is there."""
        now = self._clock()
        tokens, since = self._buckets.pop(source, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self._per_s)
        granted = tokens >= 1.0
        self._buckets[source] = (tokens - 1.0 if granted else tokens, now)
        if len(self._buckets) > MOST_SOURCES:
            self._buckets.popitem(last=False)
        if not granted:
            wait_s = math.ceil((1.0 - tokens) / self._per_s)
            raise TooManyRequests(f"more than {self._per_s:g} requests per second", retry_after_s=wait_s)


class ConnectionLimit:
    """Counts open connections, altogether and per source."""

    __slots__ = ("_most", "_most_per_source", "_open", "_total")

    def __init__(self, *, most: int, most_per_source: int) -> None:
        self._most = most
        self._most_per_source = most_per_source
        self._open: dict[str, int] = {}
        self._total = 0

    def open(self, source: str) -> bool:
        """Count one more and return True; return False, counting nothing, where there are enough already."""
        mine = self._open.get(source, 0)
        if self._total >= self._most or mine >= self._most_per_source:
            return False
        self._open[source] = mine + 1
        self._total += 1
        return True

    def close(self, source: str) -> None:
        """Take back one that `open` counted."""
        self._total -= 1
        left = self._open[source] - 1
        if left:
            self._open[source] = left
        else:
            del self._open[source]
