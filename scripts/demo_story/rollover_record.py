"""What is on record after a rollover, and what the broker shows: where each device has come home to.

serial, below, bundle, home_s   the server's database
live                            the gate's list
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from birthmark_server.domain import CertificateProfile
from birthmark_server.store.sql.store import SqlStore
from demo_story.campaign_record import Look
from demo_story.ear import BrokerEar


@dataclass(frozen=True, slots=True)
class Home:
    """One device. serial: of its newest certificate; below: the Fleet CA that issued it. bundle: the version of the
    trust bundle that it has acknowledged. home_s: of one that slept, from its start until the server had seen its new
    certificate live; None of one that was awake."""

    serial: str
    below: str
    live: str
    bundle: int
    home_s: float | None

    def there(self, name: str) -> bool:
        """Whether the broker shows it with its newest certificate, and that is of this CA."""
        return self.below == name and self.live == self.serial


@dataclass(frozen=True, slots=True)
class Rollover:
    """What was done, and answered. too_early, kept: why `activate` and `retire` were refused the first time. version:
    of the trust bundle at the end; states: of all authorities then, by name. homes: by device id, of all that live."""

    old: str
    new: str
    sleepers: tuple[str, ...]
    too_early: str
    kept: str
    version: int
    states: Mapping[str, str]
    homes: Mapping[str, Home]

    @property
    def strayed(self) -> list[str]:
        """The devices that are not where they should be: live below the new CA, and told of it."""
        return [
            device_id for device_id, one in self.homes.items() if not one.there(self.new) or one.bundle != self.version
        ]


def home(store: SqlStore, ear: BrokerEar, device_id: str, look: Look, woken: Mapping[str, datetime]) -> Home:
    """Return where a device is. ear: asked lately; look: at the campaign; woken: when each sleeper was started."""
    newest = next(one for one in store.device_certificates(device_id) if one.profile is CertificateProfile.LDEVID)
    home_s = None
    if device_id in woken:
        job = next(one.job_id for one in look.members if one.device_id == device_id)
        ended_at = store.jobs.get_job(job).ended_at
        home_s = (ended_at - woken[device_id]).total_seconds() if ended_at else None
    return Home(
        serial=newest.serial_number,
        below=next(one.name for one in store.authorities.list_authorities() if one.sha256 == newest.issuer_sha256),
        live=ear.serial_of(device_id),
        bundle=store.authorities.trust_of(device_id),
        home_s=home_s,
    )


def version_of(store: SqlStore) -> int:
    """Return the version of the trust bundle in force, 0 without one."""
    latest = store.authorities.latest_bundle()
    return latest.version if latest else 0


def told(store: SqlStore, device_ids: Iterable[str], *, version: int) -> int:
    """Return how many of these devices have acknowledged the trust bundle of that version."""
    return sum(store.authorities.trust_of(one) >= version for one in device_ids)
