"""What operators send and get about authorities: a room of its own beside bodies.py and views.py."""

from typing import Annotated

from pydantic import Field

from birthmark_server.authorities import AuthorityAct, AuthorityState
from birthmark_server.ca.profile import CaKind
from birthmark_server.web.api.values import Moment, View
from birthmark_server.web.api.views import Page


class Activation(View):
    """What it takes to let an authority issue."""

    quorum: Annotated[
        float, Field(gt=0, le=100, description="Percent of the devices that must know it, where devices must.")
    ] = 100.0
    force: Annotated[bool, Field(description="Go on all the same; who would break is on record.")] = False


class AuthorityView(View):
    """One authority. since: the version of the trust bundle that had it first; 0: from before there were any. here: it
    is in the CA folder of the server that answers, and its root has not revoked it."""

    name: str
    kind: CaKind
    state: AuthorityState
    sha256: str
    root: Annotated[str, Field(description="The root that it stands below; its own name for a root.")]
    not_after: Moment
    since: int
    here: bool
    changed_at: Moment | None
    changed_by: str


class PeerView(View):
    """A broker or a server, as far as this authority goes. missing: why it would break, empty if it would not."""

    name: str
    heard_at: Moment
    missing: str


class LaggardView(View):
    """A device that has not acknowledged a bundle with this authority. version: what it has; code, detail: why it would
    not take one, if it said so."""

    device_id: str
    last_seen_at: Moment
    version: int
    code: str
    detail: str


class DeviceCount(View):
    """Active devices that were seen lately, how many of them know the authority, and the first of those that do not."""

    seen: int
    acknowledged: int
    laggards: tuple[LaggardView, ...]


class LeafView(View):
    """A certificate that stands below an authority. subject: its device, or its distinguished name."""

    sha256: str
    profile: str
    subject: str
    not_after: Moment


class HappeningView(View):
    """One act on an authority. version: of the trust bundle in force after it. quorum, missing, forced: of an
    activation: percent wanted, how many did not know it, and whether that was overruled."""

    revision: int
    act: AuthorityAct
    name: str
    at: Moment
    by: str
    version: int
    quorum: float
    missing: int
    forced: bool


class AuthorityStatus(View):
    """How far one authority is. devices: null where they need not know it. leaves: how many certificates stand below
    it; below: issuing CAs below a root. next: what to do, and what undoes it."""

    authority: AuthorityView
    version: int
    devices: DeviceCount | None
    brokers: tuple[PeerView, ...]
    servers: tuple[PeerView, ...]
    leaves: int
    first_leaves: tuple[LeafView, ...]
    below: tuple[str, ...]
    happenings: tuple[HappeningView, ...]
    ready: bool
    next: tuple[str, ...]


class AuthorityMoved(View):
    """What an act did: the authority as it stands then, and the act as it is on record."""

    authority: AuthorityView
    act: HappeningView


class AuthorityPage(Page[AuthorityView]):
    """A part of the authorities, by name."""


class LaggardPage(Page[LaggardView]):
    """A part of the devices that have not acknowledged a bundle with an authority, by id."""


class LeafPage(Page[LeafView]):
    """A part of the certificates below an authority, by SHA-256."""
