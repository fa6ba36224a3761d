"""What is on record of a campaign, and what the broker shows of its devices. Nobody else is asked.

outcome, stage, reason, times   the server's database
before, after, retired          its certificates: the one that the device had, its newest; whether the old one counts
refused                         its book of refusals
live                            the gate's list: which certificate the device's connection showed
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from birthmark_server.campaigns import DeviceState, Happening, Member
from birthmark_server.domain import CertificateProfile, CertificateRecord
from birthmark_server.rotation.campaigning import CampaignService, View
from birthmark_server.store.sql.store import SqlStore
from demo_story.ear import BrokerEar
from demo_story.fleet import FleetDevice


@dataclass(frozen=True, slots=True)
class Look:
    """A campaign as it stood at one moment.

    troubles: of devices that are under way: what each has said went wrong, and how long it has.
    """

    view: View
    members: tuple[Member, ...]
    happenings: tuple[Happening, ...]
    troubles: tuple[str, ...]

    def stage(self, number: int) -> list[Member]:
        """Return the devices of a stage, counted from 0."""
        return [one for one in self.members if one.stage == number]

    def under_way(self) -> list[str]:
        """Return the ids of those that have been told, and have not ended."""
        return [one.device_id for one in self.members if one.state is DeviceState.RUNNING]


@dataclass(frozen=True, slots=True)
class Ending:
    """One device at the end. took_s: from when it was told until the server had seen its new certificate live."""

    member: Member
    took_s: float | None
    before: str
    after: str
    retired: bool
    live: str

    @property
    def rotated(self) -> bool:
        """Whether the broker shows it with a new certificate, and the old one counts no more."""
        return self.member.state is DeviceState.DONE and self.retired and self.live == self.after != self.before

    @property
    def gone(self) -> bool:
        """Whether it was never told, and is not at the broker."""
        return self.member.state is DeviceState.SKIPPED and not self.live


def astray(endings: Iterable[Ending], *, revoked: str) -> list[Ending]:
    """Return those that did not end as they should: gone for the revoked device, rotated for each other one."""
    return [one for one in endings if not (one.gone if one.member.device_id == revoked else one.rotated)]


@dataclass
class Record:
    """Of one campaign. failures: the first one of each device, with its reason; a retry gives it another outcome."""

    store: SqlStore
    name: str
    failures: dict[str, Member] = field(default_factory=dict)

    def look(self) -> Look:
        """Read it from the database."""
        service = CampaignService(
            campaigns=self.store.campaigns, now=lambda: datetime.now(UTC), seed=lambda: secrets.randbits(64)
        )
        view, members = service.view(self.name), tuple(service.members(self.name))
        for one in members:
            if one.state is DeviceState.FAILED:
                self.failures.setdefault(one.device_id, one)
        troubled = (one for one in members if one.state is DeviceState.RUNNING and one.code)
        return Look(view, members, tuple(service.happenings(self.name)), tuple(map(self._trouble, troubled)))

    def _trouble(self, one: Member) -> str:
        left_s = (self.store.jobs.get_job(one.job_id).deadline - datetime.now(UTC)).total_seconds()
        return f"{one.device_id} says: {one.code}; its job ends in {max(0.0, left_s):.0f} s"

    def serials(self, device_ids: Iterable[str]) -> dict[str, str]:
        """Return the serial number of each device's newest operational certificate."""
        return {one: self._operational(one)[0].serial_number for one in device_ids}

    def refused(self, device: FleetDevice) -> int:
        """Return how often the server's book says that this device came, and was refused as no longer active."""
        book = self.store.list_refusals(code="device-not-active", limit=1000)
        return sum(device.device_id == one.device_id or device.ek_sha256 == one.ek_sha256 for one in book)

    def endings(self, before: dict[str, str], ear: BrokerEar) -> list[Ending]:
        """Return how each device ended. before: `serials()` of before; ear: asked lately."""
        return [self._ending(member, before[member.device_id], ear) for member in self.look().members]

    def _ending(self, member: Member, before: str, ear: BrokerEar) -> Ending:
        records = self._operational(member.device_id)
        took_s = None
        if member.job_id:
            job = self.store.jobs.get_job(member.job_id)
            took_s = (job.ended_at - job.created_at).total_seconds() if job.ended_at else None
        return Ending(
            member,
            took_s=took_s,
            before=before,
            after=records[0].serial_number,
            retired=all(one.revoked_at is not None for one in records if one.serial_number == before),
            live=ear.serial_of(member.device_id),
        )

    def _operational(self, device_id: str) -> list[CertificateRecord]:
        """Newest first."""
        records: Iterable[CertificateRecord] = self.store.device_certificates(device_id)
        return [one for one in records if one.profile is CertificateProfile.LDEVID]
