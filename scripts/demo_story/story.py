"""The story, from an empty folder to a fleet that has rotated its certificates."""

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from demo_story.campaign import tell_campaign
from demo_story.evidence import STAGES, Progress, Stage
from demo_story.factory import tell_factory
from demo_story.fleet import FleetDevice
from demo_story.installation import Installation
from demo_story.screen import Screen, ending, result, save_picture
from demo_story.site import Site
from demo_story.wishes import Wishes
from demo_story.workshop import workshop

_ROOT: Final = Path(__file__).resolve().parents[2]
_RENEW: Final = signal.SIGHUP


def tell(wishes: Wishes, screen: Screen) -> bool:
    """Tell the story; return whether every device got through. Everything that was started is stopped again."""
    with ExitStack() as stack:
        folder = stack.enter_context(workshop(_ROOT / ".birthmark"))
        site = Site(folder, screen=screen, stack=stack)
        if wishes.factory:
            return tell_factory(wishes, screen, site)
        return tell_campaign(wishes, screen, site) if wishes.campaign else _tell(wishes, screen, site)


def _tell(wishes: Wishes, screen: Screen, site: Site) -> bool:
    devices = site.found(wishes.devices)
    progress, _ear = site.power_on(
        devices, store=site.open_store(), stages=STAGES, timeout_s=wishes.timeout_s, also=_renew_once
    )
    wall_s = screen.elapsed_s
    if wishes.picture is not None:
        shown = ending(progress, wall_s=wall_s)
        save_picture(wishes.picture, shown, command="scripts/demo", chapters=_CHAPTERS)
    shown = ending(progress, wall_s=wall_s, rows=len(progress), wide=screen.wide)
    screen.end(shown, result(progress, wall_s=wall_s), next_steps=_next_steps(wishes, site, devices[0]))
    stuck = next((one for one in progress if not one.done), None)
    if stuck is not None:
        site.explain(stuck.device, f"reached {', '.join(stuck.reached) or 'nothing'}")
    elif wishes.keep:
        site.stay()
    return stuck is None


def _renew_once(one: Progress) -> None:
    if Stage.CONNECTED in one.reached and not one.renewal_asked and one.device.agent is not None:
        one.renewal_asked = True
        one.device.agent.signal(_RENEW)


def _next_steps(wishes: Wishes, site: Site, device: FleetDevice) -> list[tuple[str, str]]:
    if not wishes.keep:
        return [
            ("stay up and look around", "scripts/demo --keep"),
            ("a larger fleet", "scripts/demo --devices 50"),
            ("rotate a fleet from a chair, in stages", "scripts/demo --campaign"),
            ("flash and make devices at a factory's stations", "scripts/demo --factory"),
            ("every test, with real parts", "scripts/test"),
            ("on a real server and a real device", "less docs/operations.md"),
        ]
    installation = site.installation
    control, root = installation.folder / "control", installation.root_pem
    return [
        *site.looking_around(device),
        ("what is on record", "birthmark device list"),
        ("one device, with its certificates and evidence", f"birthmark device show {device.device_id}"),
        ("is all well?", "birthmark doctor"),
        ("the device's own view", "birthmark-agent status"),
        ("a mutual TLS handshake, step by step", "birthmark-agent trace"),
        ("another rotation, watched", f"{_subscribe(installation, control, root)} & birthmark-agent renew"),
        ("revoke it: it is off the broker within two seconds", f"birthmark device revoke {device.device_id}"),
    ]


def _subscribe(installation: Installation, control: Path, root: Path) -> str:
    return (
        f"mosquitto_sub -h localhost -p {installation.broker_port} --cafile {root} "
        f"--cert {control}.pem --key {control}.key -i srv-control.me -t 'devices/+/up/#' -v -W 10"
    )


_CHAPTERS: Final = (
    "A certification authority, and devices fresh from the factory, each with a TPM 2.0",
    "Whom to believe (tpm-roots), and whom to expect (manifest)",
    "The enrollment server, and the broker with its gate",
    "Power on: one birthmark-agent for each device",
)
