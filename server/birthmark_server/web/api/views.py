"""What answers hold. A view has its domain value's fields under the same names, and what operators see beside them."""

from typing import Annotated, Generic, TypeVar

from pydantic import Field

from birthmark_server.domain import Assurance, CertificateProfile, DeviceState, RevocationReason
from birthmark_server.fleet import NextAction
from birthmark_server.roles import Role
from birthmark_server.web.api.queries import Selection
from birthmark_server.web.api.values import Hex, Moment, View

T = TypeVar("T", bound=View)


class Page(View, Generic[T]):
    """A part of a listing. next: the cursor of the part after it; null where this is the last."""

    items: tuple[T, ...]
    next: str | None = None


class Health(View):
    """How a device is. certificate: SHA-256 of the operational one in use; days_left: of it, whole days, negative once
    it has expired. next_action: what happens next, or has to, and from when on."""

    certificate: str | None
    serial_number: str | None
    issued_by: Annotated[str | None, Field(description="The CA's name, or its SHA-256 where it is no longer ours.")]
    not_after: Moment | None
    days_left: int | None
    next_action: NextAction
    next_action_at: Moment | None
    agent: Annotated[str, Field(description="What the agent said it is, at its last hello.")]
    agent_heard_at: Moment | None


class DeviceView(View):
    """One device on record."""

    device_id: str
    serial: str
    model: str
    batch: str
    state: DeviceState
    epoch: int
    assurance: Assurance
    ek_sha256: str
    other_ek_sha256: tuple[str, ...]
    ak_public: Hex
    birth_spki_sha256: str
    enrolled_at: Moment
    last_seen_at: Moment | None
    tags: tuple[str, ...]
    health: Health


class CertificateView(View):
    """One certificate. der: in hexadecimal."""

    sha256: str
    issuer_sha256: str
    serial_number: str
    profile: CertificateProfile
    device_id: str
    subject: str
    not_before: Moment
    not_after: Moment
    der: Hex
    issued_at: Moment
    spki_sha256: str
    revoked_at: Moment | None
    reason: RevocationReason | None
    issued_by: str
    revoked_by: str


class SwapView(View):
    """One board swap."""

    device_id: str
    new_ek_sha256: str
    requested_by: str
    requested_at: Moment
    approved_by: str
    approved_at: Moment | None
    expires_at: Moment | None
    ended_at: Moment | None


class RevocationView(View):
    """One revocation, retirement or quarantine of a device (state says which), and who lifted it, if anyone."""

    device_id: str
    epoch: int
    state: DeviceState
    reason: Annotated[RevocationReason, Field(description="unspecified for a quarantine, which revokes nothing.")]
    note: str
    at: Moment
    by: str
    lifted_at: Moment | None
    lifted_by: str


class DenialView(View):
    """What is denied for good."""

    device_id: str
    serial: str
    ek_sha256: tuple[str, ...]
    reason: str
    denied_by: str
    denied_at: Moment
    claimed_ek_sha256: tuple[str, ...]


class EvidenceView(View):
    """What one decision rested on, byte for byte."""

    at: Moment
    kind: str
    verifier_version: str
    roots_version: str
    parts: dict[str, Hex]


class DeviceDetail(View):
    """One device with all that was decided about it. swap: the one that waits."""

    device: DeviceView
    swap: SwapView | None
    past_swaps: tuple[SwapView, ...]
    revocations: tuple[RevocationView, ...]
    denial: DenialView | None
    certificates: tuple[CertificateView, ...]
    evidence: tuple[EvidenceView, ...]


class Tags(View):
    """A device's tags."""

    device_id: str
    tags: tuple[str, ...]


class Standing(View):
    """Where a device stands after an act. certificates: how many the act revoked; broker as in `Cut`."""

    device: DeviceView
    certificates: int
    by: str
    broker: str


class Cut(View):
    """What a denial or a board swap did. devices: whom it met; certificates: how many it ended. broker: empty if the
    broker was told; else why not, and what to do: in the database it is done."""

    devices: tuple[str, ...]
    certificates: int
    by: str
    broker: str


class SwapApproved(View):
    """An approved board swap, and what became of the old board's certificates."""

    swap: SwapView
    cut: Cut


class CertificateCut(View):
    """What the revocation of one certificate did; broker as in `Cut`."""

    certificate: CertificateView
    by: str
    broker: str


class ModelView(View):
    """What every device of one model must prove."""

    name: str
    ek_template: str
    require_ek_certificate: bool
    quote_pcrs: tuple[int, ...]
    manufacturers: tuple[str, ...]
    added_by: str


class ManifestView(View):
    """One device that is expected."""

    ek_sha256: str
    serial: str
    model: str
    device_id: str
    imported_by: str
    imported_at: Moment
    batch: Annotated[str, Field(description="The work order that it is made for; empty without one.")]


class Imported(View):
    """What an import did: how many entries it had, and how many of them were new."""

    lines: int
    new: int
    imported_by: str


class BatchView(View):
    """One batch window."""

    name: str
    model: str
    quota: int
    used: int
    opened_by: str
    opened_at: Moment
    closes_at: Moment
    closed_at: Moment | None
    closed_by: str


class RefusalView(View):
    """One refused request. ek_sha256: proven, or the first that was shown; other_ek_sha256: shown beside it. evidence:
    what was sent, where it was asked for."""

    at: Moment
    request_id: str
    door: str
    source: str
    code: str
    detail: str
    device_id: str
    ek_sha256: str
    other_ek_sha256: tuple[str, ...]
    evidence_bytes: int
    evidence: Hex | None = None


class OperatorView(View):
    """One operator's certificate. Several of one name are one operator."""

    name: str
    role: Role
    sha256: str
    serial_number: str
    not_before: Moment
    not_after: Moment
    issued_at: Moment
    issued_by: str
    revoked_at: Moment | None
    reason: RevocationReason | None
    revoked_by: str


class IssuedOperator(View):
    """A new operator's certificate. chain: PEM, theirs and then the Infra CA's."""

    operator: OperatorView
    chain: str


class OperatorCut(View):
    """Whose certificates were revoked, and how many."""

    name: str
    certificates: int
    by: str


class GroupView(View):
    """A saved query: GET /v1/devices?group=NAME says who is in it at that moment."""

    name: str
    query: Selection
    saved_by: str
    saved_at: Moment


class StatusView(View):
    """The server, and how many devices stand where."""

    protocol: str
    version: str
    now: Moment
    started_at: Moment | None
    devices: dict[DeviceState, int]


class DevicePage(Page[DeviceView]):
    """A part of the devices, by id."""


class CertificatePage(Page[CertificateView]):
    """A part of the certificates, by SHA-256."""


class DenialPage(Page[DenialView]):
    """A part of the denials, oldest first."""


class ModelPage(Page[ModelView]):
    """A part of the models, by name."""


class ManifestPage(Page[ManifestView]):
    """A part of the manifest, by serial number."""


class BatchPage(Page[BatchView]):
    """A part of the batches, by name."""


class RefusalPage(Page[RefusalView]):
    """A part of the refusals, newest first."""


class OperatorPage(Page[OperatorView]):
    """A part of the operators' certificates, by name."""


class GroupPage(Page[GroupView]):
    """A part of the groups, by name."""
