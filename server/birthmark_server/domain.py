"""The values that pass between the server's rooms. Frozen, without behaviour, without I/O.

Times are timezone-aware UTC `datetime`s. Hashes are lower-case hex SHA-256. `ek_sha256` is over the EK's
SubjectPublicKeyInfo (DER), so `openssl pkey -pubin -outform DER | sha256sum` finds it. Certificate serial numbers are
lower-case hex without leading zeros. Certificates are DER.

Who did something is a name: an operator's, as their certificate says it; `local:USER` for a Unix user at the command
line; `device:ID` for a device whose own enrollment had the effect; `station:NAME` for a station by its own certificate;
`service:NAME` for what the server does by itself.
UNKNOWN is what was done before names were kept.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

BY_STATION: Final = "station:"
"""What the name of a station begins with, where it did something."""
UNKNOWN: Final = ""
"""Who did it is not on record."""

MOST_CLAIMS: Final = 8
"""How many EKs beside the proven one are kept of a device: more than any TPM has."""


class DeviceState(StrEnum):
    """A device's standing. Only an active one is ever issued anything."""

    ACTIVE = "active"
    QUARANTINED = "quarantined"
    """Shut out for the time being: its certificates are not revoked, and are good again once it is restored."""
    REVOKED = "revoked"
    DENIED = "denied"
    RETIRED = "retired"


class Assurance(StrEnum):
    """What the proof of the endorsement key rested on."""

    VENDOR_CERTIFICATE = "vendor-certificate"
    """The EK certificate chains to a trusted TPM vendor root."""
    LISTED_KEY = "listed-key"
    """No EK certificate: the manifest named the EK's hash. Proves possession of a listed key, not a genuine TPM."""
    NONE = "none"
    """No TPM evidence at all: a key of a profile made for plain EST clients."""


class CertificateProfile(StrEnum):
    """Which kind of certificate; each has one CA and one set of extensions (ca/profile.py)."""

    IDEVID = "idevid"
    LDEVID = "ldevid"
    LDEVID_SOFTWARE = "ldevid-software"
    SERVER = "server"
    BROKER = "broker"
    CONTROL = "control"
    COMMAND = "command"
    STATION = "station"
    OPERATOR = "operator"
    """An operator without a role: from before there were roles, or from an Infra CA that can't certify them."""
    VIEWER = "viewer"
    FACTORY = "factory"
    FLEET_OPERATOR = "fleet-operator"
    SECURITY_OFFICER = "security-officer"
    DENY_LIST = "deny-list"
    OCSP = "ocsp"
    """Signs OCSP answers for one issuing CA; its key never leaves the server's memory."""


class RevocationReason(StrEnum):
    """RFC 5280 §5.3.1."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """What every device of one model must prove.

    ek_template: a key of birthmark_wire.tpm_templates.EK_TEMPLATES; one TPM has several EKs, the model fixes which one
    is the identity. quote_pcrs: empty where no quote is required. manufacturers: TPM manufacturer ids, as
    `id:49465800`; empty means any that a trusted root may vouch for. added_by: the operator; no part of what is
    demanded, and set by Store.add_model.
    """

    name: str
    ek_template: str
    require_ek_certificate: bool = True
    quote_pcrs: tuple[int, ...] = ()
    manufacturers: tuple[str, ...] = ()
    added_by: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One device that we expect. imported_by: the operator, or the station, who vouches for it. batch: the work order
    that it is made for; empty without one."""

    ek_sha256: str
    serial: str
    model: str
    device_id: str
    imported_by: str
    imported_at: datetime
    batch: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """A window in which stations may relay devices that no manifest lists. closed_at, closed_by: by hand, early."""

    name: str
    model: str
    quota: int
    used: int
    opened_by: str
    opened_at: datetime
    closes_at: datetime
    closed_at: datetime | None = None
    closed_by: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class Device:
    """One device on record. epoch rises with each revocation: whatever began under an older one is never issued.

    ek_sha256: the EK that was proven; no two devices have the same. other_ek_sha256: EKs that the device showed beside
    it, at most MOST_CLAIMS, the first ones. Those are claims: an EK certificate is no secret, so anyone can show
    anyone's. A claim never stands in the way of the EK's owner (ADR 0036).
    """

    device_id: str
    serial: str
    model: str
    batch: str
    state: DeviceState
    epoch: int
    assurance: Assurance
    ek_sha256: str
    other_ek_sha256: tuple[str, ...]
    ak_public: bytes
    birth_spki_sha256: str
    enrolled_at: datetime
    last_seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """One certificate that we issued. device_id is empty for the infrastructure's own; subject names it.

    spki_sha256: of the certified key's SubjectPublicKeyInfo (DER), as for EKs. issued_by: the operator who had it
    issued; empty for what a device was issued on its own proof.
    """

    sha256: str
    issuer_sha256: str
    serial_number: str
    profile: CertificateProfile
    device_id: str
    subject: str
    not_before: datetime
    not_after: datetime
    der: bytes
    issued_at: datetime
    spki_sha256: str
    revoked_at: datetime | None = None
    reason: RevocationReason | None = None
    issued_by: str = UNKNOWN
    revoked_by: str = UNKNOWN


RevokedEntry: TypeAlias = tuple[str, int, str]
"""One line of a CRL: the certificate's serial number, when it was revoked (us since 1970, UTC), and the
RevocationReason. Plain, as the database gives it: a list may have a million."""


@dataclass(frozen=True, slots=True)
class CrlIssue:
    """The right to make one CRL. number: above all earlier ones of its issuer. previous_at: when the one before was
    made, by whatever process; None where that is not known."""

    number: int
    previous_at: datetime | None


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """What an OCSP answer says of a certificate that was issued here: revoked when and why, or neither."""

    revoked_at: datetime | None
    reason: RevocationReason | None


@dataclass(frozen=True, slots=True)
class DeviceRevocation:
    """One revocation, retirement or quarantine of a device: `state` says which.

    epoch: the device's from then on. reason: what its certificates were revoked for; unspecified for a quarantine,
    which revokes none. lifted_at, lifted_by: by a readmission, or the end of the quarantine. note: why, in the
    operator's words; may be empty.
    """

    device_id: str
    epoch: int
    reason: RevocationReason
    at: datetime
    by: str
    lifted_at: datetime | None = None
    lifted_by: str = UNKNOWN
    state: DeviceState = DeviceState.REVOKED
    note: str = ""


@dataclass(frozen=True, slots=True)
class DenyEntry:
    """What must never be let in again. Any of the first three may match; an empty one matches nothing.

    ek_sha256: proven, or named by an operator: matches whoever shows it. claimed_ek_sha256: what the denied TPM showed
    beside its proven EK: matches only a newcomer that a batch would let in by that very EK, since the claim may have
    been a lie about somebody else's.
    """

    device_id: str
    serial: str
    ek_sha256: tuple[str, ...]
    reason: str
    denied_by: str
    denied_at: datetime
    claimed_ek_sha256: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BoardSwap:
    """Permission for one device to come back with one other TPM: asked by one operator, approved by another.

    ended_at: when the new board came, or another request took this one's place. What has ended permits nothing.
    """

    device_id: str
    new_ek_sha256: str
    requested_by: str
    requested_at: datetime
    approved_by: str = ""
    approved_at: datetime | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PendingEnrollment:
    """An enrollment between its two requests. The secret itself is not kept: its SHA-256 is enough to compare.

    request: the exact body of the first request. request_sha256, answer: set once the second was granted; a
    byte-identical repeat gets `answer` again until answer_expires_at. source: station name or client address.
    epoch: the device's revocation epoch when it began, 0 for a device not yet on record.
    """

    enrollment_id: str
    source: str
    station: str
    request: bytes
    nonce: bytes
    secret_sha256: bytes
    ek_sha256: str
    other_ek_sha256: tuple[str, ...]
    ak_name: bytes
    key_name: bytes
    assurance: Assurance
    device_id: str
    serial: str
    model: str
    batch: str
    epoch: int
    created_at: datetime
    expires_at: datetime
    request_sha256: str = ""
    answer: bytes = b""
    answer_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Every byte that a decision rested on, with the versions of the rules that judged it."""

    kind: str
    verifier_version: str
    roots_version: str
    parts: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was refused, and why. Searched as easily as what was granted.

    ek_sha256: the EK that was proven, or the first that was shown. other_ek_sha256: those shown beside it.
    """

    at: datetime
    request_id: str
    door: str
    source: str
    code: str
    detail: str
    device_id: str = ""
    ek_sha256: str = ""
    evidence: bytes = b""
    other_ek_sha256: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AdmissionFacts:
    """All that the store knows of the EKs that a device showed, read in one go."""

    manifest: ManifestEntry | None
    device: Device | None
    denied: DenyEntry | None
    swap: BoardSwap | None


@dataclass(frozen=True, slots=True)
class EstNonce:
    """A nonce for one renewal, bound to the device that asked for it."""

    nonce: bytes
    device_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, as far as this very request has proven it.

    source: what records and limits go by: the station's name, or the client's address. station: empty unless an
    authenticated station asks. certificate, device: of the TLS client certificate, looked up and checked just now.
    """

    request_id: str
    source: str
    station: str = ""
    certificate: CertificateRecord | None = None
    device: Device | None = None
