"""The desk on the store: each act in one operator's name, held to that operator's role."""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from birthmark_server.admission import device_id_for
from birthmark_server.ca.authority import Authority
from birthmark_server.domain import (
    Batch,
    BoardSwap,
    CertificateRecord,
    DenyEntry,
    Device,
    DeviceModel,
    ManifestEntry,
    RevocationReason,
)
from birthmark_server.fleet import Group
from birthmark_server.roles import ADMITTING, STEERING, VOUCHING, Role, require
from birthmark_server.rollover.service import RolloverService
from birthmark_server.rotation.campaigning import CampaignService
from birthmark_server.store.protocol import Store
from birthmark_server.store.workorder_protocol import WorkOrderStore
from birthmark_server.web.api import bodies, lists, operators, queries, seen, views
from birthmark_server.web.api.authority_desk import StoreAuthorityDesk
from birthmark_server.web.api.campaigns.store_desk import StoreCampaignDesk
from birthmark_server.web.api.certificates import find_certificate
from birthmark_server.web.api.status import status_of
from birthmark_server.web.api.workorders.store_desk import StoreWorkOrderDesk

SWAP_WINDOW: Final = timedelta(hours=24)
"""How long after its approval the new board may come (design: within 24 hours)."""


class Broker(Protocol):
    """Who tells the broker what was decided (cut_off.Messenger). Each returns an empty text, or why it could not."""

    def cut_off(self, revoked: Iterable[CertificateRecord], device_ids: Collection[str] = ()) -> str:
        """Which certificates and devices it must cut, and let in no more."""

    def let_back(self, device_id: str) -> str:
        """Whom it may let in again, with a certificate that is good."""


class StoreDesk:
    """See desk.Desk, where each method's contract is.

    by: under which name acts are kept. role: whose certificate was shown; None for a Unix user on the server's machine,
    who is held to nothing here. authority: opens the CA folder; with its keys if asked to.
    """

    def __init__(
        self,
        store: Store,
        *,
        campaigns: CampaignService,
        workorders: WorkOrderStore,
        authority: Callable[[bool], Authority],
        broker: Broker,
        rollover: RolloverService,
        by: str,
        role: Role | None,
        now: Callable[[], datetime],
        started_at: datetime | None = None,
    ) -> None:
        self._store = store
        self._authority = authority
        self._broker = broker
        self._by = by
        self._role = role
        self._now = now
        self._started_at = started_at
        self.authorities = StoreAuthorityDesk(rollover, by=by, role=role)
        self.workorders = StoreWorkOrderDesk(workorders, store, authority=authority, by=by, role=role, now=now)
        self.campaigns = StoreCampaignDesk(campaigns, store, authority=authority, by=by, role=role, now=now)

    # -- devices
    def devices(self, query: queries.DeviceQuery, *, after: str = "", limit: int = 100) -> views.DevicePage:
        now = self._now()
        selector = seen.selector(query, self._store, self._authority, now)
        found = self._store.select_devices(selector, after=after, limit=limit + 1)
        shown = seen.devices_seen(self._store, self._authority, found[:limit], now)
        return views.DevicePage(items=tuple(shown), next=found[limit - 1].device_id if len(found) > limit else None)

    def device(self, device_id: str) -> views.DeviceDetail:
        return seen.device_detail(self._store, self._authority, device_id, self._now())

    def change_tags(self, device_id: str, change: bodies.TagChange) -> views.Tags:
        self._require(STEERING, "tagging devices")
        tags = self._store.change_tags(device_id, add=change.add, remove=change.remove)
        return views.Tags(device_id=device_id, tags=tags)

    def quarantine_device(self, device_id: str, quarantine: bodies.Quarantine) -> views.Standing:
        self._require(STEERING, "quarantining devices")
        device = self._store.quarantine_device(device_id, at=self._now(), by=self._by, note=quarantine.note)
        return self._standing(device, 0, self._broker.cut_off((), [device_id]))

    def restore_device(self, device_id: str) -> views.Standing:
        self._require(STEERING, "restoring devices")
        device = self._store.restore_device(device_id, at=self._now(), by=self._by)
        return self._standing(device, 0, self._broker.let_back(device_id))

    def revoke_device(self, device_id: str, revocation: bodies.DeviceRevocation) -> views.Standing:
        self._require(STEERING, "revoking devices")
        reason = RevocationReason(revocation.reason.value)
        revoked = self._store.revoke_device(device_id, reason=reason, at=self._now(), by=self._by, note=revocation.note)
        return self._withdrawn(device_id, revoked)

    def retire_device(self, device_id: str, retirement: bodies.Retirement) -> views.Standing:
        self._require(STEERING, "retiring devices")
        reason = RevocationReason(retirement.reason.value)
        revoked = self._store.retire_device(device_id, reason=reason, at=self._now(), by=self._by, note=retirement.note)
        return self._withdrawn(device_id, revoked)

    def readmit_device(self, device_id: str) -> views.Standing:
        self._require(STEERING, "readmitting devices")
        device = self._store.readmit_device(device_id, at=self._now(), by=self._by)
        return self._standing(device, 0, self._broker.let_back(device_id))

    def ask_swap(self, device_id: str, request: bodies.SwapRequest) -> views.SwapView:
        self._require(STEERING, "board swaps")
        swap = BoardSwap(
            device_id=device_id,
            new_ek_sha256=request.new_ek_sha256,
            requested_by=self._by,
            requested_at=self._now(),
        )
        self._store.request_swap(swap)
        return views.SwapView.model_validate(swap)

    def approve_swap(self, device_id: str, approval: bodies.SwapApproval) -> views.SwapApproved:
        self._require(STEERING, "board swaps")
        at = self._now()
        approved = self._store.approve_swap(
            device_id, new_ek_sha256=approval.new_ek_sha256 or "", by=self._by, at=at, expires_at=at + SWAP_WINDOW
        )
        old = self._store.device_certificates(device_id)  # the old board's: all are revoked now
        cut = self._cut([device_id], len(old), self._broker.cut_off(old))
        return views.SwapApproved(swap=views.SwapView.model_validate(approved), cut=cut)

    def deny(self, denial: bodies.Denial) -> views.Cut:
        self._require(STEERING, "denying devices")
        if denial.device_id:
            self._store.get_device(denial.device_id)
        met = self._store.deny(
            DenyEntry(
                device_id=denial.device_id or "",
                serial=denial.serial or "",
                ek_sha256=denial.ek_sha256,
                reason=denial.reason,
                denied_by=self._by,
                denied_at=self._now(),
            )
        )
        certificates = [record for met_id in met for record in self._store.device_certificates(met_id)]
        return self._cut(met, len(certificates), self._broker.cut_off(certificates, met))

    def denials(self, *, after: str = "", limit: int = 100) -> views.DenialPage:
        return lists.denials(self._store, after, limit)

    # -- certificates
    def certificates(
        self, query: queries.CertificateQuery, *, after: str = "", limit: int = 100
    ) -> views.CertificatePage:
        return lists.certificates(self._store, query, after, limit)

    def certificate(self, sha256: str) -> views.CertificateView:
        return views.CertificateView.model_validate(find_certificate(self._store, sha256))

    def revoke_certificate(self, sha256: str, revocation: bodies.Revocation) -> views.CertificateCut:
        found = find_certificate(self._store, sha256)
        allowed, what = (STEERING, "revoking devices' certificates") if found.device_id else (
            VOUCHING, "revoking the infrastructure's certificates"
        )  # fmt: skip
        self._require(allowed, what)
        record = self._store.revoke_certificate(found.sha256, reason=revocation.reason, at=self._now(), by=self._by)
        broker = self._broker.cut_off([record])
        return views.CertificateCut(
            certificate=views.CertificateView.model_validate(record), by=self._by, broker=broker
        )

    # -- who may enroll
    def models(self, *, after: str = "", limit: int = 100) -> views.ModelPage:
        return lists.models(self._store, after, limit)

    def add_model(self, model: bodies.NewModel) -> views.ModelView:
        self._require(STEERING, "adding models")
        self._store.add_model(
            DeviceModel(
                name=model.name,
                ek_template=model.ek_template,
                require_ek_certificate=model.require_ek_certificate,
                quote_pcrs=tuple(sorted(set(model.quote_pcrs))),
                manufacturers=model.manufacturers,
            ),
            by=self._by,
        )
        return views.ModelView.model_validate(self._store.get_model(model.name))

    def manifest(self, *, after: str = "", limit: int = 100) -> views.ManifestPage:
        return lists.manifest(self._store, after, limit)

    def import_manifest(self, manifest: bodies.NewManifest) -> views.Imported:
        self._require(ADMITTING, "importing manifests")
        at = self._now()
        entries = [
            ManifestEntry(
                ek_sha256=entry.ek_sha256,
                serial=entry.serial,
                model=entry.model,
                device_id=entry.device_id or device_id_for(entry.serial),
                imported_by=self._by,
                imported_at=at,
            )
            for entry in manifest.entries
        ]
        lists.check_once(entries)
        new = self._store.import_manifest(entries)
        return views.Imported(lines=len(entries), new=new, imported_by=self._by)

    def remove_line(self, serial: str) -> views.ManifestView:
        self._require(ADMITTING, "removing lines of the manifest")
        removed = self._store.remove_line(serial, at=self._now(), by=self._by)
        return views.ManifestView.model_validate(removed)

    def batches(self, *, after: str = "", limit: int = 100) -> views.BatchPage:
        return lists.batches(self._store, after, limit)

    def open_batch(self, batch: bodies.NewBatch) -> views.BatchView:
        self._require(ADMITTING, "opening batches")
        at = self._now()
        opened = Batch(
            name=batch.name,
            model=batch.model,
            quota=batch.quota,
            used=0,
            opened_by=self._by,
            opened_at=at,
            closes_at=at + timedelta(seconds=batch.open_for_s),
        )
        self._store.open_batch(opened)
        return views.BatchView.model_validate(self._store.get_batch(batch.name))

    def close_batch(self, name: str) -> views.BatchView:
        self._require(ADMITTING, "closing batches")
        return views.BatchView.model_validate(self._store.close_batch(name, at=self._now(), by=self._by))

    def refusals(self, query: queries.RefusalQuery, *, after: str = "", limit: int = 100) -> views.RefusalPage:
        return lists.refusals(self._store, query, after, limit)

    # -- operators
    def operators(self, *, after: str = "", limit: int = 100) -> views.OperatorPage:
        return lists.page_of(
            views.OperatorPage,
            operators.all_operators(self._store),
            lambda one: f"{one.name} {one.sha256}",
            after,
            limit,
        )

    def add_operator(self, operator: bodies.NewOperator) -> views.IssuedOperator:
        self._require(VOUCHING, "making operators")
        return operators.certify(self._authority(True), self._store, operator, by=self._by, now=self._now())

    def revoke_operator(self, name: str, revocation: bodies.Revocation) -> views.OperatorCut:
        self._require(VOUCHING, "revoking operators")
        return operators.revoke(self._store, name, reason=revocation.reason, by=self._by, now=self._now())

    # -- groups
    def groups(self, *, after: str = "", limit: int = 100) -> views.GroupPage:
        return lists.groups(self._store, after, limit)

    def group(self, name: str) -> views.GroupView:
        return lists.group_view(self._store.get_group(name))

    def save_group(self, group: bodies.NewGroup) -> views.GroupView:
        self._require(STEERING, "saving groups")
        seen.device_filter(group.query, self._authority, self._now())  # that it can be asked at all
        query = group.query.model_dump_json(exclude_defaults=True)
        self._store.save_group(Group(group.name, query, self._by, self._now()))
        return lists.group_view(self._store.get_group(group.name))

    def remove_group(self, name: str) -> None:
        self._require(STEERING, "removing groups")
        self._store.remove_group(name)

    def status(self) -> views.StatusView:
        return status_of(self._store, now=self._now(), started_at=self._started_at)

    def _require(self, allowed: frozenset[Role], what: str) -> None:
        require(self._role, allowed, what)

    def _withdrawn(self, device_id: str, revoked: Sequence[CertificateRecord]) -> views.Standing:
        """All of the device's certificates are told to the broker: an earlier telling may have failed."""
        broker = self._broker.cut_off(self._store.device_certificates(device_id))
        return self._standing(self._store.get_device(device_id), len(revoked), broker)

    def _standing(self, device: Device, certificates: int, broker: str) -> views.Standing:
        (shown,) = seen.devices_seen(self._store, self._authority, [device], self._now())
        return views.Standing(device=shown, certificates=certificates, by=self._by, broker=broker)

    def _cut(self, devices: Iterable[str], certificates: int, broker: str) -> views.Cut:
        return views.Cut(devices=tuple(devices), certificates=certificates, by=self._by, broker=broker)
