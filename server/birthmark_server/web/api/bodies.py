"""What operators send: one model for each act that needs more than its path says."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from birthmark_server.domain import RevocationReason
from birthmark_server.roles import Role
from birthmark_server.web.api.queries import Selection
from birthmark_server.web.api.values import (
    BatchName,
    DeviceId,
    GroupName,
    ModelName,
    Note,
    OperatorName,
    Serial,
    Sha256,
    Tag,
    View,
    Words,
)
from birthmark_wire.tpm_templates import EK_TEMPLATES

MOST_ENTRIES = 100_000
"""How many devices one import may list."""

MOST_PCR = 23


def _ek_template(value: str) -> str:
    if value not in EK_TEMPLATES:
        raise ValueError(f"want one of {', '.join(EK_TEMPLATES)}, got {value[:40]!r}")
    return value


class RevokeReason(StrEnum):
    """Why a device is revoked. The end of its service is a retirement, another board a swap."""

    UNSPECIFIED = RevocationReason.UNSPECIFIED.value
    KEY_COMPROMISE = RevocationReason.KEY_COMPROMISE.value
    AFFILIATION_CHANGED = RevocationReason.AFFILIATION_CHANGED.value
    PRIVILEGE_WITHDRAWN = RevocationReason.PRIVILEGE_WITHDRAWN.value


class RetireReason(StrEnum):
    """Why a device is retired: it is used no more, or is somebody else's."""

    CESSATION_OF_OPERATION = RevocationReason.CESSATION_OF_OPERATION.value
    AFFILIATION_CHANGED = RevocationReason.AFFILIATION_CHANGED.value


class Revocation(View):
    """Why certificates are revoked, as RFC 5280 §5.3.1 names it."""

    reason: RevocationReason = RevocationReason.UNSPECIFIED


class DeviceRevocation(View):
    """Why a device is revoked."""

    reason: RevokeReason = RevokeReason.UNSPECIFIED
    note: Note = ""


class Retirement(View):
    """Why a device is retired."""

    reason: RetireReason = RetireReason.CESSATION_OF_OPERATION
    note: Note = ""


class Quarantine(View):
    """Why a device is shut out for the time being. It has no reason of RFC 5280: nothing is revoked (ADR 0025)."""

    note: Words


class TagChange(View):
    """Which tags a device gets and loses. One in both stays."""

    add: Annotated[tuple[Tag, ...], Field(max_length=32)] = ()
    remove: Annotated[tuple[Tag, ...], Field(max_length=32)] = ()


class Denial(View):
    """What must never enroll again: at least one of the first three."""

    device_id: DeviceId | None = None
    serial: Serial | None = None
    ek_sha256: Annotated[tuple[Sha256, ...], Field(max_length=16)] = ()
    reason: Words

    @model_validator(mode="after")
    def _names_something(self) -> "Denial":
        if not (self.device_id or self.serial or self.ek_sha256):
            raise ValueError("want a device_id, a serial or an ek_sha256")
        return self


class SwapRequest(View):
    """Which board a device shall have: its TPM's EK."""

    new_ek_sha256: Sha256


class SwapApproval(View):
    """Approve what another operator asked for; with new_ek_sha256, this one only."""

    new_ek_sha256: Sha256 | None = None


class NewModel(View):
    """What every device of one model must prove."""

    name: ModelName
    ek_template: Annotated[str, AfterValidator(_ek_template)] = "rsa2048"
    require_ek_certificate: bool = True
    quote_pcrs: Annotated[tuple[Annotated[int, Field(ge=0, le=MOST_PCR)], ...], Field(max_length=24)] = ()
    manufacturers: Annotated[tuple[Annotated[str, Field(pattern=r"^id:[0-9A-F]{8}$")], ...], Field(max_length=32)] = ()


class NewEntry(View):
    """One device that is expected. device_id: empty where it follows from the serial number."""

    serial: Serial
    model: ModelName
    ek_sha256: Sha256
    device_id: DeviceId | None = None


class NewManifest(View):
    """Devices that are expected: all are imported, or none."""

    entries: Annotated[tuple[NewEntry, ...], Field(min_length=1, max_length=MOST_ENTRIES)]


class NewBatch(View):
    """A window in which stations relay devices that no manifest lists."""

    name: BatchName
    model: ModelName
    quota: Annotated[int, Field(ge=1, le=10_000_000)]
    open_for_s: Annotated[int, Field(ge=60, le=366 * 86_400, description="How long it is open, from now on.")]


class NewOperator(View):
    """Whom to give a certificate. csr: PKCS #10 in PEM, of which the public key counts, and the proof that whoever made
    it has the private one."""

    name: OperatorName
    role: Role
    csr: Annotated[str, Field(max_length=8192)]


class NewGroup(View):
    """A query to save. Spans in it (7d) count from the moment that it is asked."""

    name: GroupName
    query: Selection
