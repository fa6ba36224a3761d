"""The story of a campaign: a fleet is rotated from a chair, and not all goes well.

Two devices have bad luck. One, of the first stage after the canaries, loses its TPM's power: it can make no new key, so
its job fails at its deadline, and the campaign pauses by itself. The other, of the last stage, is reported stolen while
an operator holds the campaign: it is revoked, and never told to rotate.

Then the Fleet CA is replaced (rollover.py).

cut_ms counts from the beginning of `birthmark device revoke` to the moment at which the kernel has the socket of the
device's agent as closed. The command runs within this process: a person's shell takes a moment longer to start one.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from birthmark_server.campaigns import OPEN, CampaignState, DeviceState
from demo_story.campaign_record import Record, astray
from demo_story.campaign_screen import Happened, ending, result
from demo_story.campaign_watch import LOOK_EVERY_S, CampaignWatch
from demo_story.ear import BrokerEar
from demo_story.evidence import STAGES, Stage
from demo_story.fleet import FleetDevice
from demo_story.parts import PartFailed
from demo_story.rollover import RolloverAct
from demo_story.rollover_record import Rollover
from demo_story.screen import Screen, save_picture
from demo_story.site import Site
from demo_story.sockets import WatchedSocket
from demo_story.wishes import Wishes

_NAME: Final = "winter"
_BEFORE: Final = STAGES[: STAGES.index(Stage.CONNECTED) + 1]
_SLEEPERS: Final = 2
_STANDING_STILL_S: Final = 3.0
_CUT_WITHIN_S: Final = 5.0
_LISTED_WITHIN_S: Final = 10.0
_CAME_BACK_WITHIN_S: Final = 45.0


def tell_campaign(wishes: Wishes, screen: Screen, site: Site) -> bool:
    """Tell it; return whether every device ended as it should."""
    devices = site.found(wishes.devices)
    record = Record(site.open_store(), _NAME)
    progress, ear = site.power_on(
        devices, store=record.store, stages=_BEFORE, timeout_s=wishes.timeout_s, also=lambda _: None
    )
    stuck = next((one for one in progress if not one.done), None)
    if stuck is not None:
        site.explain(stuck.device, f"reached {', '.join(stuck.reached) or 'nothing'}")
        return False
    screen.remark(f"{len(devices)} devices are connected, each with its first operational certificate")
    story = _Campaign(record, screen, site, ear, devices)
    happened = story.run()
    endings = record.endings(story.before, ear)
    if wrong := astray(endings, revoked=happened.revoked_device):
        one = wrong[0].member
        site.explain(story.devices[one.device_id], f"ended {one.state} {one.code} {one.detail}".rstrip())
        return False
    living = [one for one in devices if one.device_id != happened.revoked_device]
    sleepers = [one for one in living if one.device_id != happened.failed_device][-_SLEEPERS:]
    rolled = RolloverAct(record.store, screen, site, ear, devices=living, sleepers=sleepers).run()
    happened = replace(happened, refused=_came_back(record, story.devices[happened.revoked_device]))
    wall_s = screen.elapsed_s
    if wishes.picture is not None:
        shown = ending(endings, happened, rolled, wall_s=wall_s)
        save_picture(wishes.picture, shown, command="scripts/demo --campaign", chapters=_CHAPTERS)
    shown = ending(endings, happened, rolled, wall_s=wall_s, wide=screen.wide)
    told = result(record.look(), endings, happened, rolled, wall_s=wall_s)
    screen.end(shown, told, next_steps=_next_steps(wishes, site, happened, rolled, devices[0]))
    if rolled.strayed:
        site.explain(story.devices[rolled.strayed[0]], f"is at {rolled.homes[rolled.strayed[0]]}")
        return False
    if wishes.keep:
        site.stay()
    return True


class _Campaign:
    """before: each device's serial number before the campaign."""

    def __init__(
        self, record: Record, screen: Screen, site: Site, ear: BrokerEar, devices: Sequence[FleetDevice]
    ) -> None:
        self._record = record
        self._screen = screen
        self._watch = CampaignWatch(record, screen, site)
        self._site = site
        self._ear = ear
        self._birthmark = site.installation.birthmark
        self.devices = {one.device_id: one for one in devices}
        self.before: dict[str, str] = {}

    def run(self) -> Happened:
        """Let it all happen."""
        canaries, at_once = max(1, len(self.devices) // 10), max(4, len(self.devices) // 8)
        how = ["--never-rotated", "--canaries", str(canaries), "--stages", "30,60,100", "--at-once", str(at_once)]
        how += ["--success", "100", "--deadline", "1m"]
        self._screen.chapter("What would a campaign do? Nobody is told anything yet")
        for line in self._birthmark("campaign", "plan", *how).splitlines():
            self._screen.remark(f"  {line}")
        self._screen.chapter("Canaries first, then stages. One device of stage 2 has lost its TPM's power")
        self.before = self._record.serials(self.devices)
        self._birthmark("campaign", "start", _NAME, *how)
        look = self._record.look()
        weak = self.devices[look.stage(1)[0].device_id]
        weak.tpm.stop()
        self._screen.remark(f"{weak.device_id}: its TPM is off; it stays connected, and can make no key")
        stolen = self.devices[look.stage(len(look.view.counts) - 1)[0].device_id]
        self._watch.until(lambda look: any(one.state is DeviceState.DONE for one in look.stage(1)))
        cut_ms = self._hold_and_revoke(weak, stolen)
        self._screen.chapter(f"{weak.device_id} has a minute from its turn; the campaign pauses by itself")
        self._watch.until(lambda look: look.view.campaign.state is not CampaignState.RUNNING)
        failure = self._record.failures.get(weak.device_id)
        if failure is None:
            raise PartFailed(f"{weak.device_id} did not fail: {self._record.look().view.campaign}")
        why = failure.detail.replace(f"{self._site.installation.folder.parent}/", "")
        self._screen.remark(f"{weak.device_id} {failure.state}: {failure.code}, {why}")
        self._screen.chapter("Its TPM has power again: once more, and on to the end")
        weak.tpm.start()
        self._birthmark("campaign", "retry", _NAME, "--reason", f"{weak.device_id} is repaired")
        self._watch.until(lambda look: look.view.campaign.state not in OPEN)
        self._wait_listed(stolen)
        return Happened(
            failed_device=weak.device_id,
            failed_code=failure.code,
            failed_detail=failure.detail,
            revoked_device=stolen.device_id,
            cut_ms=cut_ms,
            refused=0,
        )

    def _hold_and_revoke(self, weak: FleetDevice, stolen: FleetDevice) -> float:
        """Pause, revoke a device that was not told yet, and resume; return cut_ms."""
        self._screen.chapter(f"{stolen.device_id} is reported stolen: hold everything, and revoke it")
        self._birthmark("campaign", "pause", _NAME, "--reason", f"{stolen.device_id} is reported stolen")
        self._watch.until(lambda look: set(look.under_way()) <= {weak.device_id})
        if stolen.agent is None:
            raise PartFailed(f"{stolen.device_id} has no agent")
        socket = WatchedSocket(stolen.agent.pid, port=self._site.installation.broker_port)
        began_s = time.monotonic()
        self._birthmark("device", "revoke", stolen.device_id, "--reason", "keyCompromise")
        cut_ms = (socket.wait_closed(_CUT_WITHIN_S) - began_s) * 1000
        self._screen.remark(f"{stolen.device_id}: its socket was closed {cut_ms:.0f} ms after the command")
        self._stand_still()
        queued = self._record.look().view.total.queued
        self._screen.remark(f"held: {queued} devices wait for their turn, nobody was told meanwhile")
        self._birthmark("campaign", "resume", _NAME, "--reason", f"{stolen.device_id} is off")
        return cut_ms

    def _stand_still(self) -> None:
        """Hold for a while; raise PartFailed if anybody is told meanwhile."""
        queued = self._record.look().view.total.queued
        end_s = time.monotonic() + _STANDING_STILL_S
        self._watch.until(lambda _: time.monotonic() >= end_s)
        if self._record.look().view.total.queued != queued:
            raise PartFailed("a device was told while the campaign was paused")

    def _wait_listed(self, stolen: FleetDevice) -> None:
        """Ask the broker until it shows what the database says, or the time is over."""
        deadline = time.monotonic() + _LISTED_WITHIN_S
        while time.monotonic() < deadline:
            self._ear.ask_connections()
            time.sleep(LOOK_EVERY_S)
            if not astray(self._record.endings(self.before, self._ear), revoked=stolen.device_id):
                return


def _came_back(record: Record, revoked: FleetDevice) -> int:
    """Return how often it came back in vain; wait for the first time, since an agent takes its time between tries."""
    deadline = time.monotonic() + _CAME_BACK_WITHIN_S
    while not (times := record.refused(revoked)) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    return times


def _next_steps(
    wishes: Wishes, site: Site, happened: Happened, rolled: Rollover, device: FleetDevice
) -> list[tuple[str, str]]:
    if not wishes.keep:
        return [
            ("stay up and look around", "scripts/demo --campaign --keep"),
            ("a larger fleet", "scripts/demo --campaign --devices 60"),
            ("all that a campaign can be told", "less docs/campaigns.md"),
            ("any CA replaced, the root too", "less docs/rollover.md"),
        ]
    return [
        *site.looking_around(device),
        ("what happened, and to whom", f"birthmark campaign show {_NAME}"),
        ("the one that failed first, with its certificates", f"birthmark device show {happened.failed_device}"),
        ("what was refused since, and why", "birthmark refusal list"),
        (
            "let the stolen one enroll again, by its TPM",
            f"birthmark device readmit {happened.revoked_device}",
        ),
        ("which CA of each kind issues, and what became of the old one", "birthmark ca list"),
        ("and what was done to it, by whom", f"birthmark ca status {rolled.old}"),
        ("rotate once more, in two stages", "birthmark campaign start spring --stages 50,100"),
        ("and see it", "birthmark campaign watch spring"),
    ]


_CHAPTERS: Final = (
    "Canaries first, then stages",
    "Paused by an operator; a device is revoked, and its socket closed; resumed",
    "Paused by itself, for a device whose TPM had lost its power; retried, and on to the end",
    "The Fleet CA is replaced: staged, known to server and broker, activated; two devices sleep, and come home",
)
