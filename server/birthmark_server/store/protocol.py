"""The store's contract. Every back end passes tests/store/contract.py; nothing else may know which one it talks to.

Rules: every method is one transaction, durable when it returns (SQLite synchronous=FULL, PostgreSQL
synchronous_commit=on). Uniqueness and one-use are the database's own constraints, never a lock's. Values in and out are
`domain`'s; table rows stay inside. Methods are synchronous and thread-safe: the web room calls them from workers.
What is issued or revoked, and what operators do, is written to the journal (journal.py) before the transaction commits,
so that a restored backup forgets no certificate and un-revokes nothing. by: who does it (see domain), kept with it.

Epochs are the store's to give: 1 when a device comes on record, one more with every change of where it stands, of its
keys or of one of its certificates' standing. 0 is no device's epoch: it says "not on record when this began".
Besides the errors named here, any method may raise StoreBusy, StoreFailed, and Malformed for a text with NUL in it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

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
from birthmark_server.store.fleet_protocol import FleetStore
from birthmark_server.store.journal_entries import Entry


@dataclass(frozen=True, slots=True)
class Birth:
    """All that one granted enrollment writes, in one transaction.

    device: the row as it shall stand (new, or re-keyed). certificate: None where the device gets the IDevID that it
    already has. revoke_previous: the new birth key replaces another one, whose certificates are all revoked
    (superseded). swap: the board swap that this birth uses up, if any. station_sha256: the certificate of the station
    that relays it, empty without one.
    """

    enrollment_id: str
    expected_epoch: int
    device: Device
    certificate: CertificateRecord | None
    revoke_previous: bool
    swap: BoardSwap | None
    evidence: Evidence
    request_sha256: str
    answer: bytes
    answer_expires_at: datetime
    at: datetime
    station_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Issuance:
    """All that one granted EST enrollment writes. nonce: None for a profile without TPM evidence.

    most_per_day: how many certificates the device may have been issued in the 24 hours before `at`, this one included;
    None for as many as it takes.
    """

    device_id: str
    expected_epoch: int
    certificate: CertificateRecord
    nonce: bytes | None
    evidence: Evidence | None
    at: datetime
    most_per_day: int | None = None


class Store(FleetStore, Protocol):
    """See the module's docstring for the rules that hold for all methods. Errors: store/errors.py."""

    # -- what operators set up
    def add_model(self, model: DeviceModel, *, by: str) -> None:
        """Raise AlreadyExists if a model of that name demands other things than `model`; the same again is no error,
        and changes nothing."""

    def get_model(self, name: str) -> DeviceModel:
        """Raise UnknownModel."""

    def list_models(self) -> list[DeviceModel]: ...

    def import_manifest(self, entries: Sequence[ManifestEntry]) -> int:
        """Add all entries or none; return how many were new. An entry that is there already, equal in EK, serial,
        model and device id, counts as old; one that shares only some of them raises ManifestConflict naming both.
        UnknownModel if a model is not there."""

    def list_manifest(self, *, after: str = "", limit: int = 100) -> list[ManifestEntry]:
        """Ordered by serial; `after` is the last serial of the page before."""

    def remove_line(self, serial: str, *, at: datetime, by: str) -> ManifestEntry:
        """Take the line of this serial number off the manifest, and end what was begun by it; what a station signed of
        it is withdrawn. Return it as it was. Raise UnknownLine; BornAlready once a device was born by it."""

    def open_batch(self, batch: Batch) -> None:
        """Raise AlreadyExists (a work order of that name counts), UnknownModel."""

    def close_batch(self, name: str, *, at: datetime, by: str) -> Batch:
        """Raise UnknownBatch. Closing a closed one changes nothing."""

    def get_batch(self, name: str) -> Batch:
        """Raise UnknownBatch."""

    def list_batches(self) -> list[Batch]: ...

    def deny(self, entry: DenyEntry) -> list[str]:
        """Add to the deny list. If a device on record matches (by id, serial or EK), set its state to DENIED, raise
        its epoch and revoke all its certificates, and add its own id, serial, EK and claims to the entry. A device
        that only claims an EK of the entry matches where no other one has proven it and no manifest lists it. Return
        the ids of all devices that it met, those that were denied before included."""

    def list_denied(self) -> list[DenyEntry]: ...

    def request_swap(self, swap: BoardSwap) -> None:
        """Record an unapproved swap, replacing an unapproved or expired one. Raise UnknownDevice, DeviceNotActive,
        AlreadyExists (an approved one is pending, or the new EK belongs to a device, a manifest entry, another swap
        or the deny list)."""

    def get_swap(self, device_id: str) -> BoardSwap | None:
        """The swap of this device that waits, for its approval or for the new board (or did, until it expired)."""

    def device_swaps(self, device_id: str) -> list[BoardSwap]:
        """All swaps of this device, those that have ended too, newest first."""

    def approve_swap(
        self, device_id: str, *, by: str, at: datetime, expires_at: datetime, new_ek_sha256: str = ""
    ) -> BoardSwap:
        """Approve what is pending (to this very EK, if one is given): revoke all certificates of the device, raise its
        epoch, deny its old EKs (the device and serial stay welcome), leave state ACTIVE. Raise UnknownSwap;
        SameOperator if `by` also asked; DeviceNotActive or AlreadyExists if what held when it was asked for holds no
        longer."""

    # -- enrollment
    def admission_facts(self, ek_sha256: Sequence[str], *, at: datetime) -> AdmissionFacts:
        """Read what is known of any of these EKs: ek_sha256[0] is the model's EK, the others were found beside it.
        manifest and swap match the first only (swap: approved and unexpired). device: whoever has proven any of them,
        the first before the others; denied: an entry for any of them. Mere claims of others match nothing."""

    def denied_match(self, *, device_id: str, serial: str) -> DenyEntry | None: ...

    def add_pending(self, pending: PendingEnrollment, *, most_per_source: int) -> None:
        """Raise TooManyPending when `most_per_source` unexpired, unanswered ones of the same EK, AK, birth key and
        source exist. A stranger never evicts or blocks another's, from behind the same address neither: an EK
        certificate is no secret, but nobody else has a reason to be challenged for the device's own keys."""

    def get_pending(self, enrollment_id: str) -> PendingEnrollment:
        """Raise UnknownEnrollment. Expired ones are returned: the caller judges by expires_at."""

    def commit_birth(self, birth: Birth) -> None:
        """In one transaction: take the pending enrollment (UnknownEnrollment; AlreadyConsumed if it was), require that
        the station's certificate stands (StationRevoked), lock the device row and require state ACTIVE and epoch ==
        expected_epoch (DeviceNotActive, EpochChanged; for a new device, expected_epoch 0, require that none of id,
        serial, EK is on record: DuplicateDevice), use up the swap (SwapNotApproved; without one, EK, serial and model
        are those on record: DuplicateDevice), require that no EK shown is one that another device has proven
        (DuplicateDevice), that none of id, serial and EKs shown is denied and, for a new device of a batch, that no
        denied one claimed its EK (DeniedDevice), count a new device in its batch (BatchClosed, QuotaExhausted), at
        most one new birth key a day per device (RekeyQuota; a swapped board is not counted), revoke what is replaced
        (all, if the birth key is another one, whatever revoke_previous says), write certificate, evidence and answer,
        if the certificate's authority issues now (IssuerSuperseded). The device's state, epoch, batch, enrolled_at and
        last_seen_at are the store's; of the EKs that it ever showed beside its own the first MOST_CLAIMS are kept.
        Nothing at all is written if any of these fails."""

    # -- operational certificates
    def add_est_nonce(self, nonce: EstNonce) -> None: ...

    def est_nonces(self, device_id: str, *, at: datetime) -> list[bytes]:
        """The device's nonces that can still be used, newest first, at most 8. EST has no field in which a client
        could say which nonce its evidence is over, so the renewal tries each."""

    def commit_issuance(self, issuance: Issuance) -> None:
        """In one transaction: consume the nonce (NonceUnknown if it is not there, another device's, or expired),
        lock the device row, require ACTIVE and the expected epoch (DeviceNotActive, EpochChanged), the quota
        (TooManyCertificates) and a key that is neither the birth key nor that of any certificate which the device has
        or had (KeyUsedBefore), write certificate and evidence, if its authority issues now (IssuerSuperseded). The
        certificate that it replaces stays valid until it expires or is retired."""

    def add_infrastructure_certificate(self, certificate: CertificateRecord, *, by: str) -> None:
        """Record a certificate of server, broker, station, operator or control, issued by `by`. Raise AlreadyExists,
        IssuerSuperseded."""

    def certificate_by_sha256(self, sha256: str) -> tuple[CertificateRecord, Device | None] | None:
        """The certificate and its device, or None: a certificate that we do not know is nobody's."""

    def device_certificates(self, device_id: str) -> list[CertificateRecord]:
        """All of a device's certificates, newest first."""

    def list_certificates(self, *, profile: str = "", after: str = "", limit: int = 100) -> list[CertificateRecord]:
        """Ordered by sha256; `after` is the last sha256 of the page before."""

    # -- devices
    def get_device(self, device_id: str) -> Device:
        """Raise UnknownDevice."""

    def list_devices(
        self, *, state: DeviceState | None = None, model: str = "", batch: str = "", after: str = "", limit: int = 100
    ) -> list[Device]:
        """Ordered by device id; `after` is the last id of the page before."""

    def count_devices(self) -> dict[DeviceState, int]: ...

    def touch_device(self, device_id: str, *, at: datetime) -> None:
        """Note a sign of life. An unknown device is ignored."""

    def add_software_device(self, device: Device) -> None:
        """Put a device without a TPM on record, in its own id namespace. Raise DuplicateDevice."""

    # -- revocation
    # Where a device may be moved from where says device_states.py: any other raises IllegalMove. All raise the epoch,
    # so nothing that is under way is issued afterwards, and UnknownDevice. note: why, in the operator's words.
    def revoke_device(
        self, device_id: str, *, reason: RevocationReason, at: datetime, by: str, note: str = ""
    ) -> list[CertificateRecord]:
        """Set REVOKED (a DENIED one stays so), revoke every certificate; return those newly revoked."""

    def retire_device(
        self, device_id: str, *, reason: RevocationReason, at: datetime, by: str, note: str = ""
    ) -> list[CertificateRecord]:
        """Set RETIRED, revoke every certificate; return those newly revoked."""

    def quarantine_device(self, device_id: str, *, at: datetime, by: str, note: str = "") -> Device:
        """Set QUARANTINED. No certificate is revoked: every door asks for the device's state (ADR 0025)."""

    def restore_device(self, device_id: str, *, at: datetime, by: str) -> Device:
        """Set a QUARANTINED device ACTIVE again; its certificates are good as before."""

    def readmit_device(self, device_id: str, *, at: datetime, by: str) -> Device:
        """Set a REVOKED or RETIRED device ACTIVE again; its certificates stay revoked."""

    def device_revocations(self, device_id: str) -> list[DeviceRevocation]:
        """All revocations, retirements and quarantines of this device, those that were lifted too, oldest first."""

    def revoke_certificate(self, sha256: str, *, reason: RevocationReason, at: datetime, by: str) -> CertificateRecord:
        """Revoke one certificate; the device stays active, its epoch rises, so that nothing begun under this
        certificate ends well. Revoking twice keeps the first. Raise UnknownCertificate."""

    def revoked_serials(
        self, issuer_sha256: str, *, profiles: Sequence[CertificateProfile], at: datetime
    ) -> Iterator[str]:
        """The serial numbers of this issuer's certificates of these profiles that are revoked and not expired at `at`,
        in ascending order."""

    def revoked_entries(self, issuer_sha256: str, *, since: datetime) -> Iterator[RevokedEntry]:
        """What a CRL lists: all of this issuer's that are revoked and were not expired at `since`, ordered by serial
        number. Read by pages, a million in about a second."""

    def count_revoked(self, issuer_sha256: str) -> int:
        """How many certificates of this issuer were ever revoked: it rises with each revocation, by whatever process,
        so a list made when it was the same lacks nothing. Cheap: counted in an index."""

    def certificate_status(self, issuer_sha256: str, serial_number: str) -> CertificateStatus | None:
        """Whether this issuer's certificate of that serial number is revoked; None if there is none on record."""

    def certificate_holder(self, issuer_sha256: str, serial_number: str) -> str:
        """Return whose this issuer's certificate of that serial number is; empty if no device's is on record."""

    def next_crl(self, issuer_sha256: str, *, at: datetime) -> CrlIssue:
        """Return the number of a list that is made at `at`: 1, 2, 3, ..., each once; and when the last one was."""

    def crl_made_at(self, issuer_sha256: str) -> datetime | None:
        """When the last list of this issuer was made, by whatever process; None where that is not known."""

    # -- what happened
    def record_refusal(self, refusal: Refusal) -> None: ...

    def list_refusals(
        self, *, code: str = "", device_id: str = "", since: datetime | None = None, limit: int = 100
    ) -> list[Refusal]:
        """Newest first."""

    def device_evidence(self, device_id: str) -> list[tuple[datetime, Evidence]]: ...

    # -- housekeeping
    def together(self) -> AbstractContextManager[None]:
        """Let all writes of this thread within share one commit, at the end, where the back end gains by it. Each is
        undone by itself if it raises. What they return must reach nobody before the end, which raises StoreFailed or
        StoreBusy, nothing being written, if the commit fails."""

    def purge_expired(self, *, at: datetime) -> int:
        """Delete expired challenges, nonces and stored answers; return how many."""

    def purge_refusals(self, *, before: datetime, most_bytes: int) -> int:
        """Delete refusals from before `before`, then as many as it takes until the rest is no larger than `most_bytes`:
        the oldest that name no device, then the oldest. Return how many. Strangers can write many entries, and must
        not wash those of devices away."""

    def replay(self, entries: Iterable[Entry]) -> int:
        """Apply journal entries (journal.py) that are not in the database yet; return how many were. Order matters
        little: see sql/replay.py. open_store does it for this replica's own journal."""

    def check(self) -> list[str]:
        """Return what is wrong with the database (schema version, integrity), one sentence each; empty when well."""

    def close(self) -> None: ...
