"""A server's part in a RabbitMQ cluster, from start() to stop(): the door, the ear, and a watch over who is denied.

RabbitMQ looks at a certificate once, at the handshake, and knows no deny list. So the watch looks at the list's file
several times a second: a newer one first makes new CRLs, so that nobody comes back, and then cuts whom it names. About
every second everybody is cut who is connected with what is over or denied: whom the first cut missed.

Rules: one thread does all of that, in this order. What fails is logged, and done at the next look.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import Final

from birthmark_server.broker.assignment import Shard
from birthmark_server.broker.control import COMMANDS_MOST, BrokerHealth
from birthmark_server.broker.denyfile import DenyFile, DenyList
from birthmark_server.broker.errors import BrokerRefused, BrokerUnavailable
from birthmark_server.broker.link import utc_now
from birthmark_server.broker.rabbitmq import ManagementApi, RabbitControl, RabbitEar, Records
from birthmark_server.broker.rabbitmq_config import STATISTICS_MS
from birthmark_server.broker.rabbitmq_door import RabbitDoor
from birthmark_server.broker.rabbitmq_http import RabbitDoorServer
from birthmark_server.broker.shards import ShardHealth
from birthmark_server.broker.trust_files import IssuersInForce

LOOK_S: Final = 0.25
SWEEP_S: Final = 1.0
_log: Final = logging.getLogger(__name__)


class RabbitServer(RabbitControl):
    """BrokerControl, from start() to stop(). shard: the cluster, as devices are told of it. crl_every_s: CRLs are
    written this often though nothing was revoked, well within their lifetime. The others: as RabbitControl's."""

    def __init__(
        self,
        *,
        shard: Shard,
        answers: RabbitDoorServer,
        ear: RabbitEar,
        crl_every_s: float,
        api: ManagementApi,
        door: RabbitDoor,
        deny_file: DenyFile,
        records: Records,
        trust_domain: str,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(
            api=api,
            door=door,
            deny_file=deny_file,
            records=records,
            trust_domain=trust_domain,
            trust_folder=trust_folder(deny_file),
            statistics_s=STATISTICS_MS / 1000,
        )
        self._in_force, self._shard = door.in_force, shard
        self._answers, self._ear = answers, ear
        self._crl_every_s, self._now = crl_every_s, clock
        self._acted_on: DenyList | None = None
        self._crls_due = self._sweep_due = 0.0
        self._over, self._wake = threading.Event(), threading.Event()
        self._watch = threading.Thread(target=self._look_on, name="rabbitmq_watch", daemon=True)

    def start(self) -> None:
        """Begin to answer, to hear and to watch; returns at once."""
        self._answers.start()
        self._watch.start()
        self._ear.start()

    def stop(self) -> None:
        """End: without an answer of ours nobody new gets in at this node."""
        self._over.set()
        self._wake.set()
        self._ear.stop()
        self._watch.join()
        self._answers.stop()

    @property
    def live(self) -> bool:
        """Whether the cluster can be used."""
        return self._ear.live

    @property
    def all_live(self) -> bool:
        """Whether devices are heard."""
        return self._ear.live

    def tell(self, denied: DenyList, *, devices: Collection[str], serials: Collection[str]) -> None:  # noqa: ARG002 - the watch reads the list
        """Have the watch look now, for the list that is on the disk. Raises nothing."""
        self._wake.set()

    def each_health(self) -> list[ShardHealth]:
        """Ask the cluster how it is: a list of one."""
        return [look_at(self, self._shard)]

    def each_issuers(self) -> dict[str, IssuersInForce]:
        """As issuers(), by the cluster's address."""
        return {f"{self._shard.endpoint.host}:{self._shard.endpoint.port}": self.issuers()}

    def _look_on(self) -> None:
        while not self._over.is_set():
            self._done(self._follow_the_list)
            self._done(self._sweep_in_turn)
            self._wake.wait(LOOK_S)
            self._wake.clear()

    def _done(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (BrokerUnavailable, BrokerRefused, OSError) as error:
            _log.warning("rabbitmq not told", extra={"fields": {"reason": str(error)}})
            self._over.wait(SWEEP_S)
        except Exception:  # noqa: BLE001 - the next look may do better, and must be done
            _log.exception("rabbitmq not told")
            self._over.wait(SWEEP_S)

    def _follow_the_list(self) -> None:
        denied, before = self._in_force(), self._acted_on
        if denied is None:
            return
        if before is None or denied.serials != before.serials or time.monotonic() >= self._crls_due:
            self.write_crls()
            self._crls_due = time.monotonic() + self._crl_every_s
        if before is not None and denied.version != before.version:
            devices, serials = denied.devices - before.devices, denied.serials - before.serials
            if len(devices) + len(serials) <= COMMANDS_MOST:  # of more, the sweep finds who is connected
                self.cut(devices=devices, serials=serials)
            self._sweep_due = 0.0
        self._acted_on = denied

    def _sweep_in_turn(self) -> None:
        if time.monotonic() >= self._sweep_due:
            self._sweep_due = time.monotonic() + SWEEP_S
            cut = self.sweep(at=self._now())
            if cut:
                _log.info("rabbitmq: swept out", extra={"fields": {"devices": cut}})


def trust_folder(deny_file: DenyFile) -> Path:
    """Return where the CA files lie, as everywhere: beside the deny file."""
    return deny_file.path.parent


def crl_folder(deny_file: DenyFile) -> Path:
    """Return where the nodes on this machine look for CRLs."""
    return deny_file.path.parent / "crl"


def look_at(control: RabbitControl, shard: Shard) -> ShardHealth:
    """Ask a cluster how it is, and say what is wrong."""
    try:
        health = control.health()
    except (BrokerUnavailable, BrokerRefused) as error:
        return ShardHealth(shard, None, str(error))
    return ShardHealth(shard, health, _problem(health))


def _problem(health: BrokerHealth) -> str:
    if health.unreachable:
        return f"{', '.join(health.unreachable)}: not running"
    if not health.open:
        return "nobody new is let in: the lease of the deny list is over, or there is no list"
    return ""
