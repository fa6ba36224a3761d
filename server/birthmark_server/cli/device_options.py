"""Which devices: the options of every command that selects some, and the query that they mean."""

from dataclasses import dataclass
from typing import Annotated

import typer

from birthmark_server.domain import DeviceState
from birthmark_server.fleet import NextAction
from birthmark_server.web.api.queries import DeviceQuery, Selection


@dataclass(frozen=True)
class Which:
    """All that is given must hold. See web.api.queries.Selection."""

    device: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this device; may be repeated.")] = None
    state: Annotated[DeviceState | None, typer.Option(help="Only those in this state.")] = None
    model: Annotated[str, typer.Option(help="Only those of this model.")] = ""
    batch: Annotated[str, typer.Option(help="Only those born in this batch.")] = ""
    tag: Annotated[list[str] | None, typer.Option(help="Only those with this tag; with all of several.")] = None
    issued_by: Annotated[
        str, typer.Option(metavar="CA", help="Only those whose certificate in use this CA issued, as in fleet-2026.")
    ] = ""
    expiring_before: Annotated[
        str,
        typer.Option(metavar="7d", help="Only those whose certificate ends before then: a span ahead, a date, a time."),
    ] = ""
    last_seen_before: Annotated[
        str, typer.Option(metavar="2d", help="Only those not seen since then: a span back, a date, a time.")
    ] = ""
    never_rotated: Annotated[bool, typer.Option("--never-rotated", help="Only those still on their first.")] = False
    next_action: Annotated[
        NextAction | None, typer.Option("--next", help="Only those for which this comes next, as renewal-due.")
    ] = None

    def selection(self) -> Selection:
        """Return what a group saves."""
        return Selection(
            device_id=tuple(dict.fromkeys(self.device or ())),
            state=self.state,
            model=self.model or None,
            batch=self.batch or None,
            tag=tuple(self.tag or ()),
            issued_by=self.issued_by,
            expiring_before=self.expiring_before or None,
            last_seen_before=self.last_seen_before or None,
            never_rotated=self.never_rotated,
            next_action=self.next_action,
        )


@dataclass(frozen=True)
class WhichOfGroup(Which):
    """And of one group, if one is named."""

    group: Annotated[str, typer.Option(help="Only those in this group.")] = ""

    def query(self) -> DeviceQuery:
        """Return what is asked."""
        return DeviceQuery(**dict(self.selection()), group=self.group or None)
