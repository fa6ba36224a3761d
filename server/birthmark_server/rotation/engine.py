"""Rotation in a running server: the connections to the brokers, who hears them, and the rounds; started and stopped as
one.

A broker that is down is no error: its link comes back by itself, and what is due waits in the database.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from birthmark_server.broker.control import BrokerHealth
from birthmark_server.broker.link import Anchors
from birthmark_server.presence import Presence, RabbitNeeds, open_control
from birthmark_server.rotation.hearing import Hearing, Together
from birthmark_server.rotation.round import Round
from birthmark_server.rotation.service import RotationService
from birthmark_server.settings import BrokerSettings
from birthmark_server.store.job_protocol import JobStore

PAUSE_S: Final = 1.0
_log: Final = logging.getLogger(__name__)


class Work(Protocol):
    """Something to be done again and again. run: returns how much was done; 0 where there is nothing to do."""

    def run(self) -> int: ...


class Engine:
    """One server's part in rotation, from start() to stop()."""

    def __init__(
        self,
        *,
        broker: BrokerSettings,
        anchors: Anchors,
        store: Together,
        jobs: JobStore,
        service: RotationService,
        threads: int,
        now: Callable[[], datetime],
        work: Sequence[Work] = (),
        at_broker: Callable[[Presence], Sequence[Work]] = lambda _control: (),
        rabbit: RabbitNeeds | None = None,
    ) -> None:
        """anchors: what the broker's certificate must lead to. work: what is done besides, before each round;
        at_broker: and makes what is done by the connections to the brokers. rabbit: as open_control's.

        Raise Misconfigured if the broker's settings can't be used.
        """
        self._hearing = Hearing(judge=service, store=store, threads=threads)
        self.control = open_control(broker, anchors=anchors, on_message=self._hearing.hear, rabbit=rabbit)
        self._work: tuple[Work, ...] = (
            *work,
            *at_broker(self.control),
            Round(
                store=store,
                jobs=jobs,
                service=service,
                publisher=self.control,
                broker=self.control,
                now=now,
            ),
        )
        self._over = threading.Event()
        self._rounds = threading.Thread(target=self._go_round, name="rotation", daemon=True)

    @property
    def live(self) -> bool:
        """Connected to every broker, and hearing the devices."""
        return self.control.all_live

    @property
    def waiting(self) -> int:
        """Messages that were heard, and not judged yet."""
        return self._hearing.waiting

    @property
    def dropped(self) -> int:
        """Messages that found no place, since the start."""
        return self._hearing.dropped

    def each_health(self) -> dict[str, BrokerHealth | None]:
        """Ask each broker how it is, by name; None for one that does not answer."""
        return {one.shard.name: one.health for one in self.control.each_health()}

    def start(self) -> None:
        """Begin; returns at once."""
        self._hearing.start(self.control)
        self.control.start()
        self._rounds.start()

    def stop(self) -> None:
        """End, the messages that were heard being dealt with first."""
        self._over.set()
        self._rounds.join()
        self.control.stop()
        self._hearing.stop()

    def _go_round(self) -> None:
        while not self._over.is_set():
            if sum(self._done(work) for work in self._work) == 0:
                self._over.wait(PAUSE_S)

    def _done(self, work: Work) -> int:
        try:
            return work.run()
        except Exception:  # noqa: BLE001 - the next round may do better, and must be done
            _log.exception("a round failed")
            self._over.wait(PAUSE_S)
            return 0
