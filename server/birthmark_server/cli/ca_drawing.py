"""How one authority is drawn for a person: who knows it, who does not, what stands below it, what comes next."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from birthmark_server.authorities import AuthorityAct, AuthorityState
from birthmark_server.ca.profile import CaKind
from birthmark_server.cli.output import moment
from birthmark_server.web.api.authority_views import (
    AuthorityStatus,
    HappeningView,
    LaggardView,
    LeafView,
    PeerView,
)

_WIDTH: Final = 30
_MARGIN: Final = 11


def drawn(
    seen: AuthorityStatus,
    *,
    laggards: Sequence[LaggardView] | None = None,
    leaves: Sequence[LeafView] | None = None,
) -> Iterator[Text]:
    """Yield its lines. laggards, leaves: all of them, where not only the first shall be named."""
    one = seen.authority
    what = one.kind if one.kind is CaKind.ROOT else f"{one.kind} CA below {one.root}"
    yield Text.assemble((one.name, "bold"), f"  {what}, {one.state}; trust bundle {seen.version or 'none'}")
    if one.state is not AuthorityState.RETIRED:
        yield from _peers("servers", seen.servers, none="none is running")
        if one.kind in (CaKind.FLEET, CaKind.INFRA):
            yield from _peers("brokers", seen.brokers, none="none was heard of")
        if seen.devices is not None:
            yield _bar("devices", seen.devices.acknowledged, seen.devices.seen, "know it, of those seen lately")
            yield from _laggards(seen, laggards)
    if seen.below:
        yield Text(f"{'below it':<{_MARGIN}}{', '.join(seen.below)}")
    if one.kind is not CaKind.ROOT:
        yield from _leaves(seen, leaves)
    for step in seen.next:
        yield Text.assemble((f"{'next':<{_MARGIN}}", "dim"), step)


def facts(one: HappeningView) -> str:
    """Return one act in words."""
    words = f"{one.act} by {one.by}"
    if one.act is AuthorityAct.ACTIVATE:
        words += f"; quorum {one.quorum:g} %, {one.missing} did not know it{', forced' if one.forced else ''}"
    return f"{words}; trust bundle {one.version or 'none'}"


def _peers(title: str, peers: Sequence[PeerView], *, none: str) -> Iterator[Text]:
    if not peers:
        yield Text(f"{title:<{_MARGIN}}{none}")
        return
    yield _bar(title, sum(not each.missing for each in peers), len(peers), "know it")
    for each in peers:
        if each.missing:
            yield _indented(each.missing, "yellow")


def _bar(title: str, known: int, of: int, words: str) -> Text:
    filled = _WIDTH * known // of if of else _WIDTH
    bar = ("█" * filled, "green"), ("░" * (_WIDTH - filled), "dim")
    return Text.assemble(f"{title:<{_MARGIN}}", *bar, f"  {known} of {of} {words}")


def _laggards(seen: AuthorityStatus, everyone: Sequence[LaggardView] | None) -> Iterator[Text]:
    if seen.devices is None:
        return
    named = seen.devices.laggards if everyone is None else everyone
    for each in named:
        said = f", and says {each.code}: {each.detail}" if each.code else ""
        held = f"has bundle {each.version}" if each.version else "has no bundle"
        yield _indented(f"{each.device_id}  seen {moment(each.last_seen_at)}, {held}{said}", "yellow")
    left = seen.devices.seen - seen.devices.acknowledged - len(named)
    if left > 0:
        yield _indented(f"and {left} more: birthmark ca status {seen.authority.name} --all", "dim")


def _leaves(seen: AuthorityStatus, everyone: Sequence[LeafView] | None) -> Iterator[Text]:
    words = "1 certificate below it stands" if seen.leaves == 1 else f"{seen.leaves} certificates below it stand"
    yield Text(f"{'leaves':<{_MARGIN}}{words}")
    if seen.authority.state is not AuthorityState.SUPERSEDED and everyone is None:
        return
    named = seen.first_leaves if everyone is None else everyone
    for each in named:
        yield _indented(f"{each.profile} of {each.subject}, until {moment(each.not_after)}", "")
    if seen.leaves > len(named):
        yield _indented(f"and {seen.leaves - len(named)} more: birthmark ca status {seen.authority.name} --all", "dim")


def _indented(words: str, style: str) -> Text:
    return Text.assemble(" " * _MARGIN, (words, style))
