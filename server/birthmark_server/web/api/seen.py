"""Devices as operators see them: filters out of queries, and records with their tags and their health."""

from collections.abc import Callable, Sequence
from datetime import datetime

from birthmark_server.ca.authority import Authority
from birthmark_server.domain import Device
from birthmark_server.errors import BirthmarkError
from birthmark_server.fleet import DeviceFacts, DeviceFilter, Selector
from birthmark_server.store.errors import UnknownIssuer
from birthmark_server.store.fleet_protocol import FleetStore
from birthmark_server.store.protocol import Store
from birthmark_server.web.api import queries, views
from birthmark_server.web.api.health import outlook
from birthmark_server.web.api.values import ago, ahead

OpenAuthority = Callable[[bool], Authority]


def device_filter(query: queries.Selection, authority: OpenAuthority, now: datetime) -> DeviceFilter:
    """Return what a query selects at this moment. Raise UnknownIssuer."""
    return DeviceFilter(
        device_ids=query.device_id,
        state=query.state,
        model=query.model or "",
        batch=query.batch or "",
        tags=query.tag,
        issued_by=_issuers(query.issued_by, authority),
        expiring_before=None if query.expiring_before is None else ahead(query.expiring_before, now),
        last_seen_before=None if query.last_seen_before is None else ago(query.last_seen_before, now),
        never_rotated=query.never_rotated,
        next_action=query.next_action,
        at=None if query.next_action is None else now,
    )


def _issuers(wanted: str, authority: OpenAuthority) -> tuple[str, ...]:
    if not wanted:
        return ()
    issuers = authority(False).issuers
    found = tuple(issuer.sha256 for issuer in issuers if wanted in (issuer.name, issuer.sha256))
    if not found:
        names = ", ".join(issuer.name for issuer in issuers)
        raise UnknownIssuer(f"want one of {names}, or its certificate's SHA-256; got {wanted!r}")
    return found


def selector(query: queries.DeviceQuery, store: FleetStore, authority: OpenAuthority, now: datetime) -> Selector:
    """Return what a query selects at this moment, and what its group says then. Raise UnknownGroup, UnknownIssuer."""
    asked = device_filter(query, authority, now)
    if query.group is None:
        return () if asked == DeviceFilter() else (asked,)
    saved = queries.Selection.model_validate_json(store.get_group(query.group).query)
    return asked, device_filter(saved, authority, now)


def devices_seen(
    store: Store, authority: OpenAuthority, devices: Sequence[Device], now: datetime
) -> list[views.DeviceView]:
    """Return these devices, each with its tags and its health."""
    if not devices:
        return []
    facts = store.device_facts([device.device_id for device in devices])
    names = _issuer_names(authority)
    return [_seen(device, facts[device.device_id], names, now) for device in devices]


def _issuer_names(authority: OpenAuthority) -> dict[str, str]:
    """Return the names of our CAs by SHA-256; none where the CA folder can't be opened: a CA that has expired, or whose
    files are elsewhere, must not keep anyone from looking at devices."""
    try:
        return {issuer.sha256: issuer.name for issuer in authority(False).issuers}
    except (BirthmarkError, OSError):
        return {}


def _seen(device: Device, facts: DeviceFacts, names: dict[str, str], now: datetime) -> views.DeviceView:
    certificate = facts.certificate
    ahead_of_it = outlook(device, certificate, now=now)
    health = views.Health(
        certificate=certificate.sha256 if certificate else None,
        serial_number=certificate.serial_number if certificate else None,
        issued_by=names.get(certificate.issuer_sha256, certificate.issuer_sha256) if certificate else None,
        not_after=certificate.not_after if certificate else None,
        days_left=ahead_of_it.days_left,
        next_action=ahead_of_it.action,
        next_action_at=ahead_of_it.at,
        agent=facts.agent,
        agent_heard_at=facts.agent_heard_at,
    )
    return views.DeviceView(
        device_id=device.device_id,
        serial=device.serial,
        model=device.model,
        batch=device.batch,
        state=device.state,
        epoch=device.epoch,
        assurance=device.assurance,
        ek_sha256=device.ek_sha256,
        other_ek_sha256=device.other_ek_sha256,
        ak_public=device.ak_public.hex(),
        birth_spki_sha256=device.birth_spki_sha256,
        enrolled_at=device.enrolled_at,
        last_seen_at=device.last_seen_at,
        tags=facts.tags,
        health=health,
    )


def device_detail(store: Store, authority: OpenAuthority, device_id: str, now: datetime) -> views.DeviceDetail:
    """Return one device with all that was decided about it. Raise UnknownDevice."""
    device = store.get_device(device_id)
    (shown,) = devices_seen(store, authority, [device], now)
    swaps = [views.SwapView.model_validate(swap) for swap in store.device_swaps(device_id)]
    denial = store.denied_match(device_id=device_id, serial=device.serial)
    return views.DeviceDetail(
        device=shown,
        swap=next((swap for swap in swaps if swap.ended_at is None), None),
        past_swaps=tuple(swap for swap in swaps if swap.ended_at is not None),
        revocations=tuple(map(views.RevocationView.model_validate, store.device_revocations(device_id))),
        denial=None if denial is None else views.DenialView.model_validate(denial),
        certificates=tuple(map(views.CertificateView.model_validate, store.device_certificates(device_id))),
        evidence=tuple(
            views.EvidenceView(
                at=at,
                kind=item.kind,
                verifier_version=item.verifier_version,
                roots_version=item.roots_version,
                parts={name: data.hex() for name, data in item.parts},
            )
            for at, item in store.device_evidence(device_id)
        ),
    )
