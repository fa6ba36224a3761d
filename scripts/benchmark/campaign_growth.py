"""Does a campaign cost more per device when it is over 100,000 devices and not over 1,000?

Two installations, each with a server, a broker and one campaign over its whole fleet, which is half done already. Then
stages of simulated devices take turns: the same number here and there, so that what else the machine does meets both.
A device's cost is its share of planning and starting (the operator's process) and the server's CPU of its rotation:
looks, the job, evidence, certificate, retirement, and whatever the server does besides, because there are so many.

Connected are only the devices whose turn it is: this machine has not the sockets for 100,000. The server asks
the broker for single devices, so what others are connected costs it nothing.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from benchmark import bulk, simulated
from benchmark.commanding import Commanding, commanding, cpu_s, resident_mb
from benchmark.growth import FEW, MANY
from benchmark.half_done import finish_stage
from benchmark.rotate import operators_desk
from birthmark_server.campaigns import Campaign, CampaignState, Hold, Strategy
from birthmark_server.store.rows import to_us
from support.server import Server

NAME: Final = "everybody"
_TURN_TIMEOUT_S: Final = 120.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CampaignGrowth:
    """Per device, in ms of CPU: planning and starting; the server's part. rss_mb, peak_mb: of the larger fleet's server
    after its turns, and at its highest."""

    few: int
    many: int
    plan_few_ms: float
    plan_many_ms: float
    turn_few_ms: float
    turn_many_ms: float
    ratio: float
    rss_mb: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two. plan_ms: CPU per device of planning and starting."""

    run: Commanding
    server: Server
    crowd: simulated.Crowd
    plan_ms: float

    def turn(self, devices: int) -> float:
        """Let the next stage begin; return the server's CPU per device, in ms, when it has ended."""
        desk, pid = operators_desk(self.run), self.server.process.pid
        before, stage = cpu_s(pid), desk.view(NAME).campaign.stage
        desk.approve(NAME, by="bench")
        give_up = time.monotonic() + _TURN_TIMEOUT_S
        while True:
            campaign = desk.view(NAME).campaign
            if campaign.stage > stage and campaign.state is CampaignState.HOLDING:
                return (cpu_s(pid) - before) / devices * 1000
            self.crowd.counts()  # which raises what a device came to
            if time.monotonic() > give_up:
                raise TimeoutError(f"{campaign} {desk.view(NAME).counts[campaign.stage]}")
            time.sleep(0.1)


def campaign_growth(per_turn: int, turns: int, say: Say, *, few: int = FEW, many: int = MANY) -> CampaignGrowth:
    """Return what a device costs with `many` in the campaign over what it costs with `few`."""
    with ExitStack() as stack:
        sides = [stack.enter_context(_side(devices, per_turn, turns + 1, say)) for devices in (few, many)]
        for side in sides:
            side.turn(per_turn)  # statements get compiled, certificates of the CAs parsed
        spent: list[tuple[float, float]] = []
        for number in range(turns):
            say(f"turn {number + 1} of {turns}: {per_turn} devices of {few:,}, and as many of {many:,}")
            spent.append((sides[0].turn(per_turn), sides[1].turn(per_turn)))
        rss_mb, peak_mb = resident_mb(sides[1].server.process.pid)
    plan_few, plan_many = (side.plan_ms for side in sides)
    turn_few, turn_many = (statistics.fmean(turns_of) for turns_of in zip(*spent, strict=True))
    return CampaignGrowth(
        few=few,
        many=many,
        plan_few_ms=plan_few,
        plan_many_ms=plan_many,
        turn_few_ms=turn_few,
        turn_many_ms=turn_many,
        ratio=(plan_many + turn_many) / (plan_few + turn_few),
        rss_mb=rss_mb,
        peak_mb=peak_mb,
    )


@contextmanager
def _side(devices: int, per_turn: int, turns: int, say: Say) -> Iterator[_Side]:
    """An installation of so many devices, of which `turns` times `per_turn` are simulated and connected."""
    real = per_turn * turns
    with commanding(connections=2 * real + 100) as run:
        say(f"a fleet of {devices:,} devices")
        simulated_ones = bulk.provision(run.site, real)
        bulk.fill(run.site, devices - real)
        turn_of = [[device.device_id for device in simulated_ones[start::turns]] for start in range(turns)]
        plan_ms = _start(run, devices, turn_of)
        with simulated.running(simulated_ones, port=run.broker.port, root_pem=run.site.pki.root_pem) as crowd:
            crowd.wait(
                lambda counts: counts.connected == real,
                timeout_s=300,
                say=lambda counts: say(f"{counts.connected:,} of {real:,} devices of {devices:,} connected"),
            )
            with run.serve() as server:
                _wait_until_held(run)
                yield _Side(run, server, crowd, plan_ms)


def _start(run: Commanding, devices: int, turn_of: list[list[str]]) -> float:
    """Plan and start the campaign, its first stage done and the simulated devices in the next ones; return the CPU."""
    desk, at = operators_desk(run), datetime.now(UTC)
    selector, strategy = (), Strategy(most_at_once=1000, hold=Hold.APPROVAL)
    began = time.thread_time()
    planned = [device_id for stage in desk.plan(selector, strategy).stages for device_id in stage]
    planning = time.thread_time() - began
    if len(planned) != devices:
        raise AssertionError(f"want all {devices} devices in the campaign, got {len(planned)}")
    simulated_ones = {device_id for turn in turn_of for device_id in turn}
    others = [device_id for device_id in planned if device_id not in simulated_ones]
    stages = [others[: len(others) // 2], *turn_of, others[len(others) // 2 :]]
    campaign = Campaign(NAME, CampaignState.RUNNING, selector, strategy, "bench", at, opened_at=at, rollout_at=at)
    began = time.thread_time()
    run.store.campaigns.add_campaign(campaign, stages)
    planning += time.thread_time() - began
    finish_stage(run.site, NAME, 0, at_us=to_us(at))
    return planning / devices * 1000


def _wait_until_held(run: Commanding) -> None:
    """Wait until the server has seen that the first stage is done, and has caught up with what was done in it."""
    give_up = time.monotonic() + _TURN_TIMEOUT_S
    while operators_desk(run).view(NAME).campaign.state is not CampaignState.HOLDING:
        if time.monotonic() > give_up:
            raise TimeoutError("the server does not look at the campaign")
        time.sleep(0.1)
    time.sleep(2)
