"""What may stand behind the `?` of a listing."""

from typing import Annotated, Final

from pydantic import Field

from birthmark_server.domain import CertificateProfile, DeviceState
from birthmark_server.fleet import NextAction
from birthmark_server.web.api.values import BatchName, DeviceId, GroupName, ModelName, Moment, Tag, View, When

MOST_IDS: Final = 10_000
"""How many devices one selection may name."""


class PageQuery(View):
    """Which part of a listing: as many items as `limit`, after those before the cursor."""

    cursor: Annotated[str, Field(max_length=512, description="`next` of the page before; empty for the first.")] = ""
    limit: Annotated[int, Field(ge=1, le=500, description="At most so many items.")] = 100


class Selection(View):
    """Which devices. Everything that is given must hold; a group saves one of these, a campaign rotates them."""

    device_id: Annotated[tuple[DeviceId, ...], Field(max_length=MOST_IDS, description="One of these.")] = ()
    state: DeviceState | None = None
    model: ModelName | None = None
    batch: BatchName | None = None
    tag: Annotated[tuple[Tag, ...], Field(max_length=8, description="All of these tags.")] = ()
    issued_by: Annotated[
        str,
        Field(max_length=64, description="Name or SHA-256 of the CA that issued the operational certificate in use."),
    ] = ""
    expiring_before: When | None = None
    last_seen_before: When | None = None
    never_rotated: Annotated[bool, Field(description="At most one operational certificate was ever issued.")] = False
    next_action: Annotated[NextAction | None, Field(description="Whose health says that this comes next.")] = None


class DeviceQuery(Selection):
    """Which devices; group: and those of this group only."""

    group: GroupName | None = None


class DevicePageQuery(DeviceQuery, PageQuery):
    """Which devices, and which part of them."""


class CertificateQuery(PageQuery):
    """Which certificates. sha256: those whose hash begins so."""

    profile: CertificateProfile | None = None
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{8,64})?$")] = ""


class RefusalQuery(PageQuery):
    """Which refusals."""

    code: Annotated[str, Field(max_length=64)] = ""
    device_id: DeviceId | None = None
    since: Moment | None = None
    evidence: Annotated[bool, Field(description="With what was sent, in hexadecimal.")] = False
