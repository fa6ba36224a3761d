"""Which broker a device belongs to, where there are several: rendezvous hashing over their names. Pure.

Every server computes the same from the same settings, and nothing is stored. A broker that is added takes its share
from all the others, one that is drained gives its devices to all the others, and no other device moves
(docs/adr/0044).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from birthmark_server.errors import Misconfigured
from birthmark_wire.broker import BrokerEndpoint


@dataclass(frozen=True, slots=True)
class Shard:
    """One broker of several. name: what the assignment goes by, so it stays when the endpoint changes. drain: it is
    given no device any more."""

    name: str
    endpoint: BrokerEndpoint
    drain: bool = False


class Assignment:
    """Of devices to `shards`. Raise Misconfigured where none takes devices, or two have one name."""

    def __init__(self, shards: Iterable[Shard]) -> None:
        every = tuple(shards)
        if len({shard.name for shard in every}) != len(every):
            raise Misconfigured("[[broker.shards]]: want a name of its own for each")
        self._taking = tuple(shard for shard in every if not shard.drain)
        if not self._taking:
            raise Misconfigured("[[broker.shards]]: want at least one that is not drained")

    def of(self, device_id: str) -> Shard:
        """Return the device's shard."""
        if len(self._taking) == 1:
            return self._taking[0]
        return max(self._taking, key=lambda shard: sha256(f"{shard.name}\0{device_id}".encode()).digest())

    def endpoint(self, device_id: str) -> BrokerEndpoint:
        """Return where the device goes."""
        return self.of(device_id).endpoint
