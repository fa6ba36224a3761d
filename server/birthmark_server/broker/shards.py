"""BrokerControl over one broker or several, each a Mosquitto with our gate, each with a link of its own.

A device is on one of them: the one that it is assigned to (assignment.py), or for a while still another, since it
follows at its next connect. So all are heard, all are asked who is connected, and all are told who is denied; what is
published goes to where the device was heard last, and everywhere while nobody knows.

Rules: a denial is on the disk before any is told. Each broker is asked by threads of its own, so one that is down, or
stalls, holds up none of the others: it is left out of what is asked, told by its deny list when it is back, and lets
nobody in once that list's lease is over. Only where none answers is that an error.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol, TypeVar

from cryptography import x509

from birthmark_server.broker.assignment import Assignment, Shard
from birthmark_server.broker.control import (
    BrokerHealth,
    Connection,
    await_issuers,
    gate_connections,
    gate_find,
    gate_health,
    gate_issuers,
    gate_kick,
    merge_health,
    tell_gate,
)
from birthmark_server.broker.denyfile import Denials, DenyFile, DenyList
from birthmark_server.broker.errors import BrokerRefused, BrokerUnavailable
from birthmark_server.broker.link import MessageHandler
from birthmark_server.broker.trust_files import IssuersInForce, TrustSet
from birthmark_server.errors import Misconfigured
from birthmark_wire import topics
from birthmark_wire.broker import LEAF
from birthmark_wire.encoding import JsonObject
from birthmark_wire.errors import DecodeError

HEARD_FOR_S: Final = 60.0
"""How long it counts where a device was heard: an answer follows within seconds, and a device may move on."""

_MOST_HEARD: Final = 50_000
_TOLD_WITHIN_S: Final = 2.5
_THREADS: Final = 4
_MOVE_EXPIRES_S: Final = 300
_log: Final = logging.getLogger(__name__)
T = TypeVar("T")


class ShardLink(Protocol):
    """The part of link.BrokerLink that is used of each."""

    @property
    def live(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def wait_tried(self, timeout_s: float) -> bool: ...

    def ask(self, command: str, *, timeout_s: float = 5.0) -> JsonObject: ...

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None: ...


LinkMaker = Callable[[Shard, MessageHandler | None], ShardLink]
"""Makes the link to a shard, not yet started, for a handler of what is heard there."""


@dataclass(frozen=True, slots=True)
class ShardHealth:
    """How one of them is. health: None where it can't be asked; problem: what is wrong, empty where nothing is."""

    shard: Shard
    health: BrokerHealth | None
    problem: str


class ShardedControl:
    """BrokerControl over `shards`, from start() to stop(). on_message: as BrokerLink's, for all of them.

    deny_file: None where this server tells no broker by file; deny() and set_denied() then raise Misconfigured.
    """

    def __init__(
        self,
        *,
        shards: Sequence[Shard],
        make_link: LinkMaker,
        on_message: MessageHandler | None,
        deny_file: DenyFile | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.assignment = Assignment(shards)
        self._on_message = on_message
        self._deny_file = deny_file
        self._clock = clock
        self._heard: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._shards = {shard.name: shard for shard in shards}
        self._links = {shard.name: make_link(shard, on_message and self._ear(shard)) for shard in shards}
        self._threads = {
            name: ThreadPoolExecutor(_THREADS, thread_name_prefix=f"broker_{name}") for name in self._links
        }

    def start(self) -> None:
        """Begin to connect to each, and stay connected; returns at once."""
        for link in self._links.values():
            link.start()

    def stop(self) -> None:
        """Disconnect from each."""
        for link in self._links.values():
            link.stop()
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)

    @property
    def live(self) -> bool:
        """Whether at least one can be used."""
        return any(link.live for link in self._links.values())

    @property
    def all_live(self) -> bool:
        """Whether all of them hear us."""
        return all(link.live for link in self._links.values())

    def wait_tried(self, timeout_s: float) -> bool:
        """Wait until the first attempt with each has come to something; return whether one can be used."""
        until = time.monotonic() + timeout_s
        for link in self._links.values():
            link.wait_tried(max(0.0, until - time.monotonic()))
        return self.live

    # -- BrokerControl

    def deny(self, *, devices: Collection[str] = (), serials: Collection[str] = ()) -> DenyList:
        """See BrokerControl."""
        denied = self._file.add(devices=devices, serials=serials)
        self.tell(denied, devices=devices, serials=serials)
        return denied

    def tell(self, denied: DenyList, *, devices: Collection[str], serials: Collection[str]) -> None:
        """Run ahead of the list `denied`, which is on the disk: see control.tell_gate. Raises nothing."""
        asked = [
            self._threads[name].submit(tell_gate, link, denied, devices=devices, serials=serials)
            for name, link in self._links.items()
        ]
        _done, late = wait(asked, timeout=_TOLD_WITHIN_S)
        if late:
            _log.warning("brokers not told in time by command", extra={"fields": {"count": len(late)}})

    def set_denied(self, read_denials: Callable[[], Denials]) -> DenyList:
        """See BrokerControl."""
        return self._file.replace(read_denials)

    def kick(self, device_id: str) -> int:
        """See BrokerControl."""
        return sum(cut for _name, cut in self._each(lambda link: gate_kick(link, device_id)))

    def connections(self) -> list[Connection]:
        """See BrokerControl; of the brokers that answer."""
        return self._merged(gate_connections)

    def connections_of(self, device_ids: Collection[str]) -> list[Connection]:
        """See BrokerControl; of the brokers that answer."""
        return self._merged(lambda link: gate_find(link, device_ids))

    def _merged(self, ask: Callable[[ShardLink], list[Connection]]) -> list[Connection]:
        return [replace(one, node=name) for name, found in self._each(ask) for one in found]

    def health(self) -> BrokerHealth:
        """See BrokerControl."""
        answered = dict(self._each(gate_health))
        return merge_health(list(answered.values()), unreachable=[name for name in self._links if name not in answered])

    def each_health(self) -> list[ShardHealth]:
        """Ask each how it is; those that don't answer are in the list too."""
        asked = {name: self._threads[name].submit(gate_health, link) for name, link in self._links.items()}
        return [_look(self._shards[name], future) for name, future in asked.items()]

    def update_trust(
        self,
        *,
        roots: Sequence[x509.Certificate],
        fleet: Sequence[x509.Certificate],
        infra: Sequence[x509.Certificate],
        links: Sequence[x509.Certificate] = (),
    ) -> IssuersInForce:
        """See BrokerControl; of the brokers that answer. The files lie beside the deny file, as MosquittoControl has
        them, and beside each copy of it; a broker that has none here is given them by what brings it the list."""
        wanted = TrustSet.checked(roots=roots, fleet=fleet, infra=infra, links=links)
        for folder in dict.fromkeys((self._file.path.parent, *(copy.parent for copy in self._file.copies))):
            wanted.install(folder)
        in_force, asked = IssuersInForce.of(wanted), {name for name, link in self._links.items() if link.live}
        late = asked - dict(self._each(lambda link: await_issuers(link, in_force))).keys()
        if late:
            raise BrokerUnavailable(f"{', '.join(sorted(late))}: the new CAs were not confirmed")
        return in_force

    def issuers(self) -> IssuersInForce:
        """See BrokerControl: those by which all judge that answer."""
        every = [seen for _name, seen in self._each(gate_issuers)]
        return IssuersInForce(
            frozenset.intersection(*(seen.fleet for seen in every)),
            frozenset.intersection(*(seen.infra for seen in every)),
            any(seen.stale for seen in every),
        )

    def each_issuers(self) -> dict[str, IssuersInForce]:
        """Ask each by which CAs it judges, by its address; those that don't answer are left out."""
        found = self._each(gate_issuers)
        return {f"{self._shards[name].endpoint.host}:{self._shards[name].endpoint.port}": seen for name, seen in found}

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None:
        """See BrokerControl. Raises BrokerUnavailable where none can be used: what one that is down would have carried
        is lost, as it is with a device that is away, and said again from the database."""
        where = self._where(topic)
        links = [self._links[where]] if where else list(self._links.values())
        sent = 0
        for link in links:
            try:
                link.publish(topic, payload, expires_s=expires_s)
                sent += 1
            except BrokerUnavailable:
                if len(self._links) == 1:
                    raise
        if not sent and not self.live:
            raise BrokerUnavailable(f"not connected to any of {len(self._links)} brokers")

    # -- who is where

    def _ear(self, shard: Shard) -> MessageHandler:
        """Return what hears the devices of `shard`: it notes where they are, and tells those that belong elsewhere."""
        hear = self._on_message
        if hear is None:
            raise ValueError("nobody listens")
        if len(self._shards) == 1:
            return hear

        def heard(device_id: str, leaf: str, payload: bytes, at: datetime) -> None:
            self._note(device_id, shard.name)
            if leaf == "hello":
                self._show_the_way(device_id, shard)
            hear(device_id, leaf, payload, at)

        return heard

    def _note(self, device_id: str, name: str) -> None:
        with self._lock:
            self._heard[device_id] = (name, self._clock() + HEARD_FOR_S)
            self._heard.move_to_end(device_id)
            if len(self._heard) > _MOST_HEARD:
                self._heard.popitem(last=False)

    def _where(self, topic: str) -> str:
        """Return the shard of the device that a topic is of, empty where nobody knows."""
        if len(self._links) == 1:
            return next(iter(self._links))
        device_id = topic.split("/", 2)[1]
        with self._lock:
            name, until = self._heard.get(device_id, ("", 0.0))
        return name if self._clock() < until else ""

    def _show_the_way(self, device_id: str, shard: Shard) -> None:
        own = self.assignment.of(device_id)
        if own.name == shard.name:
            return
        try:
            self._links[shard.name].publish(
                topics.down(device_id, LEAF), own.endpoint.encode(), expires_s=_MOVE_EXPIRES_S
            )
        except BrokerUnavailable:
            return  # at its next hello
        _log.info("device told of its broker", extra={"fields": {"device": device_id, "broker": own.name}})

    # -- asking

    @property
    def _file(self) -> DenyFile:
        if self._deny_file is None:
            raise Misconfigured("[broker] deny_file is not set")
        return self._deny_file

    def _each(self, ask: Callable[[ShardLink], T]) -> list[tuple[str, T]]:
        """Ask all at once; return what those said that answered. Raise what one failed with where none did."""
        asked = {name: self._threads[name].submit(ask, link) for name, link in self._links.items()}
        answered: list[tuple[str, T]] = []
        failed: list[BrokerUnavailable | BrokerRefused] = []
        for name, future in asked.items():
            try:
                answered.append((name, future.result()))
            except (BrokerUnavailable, BrokerRefused) as error:
                failed.append(error)
            except DecodeError as error:  # one that says nonsense is as one that says nothing
                failed.append(BrokerUnavailable(f"{name}: its answer can't be read: {error}"))
        if not answered:
            raise failed[0]
        for one in failed:
            _log.warning("broker not asked", extra={"fields": {"reason": str(one)}})
        return answered


def _look(shard: Shard, asked: Future[BrokerHealth]) -> ShardHealth:
    try:
        health = asked.result()
    except (BrokerUnavailable, BrokerRefused, DecodeError) as error:
        return ShardHealth(shard, None, str(error))
    if not health.open:
        return ShardHealth(shard, health, "the gate lets nobody new in: its list's lease is over, or a clock is wrong")
    return ShardHealth(
        shard, health, "the gate could not read a newer list: its log says why" if health.deny_stale else ""
    )
