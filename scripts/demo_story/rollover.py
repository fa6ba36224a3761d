"""The last act: the Fleet CA is replaced by a new one, while two devices sleep.

Nothing is switched before those who would break know of it. `birthmark ca activate` is tried too early, and refused:
the server has not read its CA folder since. `birthmark ca retire` is tried while the certificates of the two sleepers
stand below the old CA, and refused naming them. They wake up, get their job at their first hello, and it is empty.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

from rich.console import Group
from rich.text import Text

from birthmark_server.campaigns import OPEN
from birthmark_server.cli.ca_drawing import drawn
from birthmark_server.rollover.readiness import SERVERS_STALE
from birthmark_server.store.sql.store import SqlStore
from birthmark_server.web.api.authority_views import AuthorityStatus
from demo_story.campaign_record import Look, Record
from demo_story.campaign_watch import LOOK_EVERY_S, CampaignWatch
from demo_story.ear import BrokerEar
from demo_story.fleet import FleetDevice
from demo_story.parts import PartFailed
from demo_story.rollover_record import Home, Rollover, home, told, version_of
from demo_story.screen import Screen
from demo_story.site import Site

_NAME: Final = "roll"
_LOOK_EVERY_S: Final = 0.5
_KNOWN_WITHIN_S: Final = 60.0
_TOLD_WITHIN_S: Final = 30.0
_LISTED_WITHIN_S: Final = 10.0


class RolloverAct:
    """devices: those that live. sleepers: those of them that sleep through it."""

    def __init__(
        self,
        store: SqlStore,
        screen: Screen,
        site: Site,
        ear: BrokerEar,
        *,
        devices: Sequence[FleetDevice],
        sleepers: Sequence[FleetDevice],
    ) -> None:
        self._store = store
        self._screen = screen
        self._site = site
        self._ear = ear
        self._watch = CampaignWatch(Record(store, _NAME), screen, site)
        self._birthmark = site.installation.birthmark
        self._devices = devices
        self._sleepers = sleepers

    def run(self) -> Rollover:
        """Let it all happen."""
        names = " and ".join(one.device_id for one in self._sleepers)
        old = self._active()
        label = str(int(old.removeprefix("fleet-")) + 1)
        new = f"fleet-{label}"
        self._screen.chapter(f"{names} go to sleep. A new Fleet CA is made, and signed by the root")
        for one in self._sleepers:
            self._site.sleep(one)
        self._site.installation.add_fleet_ca(label)
        too_early = self._replace(new)
        self._screen.chapter(f"A campaign moves the devices; {names} sleep on")
        self._birthmark("campaign", "start", _NAME, "--issued-by", old)
        asleep = [one.device_id for one in self._sleepers]
        self._watch.until(lambda look: not look.view.total.queued and set(look.under_way()) == set(asleep))
        kept = self._refused("retire", old)
        self._screen.chapter(f"{names} wake up, come home, and get their job")
        woken = {}
        for one in self._sleepers:
            woken[one.device_id] = datetime.now(UTC)
            self._site.wake(one)
        look = self._watch.until(lambda look: look.view.campaign.state not in OPEN)
        self._screen.chapter(f"Nothing is left below {old}")
        self._birthmark("ca", "retire", old)
        version = version_of(self._store)
        self._until_told(version)
        return Rollover(
            old=old,
            new=new,
            sleepers=tuple(asleep),
            too_early=too_early,
            kept=kept,
            version=version,
            states={one.name: one.state.value for one in self._store.authorities.list_authorities()},
            homes=self._homes(look, woken, new),
        )

    def _replace(self, new: str) -> str:
        """Stage and activate; return why that was refused at first."""
        self._screen.chapter(f"Servers and brokers must know {new} before it issues")
        self._birthmark("ca", "stage", new)
        too_early = self._refused("activate", new)
        self._screen.remark("A server reads its CA folder when it starts")
        self._site.restart_server()
        self._until_known(new)
        self._birthmark("ca", "activate", new)
        self._until_followed()
        return too_early

    def _active(self) -> str:
        found = json.loads(self._site.installation.ask("ca", "list", "--json"))
        return str(next(one["name"] for one in found if (one["kind"], one["state"]) == ("fleet", "active")))

    def _refused(self, act: str, name: str) -> str:
        said = self._site.installation.refused("ca", act, name)
        self._screen.remark(said)
        return said

    def _until_known(self, name: str) -> None:
        """Draw who knows it until all do who must; then show it as `birthmark ca status` does."""
        words: list[str] = []

        def reached() -> bool:
            seen = AuthorityStatus.model_validate_json(self._site.installation.ask("ca", "status", name, "--json"))
            self._screen.draw(Group(Text(), *drawn(seen)))
            missing = "; ".join(one.missing for one in (*seen.servers, *seen.brokers) if one.missing)
            self._once(words, missing or f"servers and brokers know {name}")
            return seen.ready

        self._until(reached, within_s=_KNOWN_WITHIN_S, lacking=lambda: words[-1])
        for line in self._birthmark("ca", "status", name).splitlines():
            self._screen.remark(f"  {line}")

    def _until_followed(self) -> None:
        """Wait until the server reports that it has read the record since: from then on the new one issues."""
        at = self._store.authorities.happenings(limit=1)[0].at

        def reached() -> bool:
            servers = self._store.authorities.replicas(since=at - SERVERS_STALE)
            return all(one.heard_at > at for one in servers)

        self._until(reached, within_s=_TOLD_WITHIN_S, lacking=lambda: "the server has not followed")

    def _until_told(self, version: int) -> None:
        """Draw how many devices have acknowledged the trust bundle until all have."""
        words: list[str] = []
        ids = [one.device_id for one in self._devices]

        def reached() -> bool:
            count = told(self._store, ids, version=version)
            line = f"trust bundle {version}: acknowledged by {count} of {len(ids)} devices"
            self._screen.draw(Text(line))
            self._once(words, line)
            return count == len(ids)

        self._until(reached, within_s=_TOLD_WITHIN_S, lacking=lambda: words[-1])
        if self._screen.kind == "live":
            self._screen.remark(words[-1])

    def _homes(self, look: Look, woken: Mapping[str, datetime], new: str) -> dict[str, Home]:
        """Return where each device is, once the broker shows it so, or the time is over."""
        deadline = time.monotonic() + _LISTED_WITHIN_S
        while True:
            self._ear.ask_connections()
            time.sleep(LOOK_EVERY_S)
            found = {one.device_id: home(self._store, self._ear, one.device_id, look, woken) for one in self._devices}
            if all(one.there(new) for one in found.values()) or time.monotonic() > deadline:
                return found

    def _until(self, reached: Callable[[], bool], *, within_s: float, lacking: Callable[[], str]) -> None:
        deadline = time.monotonic() + within_s
        with ExitStack() as showing:
            self._screen.devices(showing)
            while not reached():
                self._site.require_alive()
                if time.monotonic() > deadline:
                    raise PartFailed(f"after {within_s:g} s: {lacking()}")
                time.sleep(_LOOK_EVERY_S)

    def _once(self, said: list[str], line: str) -> None:
        if not said or said[-1] != line:
            said.append(line)
            self._screen.line(line)
