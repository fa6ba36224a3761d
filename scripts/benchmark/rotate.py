"""A campaign over a whole fleet: real server, real broker, devices that are simulated down to their sockets.

All devices are on record and connected before the clock starts; it stops when the campaign is done, which is when the
broker has shown every new certificate and every old one is retired. The server's CPU is its own and its children's;
devices, broker and the operator are other processes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from benchmark import bare, bulk, simulated
from benchmark.commanding import Commanding, commanding, cpu_s
from benchmark.load import neighbour
from benchmark.rotation_floor import Records, rotation_floor
from birthmark_server.campaigns import CampaignState, Strategy
from birthmark_server.rotation.campaigning import CampaignService
from support.server import Server

NAME: Final = "all-of-them"
MOST_AT_ONCE: Final = 500
_PER_DEVICE_S: Final = 0.3
"""So slow and it is given up."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rotate:
    """What a campaign over `devices` devices came to. server_cpu_ms: per rotation. messages_per_device: to and from it,
    that the broker took or delivered. lost: connections that ended though they should not have."""

    devices: int
    devices_per_s: float
    server_cpu_ms: float
    messages_per_device: float
    lost: int
    floor: bare.Floor

    @property
    def crypto_ms(self) -> float:
        """The bare cryptography of one rotation."""
        return sum(operation.cpu_us * operation.times for operation in self.floor) / 1000

    @property
    def cpu_over_crypto(self) -> float:
        """How much the server adds to what no server could spare."""
        return self.server_cpu_ms / self.crypto_ms


def rotate(devices: int, say: Say) -> Rotate:
    """Rotate so many devices' certificates by one campaign."""
    with commanding(connections=2 * devices + 100) as run:
        say(f"making {devices:,} devices")
        made = bulk.provision(run.site, devices)
        with simulated.running(made, port=run.broker.port, root_pem=run.site.pki.root_pem) as crowd:
            crowd.wait(
                lambda counts: counts.connected == devices,
                timeout_s=60 + devices * _PER_DEVICE_S,
                say=lambda counts: say(f"{counts.connected:,} of {devices:,} devices connected"),
            )
            before = crowd.counts()
            with run.serve() as server:
                time.sleep(2)  # what it does at its start is not the campaign's
                floor = [_floor(run)]
                wall_s, cpu = _campaign(run, server, crowd, devices, say)
                floor.append(_floor(run))
            after = crowd.counts()
    return Rotate(
        devices=devices,
        devices_per_s=devices / wall_s,
        server_cpu_ms=cpu / devices * 1000,
        messages_per_device=(after.taken + after.delivered - before.taken - before.delivered) / devices,
        lost=after.lost,
        floor=bare.mean(floor),
    )


def operators_desk(run: Commanding) -> CampaignService:
    """Return what `birthmark campaign` has on the server's machine."""
    return CampaignService(campaigns=run.store.campaigns, now=lambda: datetime.now(UTC), seed=lambda: 1)


def _campaign(run: Commanding, server: Server, crowd: simulated.Crowd, devices: int, say: Say) -> tuple[float, float]:
    """Run it; return seconds of the clock, and of the server's processor."""
    desk, pid = operators_desk(run), server.process.pid
    cpu_before, began = cpu_s(pid), time.perf_counter()
    desk.start(NAME, (), Strategy(most_at_once=MOST_AT_ONCE), by="bench")
    crowd.wait(
        lambda counts: counts.done >= devices,
        timeout_s=60 + devices * _PER_DEVICE_S,
        say=lambda counts: say(f"{counts.done:,} of {devices:,} devices rotated"),
    )
    give_up = time.monotonic() + 60
    while (view := desk.view(NAME)).campaign.state is not CampaignState.DONE:
        if time.monotonic() > give_up or view.campaign.state is not CampaignState.RUNNING:
            raise TimeoutError(f"the campaign is {view.campaign.state} {view.campaign.reason}: {view.total}")
        say(f"{view.total.done:,} of {devices:,} old certificates retired")
        time.sleep(0.2)
    wall_s, cpu = time.perf_counter() - began, cpu_s(pid) - cpu_before
    if (done := desk.view(NAME).total.done) < devices:
        raise AssertionError(f"only {done} of {devices} devices are done")
    return wall_s, cpu


def _floor(run: Commanding) -> bare.Floor:
    """Measure it with one other core busy, as it is while the server works."""
    with neighbour(Records(run.site.pki).run):
        return rotation_floor(run.site.pki)
