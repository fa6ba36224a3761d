"""What has been shown of each device, and by whom. A stage is reached only when the part that did it says so.

proven       the server's database holds the device, with the evidence that its verifier judged
born         ... and the record of its birth certificate (IDevID)
operational  ... and of its operational certificate (LDevID), with the TPM's evidence for that very key
connected    the broker delivered its hello, and the gate names the serial number of that LDevID for the connection
rotated      the same with another LDevID; the agent's CONNACK said "session present"; no last will was published
"""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from birthmark_agent.status import STATUS_FILE
from birthmark_server.domain import Assurance, CertificateProfile, CertificateRecord
from birthmark_server.store.protocol import Store
from demo_story.ear import BrokerEar, Heard
from demo_story.fleet import FleetDevice


class Stage(StrEnum):
    """What can be shown of a device, in this order."""

    PROVEN = "TPM proven"
    BORN = "birth certificate"
    OPERATIONAL = "operational certificate"
    CONNECTED = "first message"
    ROTATED = "rotated, session kept"


STAGES = tuple(Stage)


@dataclass
class Progress:
    """One device's stages: seconds since its agent was started, and one word of evidence for each.

    stages: those that its story wants.
    """

    device: FleetDevice
    started_s: float
    stages: tuple[Stage, ...] = STAGES
    reached: dict[Stage, tuple[float, str]] = field(default_factory=dict)
    hello_serials: list[tuple[str, float]] = field(default_factory=list)
    active_serials: list[str] = field(default_factory=list)
    renewal_asked: bool = False
    lost: bool = False
    """Its last will was published: the broker thought it dead, so the session was not carried over."""

    @property
    def done(self) -> bool:
        """Whether every stage that is wanted is reached."""
        return all(stage in self.reached for stage in self.stages)

    def reach(self, stage: Stage, word: str, at_s: float | None = None) -> None:
        """Note a stage, once. at_s: time.monotonic() of the evidence, now if not given.

        What is only looked at now and then is seen a little late: a cause is never shown after its effect.
        """
        after_s = (at_s or time.monotonic()) - self.started_s
        for earlier in STAGES[: STAGES.index(stage)]:
            if earlier in self.reached:
                self.reached[earlier] = (min(self.reached[earlier][0], after_s), self.reached[earlier][1])
        self.reached.setdefault(stage, (after_s, word))


class Witness:
    """Gathers the evidence: from the store, from the broker, and from the agents' own status."""

    def __init__(self, store: Store, progress: Iterable[Progress]) -> None:
        self._store = store
        self._progress = {one.device.device_id: one for one in progress}
        self.progress = tuple(self._progress.values())

    def hear(self, heard: Heard) -> None:
        """Take in a message that the broker delivered."""
        progress = self._progress.get(heard.device_id)
        if progress is None:
            return
        match heard.leaf:
            case "hello":
                progress.hello_serials.append((str(heard.payload["serial"]), heard.at_s))
            case "active":
                progress.active_serials.append(str(heard.payload["serial"]))
            case "status":
                progress.lost |= heard.payload.get("reason") == "lost"

    def look(self, ear: BrokerEar) -> None:
        """Look at everything that is not yet shown."""
        waiting = [one for one in self.progress if not one.done]
        on_record = {device.device_id: device for device in self._store.list_devices(limit=10_000)}
        for progress in waiting:
            device = on_record.get(progress.device.device_id)
            if device is None:
                continue
            genuine = device.assurance is Assurance.VENDOR_CERTIFICATE
            if Stage.PROVEN not in progress.reached and genuine and self._store.device_evidence(device.device_id):
                progress.reach(Stage.PROVEN, device.ek_sha256[:8])
            records = self._store.device_certificates(device.device_id)
            self._look_at_certificates(progress, records)
            self._look_at_connection(progress, records, ear)
        if waiting:
            ear.ask_connections()

    def _look_at_certificates(self, progress: Progress, records: list[CertificateRecord]) -> None:
        for profile, stage in (
            (CertificateProfile.IDEVID, Stage.BORN),
            (CertificateProfile.LDEVID, Stage.OPERATIONAL),
        ):
            first = next((record for record in reversed(records) if record.profile is profile), None)
            if first is not None and stage not in progress.reached:
                progress.reach(stage, first.serial_number[:8])

    def _look_at_connection(self, progress: Progress, records: list[CertificateRecord], ear: BrokerEar) -> None:
        issued = [record.serial_number for record in reversed(records) if record.profile is CertificateProfile.LDEVID]
        live = ear.serial_of(progress.device.device_id)
        hello = dict(progress.hello_serials)
        if live not in issued or live not in hello:
            return
        if live == issued[0]:
            progress.reach(Stage.CONNECTED, live[:8], hello[live])
        elif Stage.CONNECTED in progress.reached and live in progress.active_serials and _session_was_kept(progress):
            progress.reach(Stage.ROTATED, live[:8], hello[live])


def _session_was_kept(progress: Progress) -> bool:
    """Whether the broker said "session present" to the new connection, as the agent noted, and sent no last will."""
    report: dict[str, Any] = json.loads((progress.device.folder / "state" / STATUS_FILE).read_bytes())
    return bool(report["session_present"]) and int(report["renewals"]) >= 1 and not progress.lost
