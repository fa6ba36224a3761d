"""SqlStore: the Store protocol (protocol.py, where each method's contract is) over a Database.

Nothing happens here: each method names the function that does it and the kind of transaction that it runs in.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from birthmark_server.domain import (
    AdmissionFacts,
    Batch,
    BoardSwap,
    CertificateProfile,
    CertificateRecord,
    CertificateStatus,
    CrlIssue,
    DenyEntry,
    Device,
    DeviceModel,
    DeviceRevocation,
    DeviceState,
    EstNonce,
    Evidence,
    ManifestEntry,
    PendingEnrollment,
    Refusal,
    RevocationReason,
    RevokedEntry,
)
from birthmark_server.fleet import DaysLeft, DeviceFacts, DeviceFilter, Group, KeptAnswer
from birthmark_server.store.database import Database
from birthmark_server.store.journal_entries import Entry
from birthmark_server.store.migrate import schema_problem
from birthmark_server.store.protocol import Birth, Issuance, Store
from birthmark_server.store.sql import (
    admission,
    births,
    certificates,
    crl,
    denials,
    devices,
    events,
    fleet,
    groups,
    idempotency,
    issuance,
    manifest,
    revocation,
    setup,
    status,
    swaps,
)
from birthmark_server.store.sql.authority_store import SqlAuthorities
from birthmark_server.store.sql.campaign_store import SqlCampaigns
from birthmark_server.store.sql.job_store import SqlJobs
from birthmark_server.store.sql.replay import replay
from birthmark_server.store.sql.workorder_store import SqlWorkOrders


class SqlStore(Store):
    """The store on SQLite or PostgreSQL. Made by open.open_store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.jobs = SqlJobs(database)
        self.campaigns = SqlCampaigns(database)
        self.authorities = SqlAuthorities(database)
        self.workorders = SqlWorkOrders(database)
        self._read = database.read
        self._write = database.write

    # -- what operators set up
    def add_model(self, model: DeviceModel, *, by: str) -> None:
        self._write(setup.add_model, model, by)

    def get_model(self, name: str) -> DeviceModel:
        return self._read(setup.get_model, name)

    def list_models(self) -> list[DeviceModel]:
        return self._read(setup.list_models)

    def import_manifest(self, entries: Sequence[ManifestEntry]) -> int:
        return self._write(manifest.import_manifest, entries)

    def list_manifest(self, *, after: str = "", limit: int = 100) -> list[ManifestEntry]:
        return self._read(manifest.list_manifest, after, limit)

    def remove_line(self, serial: str, *, at: datetime, by: str) -> ManifestEntry:
        return self._write(manifest.remove_line, serial, at, by)

    def open_batch(self, batch: Batch) -> None:
        self._write(setup.open_batch, batch)

    def close_batch(self, name: str, *, at: datetime, by: str) -> Batch:
        return self._write(setup.close_batch, name, at, by)

    def get_batch(self, name: str) -> Batch:
        return self._read(setup.get_batch, name)

    def list_batches(self) -> list[Batch]:
        return self._read(setup.list_batches)

    def deny(self, entry: DenyEntry) -> list[str]:
        return self._write(denials.deny, entry)

    def list_denied(self) -> list[DenyEntry]:
        return self._read(denials.list_denied)

    def request_swap(self, swap: BoardSwap) -> None:
        self._write(swaps.request_swap, swap)

    def get_swap(self, device_id: str) -> BoardSwap | None:
        return self._read(swaps.get_swap, device_id)

    def device_swaps(self, device_id: str) -> list[BoardSwap]:
        return self._read(swaps.device_swaps, device_id)

    def approve_swap(
        self, device_id: str, *, by: str, at: datetime, expires_at: datetime, new_ek_sha256: str = ""
    ) -> BoardSwap:
        return self._write(swaps.approve_swap, device_id, by, at, expires_at, new_ek_sha256)

    # -- enrollment
    def admission_facts(self, ek_sha256: Sequence[str], *, at: datetime) -> AdmissionFacts:
        return self._read(admission.admission_facts, ek_sha256, at)

    def denied_match(self, *, device_id: str, serial: str) -> DenyEntry | None:
        return self._read(denials.denied_match, device_id, serial)

    def add_pending(self, pending: PendingEnrollment, *, most_per_source: int) -> None:
        self._write(admission.add_pending, pending, most_per_source)

    def get_pending(self, enrollment_id: str) -> PendingEnrollment:
        return self._read(admission.get_pending, enrollment_id)

    def commit_birth(self, birth: Birth) -> None:
        self._write(births.commit_birth, birth)

    # -- operational certificates
    def add_est_nonce(self, nonce: EstNonce) -> None:
        self._write(issuance.add_est_nonce, nonce)

    def est_nonces(self, device_id: str, *, at: datetime) -> list[bytes]:
        return self._read(issuance.est_nonces, device_id, at)

    def commit_issuance(self, issuance_: Issuance) -> None:
        self._write(issuance.commit_issuance, issuance_)

    def add_infrastructure_certificate(self, certificate: CertificateRecord, *, by: str) -> None:
        self._write(issuance.add_infrastructure_certificate, certificate, by)

    def certificate_by_sha256(self, sha256: str) -> tuple[CertificateRecord, Device | None] | None:
        return self._read(certificates.certificate_by_sha256, sha256)

    def device_certificates(self, device_id: str) -> list[CertificateRecord]:
        return self._read(certificates.device_certificates, device_id)

    def list_certificates(self, *, profile: str = "", after: str = "", limit: int = 100) -> list[CertificateRecord]:
        return self._read(certificates.list_certificates, profile, after, limit)

    # -- devices
    def get_device(self, device_id: str) -> Device:
        return self._read(devices.get_device, device_id)

    def list_devices(
        self, *, state: DeviceState | None = None, model: str = "", batch: str = "", after: str = "", limit: int = 100
    ) -> list[Device]:
        return self._read(devices.list_devices, state, model, batch, after, limit)

    def count_devices(self) -> dict[DeviceState, int]:
        return self._read(devices.count_devices)

    def touch_device(self, device_id: str, *, at: datetime) -> None:
        self._write(devices.touch_device, device_id, at)

    def add_software_device(self, device: Device) -> None:
        self._write(devices.add_software_device, device)

    # -- revocation
    def revoke_device(
        self, device_id: str, *, reason: RevocationReason, at: datetime, by: str, note: str = ""
    ) -> list[CertificateRecord]:
        return self._write(revocation.revoke_device, device_id, reason, at, by, note)

    def retire_device(
        self, device_id: str, *, reason: RevocationReason, at: datetime, by: str, note: str = ""
    ) -> list[CertificateRecord]:
        return self._write(revocation.retire_device, device_id, reason, at, by, note)

    def quarantine_device(self, device_id: str, *, at: datetime, by: str, note: str = "") -> Device:
        return self._write(revocation.quarantine_device, device_id, at, by, note)

    def restore_device(self, device_id: str, *, at: datetime, by: str) -> Device:
        return self._write(revocation.restore_device, device_id, at, by)

    def readmit_device(self, device_id: str, *, at: datetime, by: str) -> Device:
        return self._write(revocation.readmit_device, device_id, at, by)

    def device_revocations(self, device_id: str) -> list[DeviceRevocation]:
        return self._read(revocation.device_revocations, device_id)

    def revoke_certificate(self, sha256: str, *, reason: RevocationReason, at: datetime, by: str) -> CertificateRecord:
        return self._write(revocation.revoke_certificate, sha256, reason, at, by)

    def revoked_serials(
        self, issuer_sha256: str, *, profiles: Sequence[CertificateProfile], at: datetime
    ) -> Iterator[str]:
        return certificates.revoked_serials(self._database, issuer_sha256, profiles, at)

    def revoked_entries(self, issuer_sha256: str, *, since: datetime) -> Iterator[RevokedEntry]:
        return crl.revoked_entries(self._database, issuer_sha256, since)

    def count_revoked(self, issuer_sha256: str) -> int:
        return self._read(crl.count_revoked, issuer_sha256)

    def certificate_status(self, issuer_sha256: str, serial_number: str) -> CertificateStatus | None:
        return self._read(status.certificate_status, issuer_sha256, serial_number)

    def certificate_holder(self, issuer_sha256: str, serial_number: str) -> str:
        return self._read(status.certificate_holder, issuer_sha256, serial_number)

    def next_crl(self, issuer_sha256: str, *, at: datetime) -> CrlIssue:
        return self._write(crl.next_crl, issuer_sha256, at)

    def crl_made_at(self, issuer_sha256: str) -> datetime | None:
        return self._read(crl.crl_made_at, issuer_sha256)

    # -- what happened
    def record_refusal(self, refusal: Refusal) -> None:
        self._write(events.record_refusal, refusal)

    def list_refusals(
        self, *, code: str = "", device_id: str = "", since: datetime | None = None, limit: int = 100
    ) -> list[Refusal]:
        return self._read(events.list_refusals, code, device_id, since, limit)

    def device_evidence(self, device_id: str) -> list[tuple[datetime, Evidence]]:
        return self._read(events.device_evidence, device_id)

    # -- the fleet, as operators see it
    def select_devices(self, filters: Sequence[DeviceFilter], *, after: str = "", limit: int = 100) -> list[Device]:
        return self._read(fleet.select_devices, filters, after, limit)

    def device_facts(self, device_ids: Sequence[str]) -> dict[str, DeviceFacts]:
        return self._read(fleet.device_facts, device_ids)

    def count_days_left(self, days: Sequence[int], *, at: datetime) -> DaysLeft:
        return self._read(fleet.count_days_left, days, at)

    def change_tags(self, device_id: str, *, add: Sequence[str], remove: Sequence[str]) -> tuple[str, ...]:
        return self._write(fleet.change_tags, device_id, add, remove)

    def note_agent(self, device_id: str, *, agent: str, at: datetime) -> None:
        self._write(fleet.note_agent, device_id, agent, at)

    def save_group(self, group: Group) -> None:
        self._write(groups.save_group, group)

    def get_group(self, name: str) -> Group:
        return self._read(groups.get_group, name)

    def list_groups(self) -> list[Group]:
        return self._read(groups.list_groups)

    def remove_group(self, name: str) -> None:
        self._write(groups.remove_group, name)

    def page_refusals(
        self, *, code: str = "", device_id: str = "", since: datetime | None = None, before: int = 0, limit: int = 100
    ) -> list[tuple[int, Refusal]]:
        return self._read(events.page_refusals, code, device_id, since, before, limit)

    def take_key(
        self, caller: str, key: str, *, request_sha256: str, at: datetime, lease_until: datetime, expires_at: datetime
    ) -> KeptAnswer | None:
        return self._write(idempotency.take_key, caller, key, request_sha256, at, lease_until, expires_at)

    def keep_answer(self, caller: str, key: str, *, status: int, media_type: str, body: bytes) -> None:
        self._write(idempotency.keep_answer, caller, key, status, media_type, body)

    def drop_key(self, caller: str, key: str) -> None:
        self._write(idempotency.drop_key, caller, key)

    # -- housekeeping
    def together(self) -> AbstractContextManager[None]:
        return self._database.together()

    def purge_expired(self, *, at: datetime) -> int:
        return events.purge_expired(self._database, at)

    def purge_refusals(self, *, before: datetime, most_bytes: int) -> int:
        return events.purge_refusals(self._database, before, most_bytes)

    def replay(self, entries: Iterable[Entry]) -> int:
        return replay(self._database, entries)

    def check(self) -> list[str]:
        old = schema_problem(self._database.back_end)
        if old:
            return [old]
        return self._database.back_end.problems() + self._read(devices.problems)

    def close(self) -> None:
        self._database.close()
