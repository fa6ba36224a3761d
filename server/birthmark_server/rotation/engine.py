"""Rotation in a running server: the connection to the broker, who hears it, and the rounds; started and stopped as one.

A broker that is down is no error: the link comes back by itself, and what is due waits in the database.
"""

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Final, Protocol

from birthmark_server.broker.control import Connection, MosquittoControl, gate_connections
from birthmark_server.broker.link import BrokerLink
from birthmark_server.denials import open_deny_file
from birthmark_server.presence import open_link
from birthmark_server.rotation.hearing import Hearing, Together
from birthmark_server.rotation.round import Cut, Round
from birthmark_server.rotation.service import RotationService
from birthmark_server.settings import BrokerSettings
from birthmark_server.store.job_protocol import JobStore

PAUSE_S: Final = 1.0
_log: Final = logging.getLogger(__name__)


class Work(Protocol):
    """Something to be done again and again. run: returns how much was done; 0 where there is nothing to do."""

    def run(self) -> int: ...


class Seen:
    """What the broker shows, and whether it can be asked (round.Broker)."""

    def __init__(self, link: BrokerLink) -> None:
        self._link = link

    @property
    def live(self) -> bool:
        return self._link.live

    def connections(self) -> list[Connection]:
        return gate_connections(self._link)


class Engine:
    """One server's part in rotation, from start() to stop()."""

    def __init__(
        self,
        *,
        broker: BrokerSettings,
        anchors: bytes,
        store: Together,
        jobs: JobStore,
        service: RotationService,
        threads: int,
        now: Callable[[], datetime],
        work: Sequence[Work] = (),
        at_broker: Callable[[BrokerLink, Seen], Sequence[Work]] = lambda _link, _seen: (),
    ) -> None:
        """anchors: PEM, what the broker's certificate must lead to. work: what is done besides, before each round;
        at_broker: and makes what is done by the connection to the broker.

        Raise Misconfigured if the broker's settings can't be used.
        """
        self._hearing = Hearing(judge=service, store=store, threads=threads)
        self._link = open_link(broker, anchors=anchors, on_message=self._hearing.hear)
        seen = Seen(self._link)
        self._work: tuple[Work, ...] = (
            *work,
            *at_broker(self._link, seen),
            Round(
                store=store,
                jobs=jobs,
                service=service,
                publisher=self._link,
                broker=seen,
                cut=_cut(self._link, broker) if broker.deny_file else None,
                now=now,
            ),
        )
        self._over = threading.Event()
        self._rounds = threading.Thread(target=self._go_round, name="rotation", daemon=True)

    @property
    def live(self) -> bool:
        """Connected to the broker, and hearing the devices."""
        return self._link.live

    def start(self) -> None:
        """Begin; returns at once."""
        self._hearing.start(self._link)
        self._link.start()
        self._rounds.start()

    def stop(self) -> None:
        """End, the messages that were heard being dealt with first."""
        self._over.set()
        self._rounds.join()
        self._link.stop()
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


def _cut(link: BrokerLink, broker: BrokerSettings) -> Cut:
    control = MosquittoControl(link=link, deny_file=open_deny_file(broker))

    def cut(serials: Collection[str]) -> None:
        control.deny(serials=serials)

    return cut
