"""Listings by pages, each behind the key of the item before it."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import TypeVar

from birthmark_server.domain import ManifestEntry, Refusal
from birthmark_server.errors import Malformed
from birthmark_server.fleet import Group
from birthmark_server.store.protocol import Store
from birthmark_server.web.api import queries, views
from birthmark_server.web.api.certificates import before_prefix
from birthmark_server.web.api.values import View
from birthmark_server.web.errors import BadCursor

T = TypeVar("T", bound=View)
P = TypeVar("P", bound=views.Page)  # type: ignore[type-arg]  # a page of whatever


def page_of(kind: type[P], items: Iterable[T], key: Callable[[T], str], after: str, limit: int) -> P:
    """Return one page of a listing that is small enough to be read whole. key: unique, and the order."""
    rest = sorted((item for item in items if key(item) > after), key=key)
    more = len(rest) > limit
    return kind(items=tuple(rest[:limit]), next=key(rest[limit - 1]) if more else None)


def denials(store: Store, after: str, limit: int) -> views.DenialPage:
    shown = map(views.DenialView.model_validate, store.list_denied())
    return page_of(views.DenialPage, shown, _denial_key, after, limit)


def _denial_key(one: views.DenialView) -> str:
    return f"{one.denied_at:%Y-%m-%dT%H:%M:%S.%f} {sha256(one.model_dump_json().encode()).hexdigest()}"


def models(store: Store, after: str, limit: int) -> views.ModelPage:
    shown = map(views.ModelView.model_validate, store.list_models())
    return page_of(views.ModelPage, shown, lambda one: one.name, after, limit)


def batches(store: Store, after: str, limit: int) -> views.BatchPage:
    shown = map(views.BatchView.model_validate, store.list_batches())
    return page_of(views.BatchPage, shown, lambda one: one.name, after, limit)


def groups(store: Store, after: str, limit: int) -> views.GroupPage:
    return page_of(views.GroupPage, map(group_view, store.list_groups()), lambda one: one.name, after, limit)


def group_view(group: Group) -> views.GroupView:
    """Return a group with its query read."""
    return views.GroupView(
        name=group.name,
        query=queries.Selection.model_validate_json(group.query),
        saved_by=group.saved_by,
        saved_at=group.saved_at,
    )


def manifest(store: Store, after: str, limit: int) -> views.ManifestPage:
    found = store.list_manifest(after=after, limit=limit + 1)
    shown = tuple(map(views.ManifestView.model_validate, found[:limit]))
    return views.ManifestPage(items=shown, next=shown[-1].serial if len(found) > limit else None)


def check_once(entries: Sequence[ManifestEntry]) -> None:
    """Raise Malformed where two entries share their serial number, device id or EK."""
    for column in ("serial", "device_id", "ek_sha256"):
        first: dict[str, int] = {}
        for number, entry in enumerate(entries):
            value = getattr(entry, column)
            if first.setdefault(value, number) != number:
                raise Malformed(f"entries {first[value]} and {number} have the same {column}, {value}")


def certificates(store: Store, query: queries.CertificateQuery, after: str, limit: int) -> views.CertificatePage:
    profile = query.profile.value if query.profile else ""
    prefix = query.sha256
    found = store.list_certificates(profile=profile, after=max(after, before_prefix(prefix)), limit=limit + 1)
    fitting = [record for record in found if record.sha256.startswith(prefix)]
    shown = tuple(map(views.CertificateView.model_validate, fitting[:limit]))
    return views.CertificatePage(items=shown, next=shown[-1].sha256 if len(fitting) > limit else None)


def refusals(store: Store, query: queries.RefusalQuery, after: str, limit: int) -> views.RefusalPage:
    if after and not (after.isascii() and after.isdecimal() and len(after) < 19):
        raise BadCursor("want the number of a refusal", field="cursor")
    found = store.page_refusals(
        code=query.code,
        device_id=query.device_id or "",
        since=query.since,
        before=int(after or 0),
        limit=limit + 1,
    )
    shown = tuple(_refusal(refusal, with_evidence=query.evidence) for _, refusal in found[:limit])
    return views.RefusalPage(items=shown, next=str(found[limit - 1][0]) if len(found) > limit else None)


def _refusal(refusal: Refusal, *, with_evidence: bool) -> views.RefusalView:
    return views.RefusalView(
        at=refusal.at,
        request_id=refusal.request_id,
        door=refusal.door,
        source=refusal.source,
        code=refusal.code,
        detail=refusal.detail,
        device_id=refusal.device_id,
        ek_sha256=refusal.ek_sha256,
        other_ek_sha256=refusal.other_ek_sha256,
        evidence_bytes=len(refusal.evidence),
        evidence=refusal.evidence.hex() if with_evidence else None,
    )
