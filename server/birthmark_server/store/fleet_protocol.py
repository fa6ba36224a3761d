"""The store's contract for what operators see of the fleet: a part of protocol.Store, under the same rules."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from birthmark_server.domain import Device, Refusal
from birthmark_server.fleet import DaysLeft, DeviceFacts, DeviceFilter, Group, KeptAnswer


class FleetStore(Protocol):
    """Selections, tags, groups, agents, kept answers."""

    def select_devices(self, filters: Sequence[DeviceFilter], *, after: str = "", limit: int = 100) -> list[Device]:
        """The devices that match all filters (none: every device), ordered by device id; `after` is the last id of the
        page before. Whoever goes through all pages sees each device once that matches from first to last."""

    def device_facts(self, device_ids: Sequence[str]) -> dict[str, DeviceFacts]:
        """What is known of these devices beside their records; all ids are keys. At most some 500 at once."""

    def count_days_left(self, days: Sequence[int], *, at: datetime) -> DaysLeft:
        """Count the active devices whose operational certificate ends within so many days, each in the first class
        that holds it. days: rising; 0 is what has expired. Reads the whole fleet: for the background."""

    def change_tags(self, device_id: str, *, add: Sequence[str], remove: Sequence[str]) -> tuple[str, ...]:
        """Return the device's tags afterwards, in order. What is in both stays. Raise UnknownDevice, TooManyTags."""

    def note_agent(self, device_id: str, *, agent: str, at: datetime) -> None:
        """Keep what a device's agent says it is. An unknown device is ignored."""

    def save_group(self, group: Group) -> None:
        """Put a group on record. Raise AlreadyExists for one of that name with another query; the same again is no
        error, and changes nothing."""

    def get_group(self, name: str) -> Group:
        """Raise UnknownGroup."""

    def list_groups(self) -> list[Group]:
        """By name."""

    def remove_group(self, name: str) -> None:
        """Raise UnknownGroup."""

    def page_refusals(
        self, *, code: str = "", device_id: str = "", since: datetime | None = None, before: int = 0, limit: int = 100
    ) -> list[tuple[int, Refusal]]:
        """Newest first, each with its number; `before` is the last number of the page before."""

    def take_key(
        self, caller: str, key: str, *, request_sha256: str, at: datetime, lease_until: datetime, expires_at: datetime
    ) -> KeptAnswer | None:
        """Take an idempotency key for a request that is about to be worked on, and return None; or what is kept under
        it. One whose lease ran out unanswered may be taken again by the same request. What has expired is not there."""

    def keep_answer(self, caller: str, key: str, *, status: int, media_type: str, body: bytes) -> None:
        """Keep the answer under a key that was taken."""

    def drop_key(self, caller: str, key: str) -> None:
        """Give a key back: the request that took it was refused, or failed."""
