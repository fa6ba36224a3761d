"""From the broker's network thread to the record and back: many messages under one commit, answers after it.

`hear` is BrokerLink's message handler: it only puts the message into a queue. A thread takes what has gathered, has the
service judge it within one Store.together, and publishes the answers when that is durable. A device's messages stay in
order: each device has one thread. A full queue holds the network thread up for a moment, which slows the broker down;
what finds no place then is dropped and counted. Nothing depends on one message: a job is sent again until it is over.
"""

import logging
import queue
import threading
import time
import zlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from birthmark_server.broker.errors import BrokerUnavailable
from birthmark_server.rotation.service import Outgoing
from birthmark_server.store.errors import StoreBusy, StoreFailed

MOST_WAITING: Final = 20_000
MOST_AT_ONCE: Final = 64
_PATIENCE_S: Final = 1.0
_TRIES: Final = 5
_log: Final = logging.getLogger(__name__)


class Judge(Protocol):
    """The service: see service.RotationService.handle."""

    def handle(self, device_id: str, leaf: str, payload: bytes, at: datetime) -> tuple[Outgoing, ...]: ...


class Together(Protocol):
    """The part of store.protocol.Store that gives many writes one commit."""

    def together(self) -> AbstractContextManager[None]: ...


class Publisher(Protocol):
    """The part of BrokerLink or BrokerControl that sends."""

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Heard:
    """One message of a device."""

    device_id: str
    leaf: str
    payload: bytes
    at: datetime


class Hearing:
    """`threads` threads from start() to stop(). most_waiting: messages in the queue of each."""

    def __init__(self, *, judge: Judge, store: Together, threads: int = 1, most_waiting: int = MOST_WAITING) -> None:
        self._judge = judge
        self._store = store
        self._publisher: Publisher | None = None
        self._queues: list[queue.Queue[Heard | None]] = [queue.Queue(most_waiting) for _ in range(threads)]
        self._threads = [
            threading.Thread(target=self._work, args=(one,), name=f"hear_{number}", daemon=True)
            for number, one in enumerate(self._queues)
        ]
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """How many messages wait in the queues, about."""
        return sum(one.qsize() for one in self._queues)

    def start(self, publisher: Publisher) -> None:
        """Begin. publisher: where answers go."""
        self._publisher = publisher
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what waits, and end."""
        for one in self._queues:
            one.put(None)
        for thread in self._threads:
            thread.join()

    def hear(self, device_id: str, leaf: str, payload: bytes, at: datetime) -> None:
        """BrokerLink's message handler."""
        mine = self._queues[zlib.crc32(device_id.encode()) % len(self._queues)]
        try:
            mine.put(Heard(device_id, leaf, payload, at), timeout=_PATIENCE_S)
        except queue.Full:
            self.dropped += 1
            _log.error("message dropped", extra={"fields": {"device": device_id, "leaf": leaf, "count": self.dropped}})

    def _work(self, mine: "queue.Queue[Heard | None]") -> None:
        ending = False
        while not ending:
            batch = [mine.get()]
            while len(batch) < MOST_AT_ONCE and batch[-1] is not None and not mine.empty():
                batch.append(mine.get_nowait())
            ending = batch[-1] is None
            heard = [one for one in batch if one is not None]
            if heard:
                self._publish(self._judged(heard))

    def _judged(self, heard: list[Heard]) -> list[Outgoing]:
        """Return the answers of a batch when they may be told; none where the store would not have it."""
        for attempt in range(_TRIES):
            try:
                with self._store.together():
                    return [answer for one in heard for answer in self._one(one)]
            except (StoreFailed, StoreBusy) as error:
                _log.warning(
                    "messages wait for the store", extra={"fields": {"count": len(heard), "reason": str(error)}}
                )
                time.sleep(min(2.0**attempt / 10, 2.0))
        _log.error("messages given up", extra={"fields": {"count": len(heard)}})
        return []

    def _one(self, heard: Heard) -> tuple[Outgoing, ...]:
        try:
            return self._judge.handle(heard.device_id, heard.leaf, heard.payload, heard.at)
        except (StoreFailed, StoreBusy):
            raise
        except Exception:  # noqa: BLE001 - this thread carries many devices' messages: none of them may end it
            _log.exception("message failed", extra={"fields": {"device": heard.device_id, "leaf": heard.leaf}})
            return ()

    def _publish(self, answers: list[Outgoing]) -> None:
        for answer in answers:
            try:
                if self._publisher is not None:
                    self._publisher.publish(answer.topic, answer.payload, expires_s=answer.expires_s)
            except BrokerUnavailable as error:
                _log.warning("answers not sent", extra={"fields": {"count": len(answers), "reason": str(error)}})
                return
