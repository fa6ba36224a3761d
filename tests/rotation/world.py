"""A device and the service that it talks to, with nothing but function calls in between."""

import itertools
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta

from birthmark_server.broker.control import Connection
from birthmark_server.broker.errors import BrokerUnavailable
from birthmark_server.broker.policy import Role
from birthmark_server.jobs import Job, NewJob
from birthmark_server.rotation.round import Round
from birthmark_server.rotation.service import Outgoing, RotationService
from support.core import Core
from support.rotating import RotatingDevice, Said, serial_of

_NUMBERS = itertools.count(1)


@dataclass
class Broker:
    """What the broker shows, and what it was told to carry."""

    live: bool = True
    shown: list[Connection] = field(default_factory=list)
    carried: list[tuple[str, bytes]] = field(default_factory=list)

    def connections_of(self, device_ids: Collection[str]) -> list[Connection]:
        """As BrokerControl."""
        return [one for one in self.shown if one.client_id in device_ids]

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None:
        """As BrokerLink."""
        if not self.live:
            raise BrokerUnavailable("down")
        assert expires_s is None or expires_s > 0
        self.carried.append((topic, payload))

    def show(self, device: RotatingDevice) -> None:
        """The device is connected with the certificate in use, and with no other."""
        self.shown = [one for one in self.shown if one.identity != device.device_id]
        until = device.identity.certificate.not_valid_after_utc
        self.shown.append(
            Connection(device.device_id, device.device_id, Role.DEVICE, serial_of(device.identity), until)
        )


def device(core: Core) -> RotatingDevice:
    """A device with its first LDevID."""
    tpm, device_id = core.listed()
    ldevid = core.first_ldevid(tpm, core.enroll(tpm), device_id)
    core.clock.forward(seconds=1)
    return RotatingDevice(device_id, tpm, ldevid, core.site.pki.authority.infra.certificate)


def job_for(core: Core, of: RotatingDevice, *, hours: float = 24) -> Job:
    """Open a job for the device."""
    at = core.clock()
    new = NewJob(f"job-{next(_NUMBERS)}", of.device_id, "alice", at, at + timedelta(hours=hours))
    (job,) = core.services.jobs.open_jobs([new])
    return job


def job_of(core: Core, job: Job) -> Job:
    return core.services.jobs.get_job(job.job_id)


def revoked(core: Core, of: RotatingDevice) -> set[str]:
    """The serial numbers of the device's certificates that stand no more."""
    return {one.serial_number for one in core.store.device_certificates(of.device_id) if one.revoked_at is not None}


def tell(core: Core, of: RotatingDevice, said: Said, *, service: RotationService | None = None) -> list[Outgoing]:
    """Let the device say this; return what the service answers."""
    judge = service or core.services.rotation
    return [answer for leaf, payload in said for answer in judge.handle(of.device_id, leaf, payload, core.clock())]


def hear(of: RotatingDevice, told: list[Outgoing]) -> Said:
    """Let the device hear this; return what it says."""
    return [said for one in told for said in of.take(one.topic.rpartition("/")[2], one.payload)]


def command(core: Core, job: Job) -> list[Outgoing]:
    """The job's command."""
    told = core.services.rotation.command(core.services.jobs.get_job(job.job_id), at=core.clock())
    assert told is not None
    return [told]


def converse(core: Core, of: RotatingDevice, told: list[Outgoing], *, steps: int = 9) -> None:
    """Let them talk until neither has anything to say."""
    for _ in range(steps):
        said = hear(of, told)
        if not said:
            return
        told = tell(core, of, said)


def a_round(core: Core, broker: Broker, *, stopwatch: Callable[[], float] = time.perf_counter) -> Round:
    """The round of a server at this broker."""
    return Round(
        store=core.store,
        jobs=core.services.jobs,
        service=core.services.rotation,
        publisher=broker,
        broker=broker,
        now=core.clock,
        stopwatch=stopwatch,
    )
