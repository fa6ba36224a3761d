"""Campaigns: many devices' jobs, in stages, with limits. Values, and the states of campaign, stage, device as tables.

What the tables do not name is illegal. rotation/plan.py decides by these values what happens next; it does nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from birthmark_server.errors import Busy, Refused
from birthmark_server.fleet import Selector
from birthmark_server.jobs import JobState


class BadCampaign(Refused):
    """A campaign can't be as asked for."""

    code = "bad-campaign"


class NotNow(Refused):
    """The campaign is in no state for that."""

    code = "not-now"


class TooManyPlans(Busy):
    """As many campaigns are being thought through as this server does at the same time."""

    code = "too-many-plans"


class CampaignState(StrEnum):
    """Where a campaign stands. ABORTED is final, always."""

    RUNNING = "running"
    PAUSED = "paused"
    HOLDING = "holding"
    """Between two stages, for a person's approval or an outside check."""
    DONE = "done"
    ABORTED = "aborted"


class CampaignEvent(StrEnum):
    """What happens to a campaign."""

    STARTED = "started"
    PAUSED = "paused"
    RESUMED = "resumed"
    HELD = "held"
    APPROVED = "approved"
    FINISHED = "finished"
    RETRIED = "retried"
    ABORTED = "aborted"


_S, _E = CampaignState, CampaignEvent

CAMPAIGN_TRANSITIONS: Final = MappingProxyType(
    {
        (_S.RUNNING, _E.PAUSED): _S.PAUSED,
        (_S.RUNNING, _E.HELD): _S.HOLDING,
        (_S.RUNNING, _E.FINISHED): _S.DONE,
        (_S.RUNNING, _E.RETRIED): _S.RUNNING,
        (_S.RUNNING, _E.ABORTED): _S.ABORTED,
        (_S.PAUSED, _E.RESUMED): _S.RUNNING,
        (_S.PAUSED, _E.RETRIED): _S.RUNNING,
        (_S.PAUSED, _E.ABORTED): _S.ABORTED,
        (_S.HOLDING, _E.PAUSED): _S.PAUSED,
        (_S.HOLDING, _E.APPROVED): _S.RUNNING,
        (_S.HOLDING, _E.ABORTED): _S.ABORTED,
        (_S.DONE, _E.RETRIED): _S.RUNNING,
    }
)

OPEN: Final = frozenset({_S.RUNNING, _S.PAUSED, _S.HOLDING})


class StageState(StrEnum):
    """Where a stage stands. Exactly one is OPEN while a campaign is."""

    PENDING = "pending"
    OPEN = "open"
    PASSED = "passed"


STAGE_TRANSITIONS: Final = MappingProxyType(
    {
        (StageState.PENDING, "the one before has passed"): StageState.OPEN,
        (StageState.OPEN, "all have ended, enough of them done"): StageState.PASSED,
    }
)


class DeviceState(StrEnum):
    """Where a device stands in a campaign. The last four are outcomes: each device ends in exactly one."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """Never told: the campaign was aborted before, or the device was blocked or busy when its turn came."""


OF_JOB: Final[Mapping[JobState, DeviceState]] = MappingProxyType(
    {
        JobState.WAITING: DeviceState.RUNNING,
        JobState.ACCEPTED: DeviceState.RUNNING,
        JobState.ISSUED: DeviceState.RUNNING,
        JobState.ACTIVE: DeviceState.RUNNING,
        JobState.DONE: DeviceState.DONE,
        JobState.REFUSED: DeviceState.FAILED,
        JobState.FAILED: DeviceState.FAILED,
        JobState.EXPIRED: DeviceState.FAILED,
        JobState.CANCELLED: DeviceState.CANCELLED,
    }
)
"""A device's state in a campaign follows from its job's, so that the two can't differ."""


def campaign_after(state: CampaignState, event: CampaignEvent) -> CampaignState:
    """Return the state after `event`; raise NotNow where the table has none."""
    following = CAMPAIGN_TRANSITIONS.get((state, event))
    if following is None:
        raise NotNow(f"a campaign that is {state} can't be {event}")
    return following


class Hold(StrEnum):
    """What lets a campaign go on to its next stage."""

    NONE = "none"
    APPROVAL = "approval"
    CHECK = "check"


@dataclass(frozen=True, slots=True)
class Rate:
    """Devices started per minute after the canaries: base * factor^n in the n-th minute, never above `most`."""

    base: int
    factor: float
    most: int


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the day in UTC, in minutes from midnight; it may end on the next day. days: 0 is Monday."""

    begins: int
    ends: int
    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a campaign goes about it. Use plan.check_strategy before anything else.

    canaries: devices of the first stage, 0 for none. stages: percent of the others that are told by the end of each
    stage after that, rising to 100. rate: None for as fast as the cap lets. windows: none for always. most_at_once:
    jobs open at the same time. success_percent: of the devices that ended in a stage, so many must be done before the
    next one. abort_percent: when so many of all that ended have failed, at least abort_sample having ended, all stops.
    deadline_s: for each device, from when its turn comes.
    """

    canaries: int = 0
    stages: tuple[int, ...] = (100,)
    rate: Rate | None = None
    windows: tuple[Window, ...] = ()
    most_at_once: int = 500
    success_percent: int = 95
    abort_percent: int = 20
    abort_sample: int = 10
    hold: Hold = Hold.NONE
    check_url: str = ""
    late_joiners: bool = False
    deadline_s: int = 86_400


@dataclass(frozen=True, slots=True)
class Count:
    """How many devices of one stage stand where."""

    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0

    @property
    def ended(self) -> int:
        """Those that were told, and have ended in a way that says something."""
        return self.done + self.failed

    @property
    def total(self) -> int:
        return self.queued + self.running + self.ended + self.cancelled + self.skipped


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign as it is on record. stage: the open one, from 0. approved: up to which stage it may go by approval.

    opened_at: when the open stage was. reason: why it stands where it stands, empty where it just runs. revision:
    rises with each change.
    """

    campaign_id: str
    state: CampaignState
    selector: Selector
    strategy: Strategy
    created_by: str
    created_at: datetime
    stage: int = 0
    approved: int = 0
    opened_at: datetime | None = None
    rollout_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str = ""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the planner looks at. started: devices told within the last minute."""

    campaign: Campaign
    counts: tuple[Count, ...]
    started: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do next: tell `start` more devices of the open stage; or let `event` happen, for `reason`; or open the
    next stage. At most one of the three."""

    start: int = 0
    event: CampaignEvent | None = None
    reason: str = ""
    open_next: bool = False


@dataclass(frozen=True, slots=True)
class Happening:
    """One event of a campaign on record. by: empty for the server itself."""

    at: datetime
    event: CampaignEvent
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that a selector matches, and what speaks against it. not_after: of its newest operational certificate
    that stands, None without one. busy_with: the campaign, or the single job, that it is in; empty for none."""

    device_id: str
    active: bool
    last_seen_at: datetime | None
    not_after: datetime | None
    busy_with: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A device in a campaign. code, detail: why, where it is not done."""

    device_id: str
    stage: int
    state: DeviceState
    job_id: str = ""
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class HourLoad:
    """What a campaign asks of CA and broker in one hour, if all goes well."""

    hour: datetime
    devices: int
    signatures: int
    messages: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a campaign would be. ends_at: None where its windows or holds never let it end within a year."""

    stages: tuple[int, ...]
    hours: tuple[HourLoad, ...]
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class DryRun:
    """Who would be told, in which stage, and who not and why. offline: among those told, not seen for a day; each gets
    its job when it says hello."""

    stages: tuple[tuple[str, ...], ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    offline: tuple[str, ...] = ()
    forecast: Forecast | None = None
