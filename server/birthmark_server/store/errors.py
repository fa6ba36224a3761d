"""Why the store says no. Each class has a stable code; only web/problems.py knows what HTTP makes of it."""

from birthmark_server.errors import BirthmarkError, Busy, Refused


class StoreRefused(Refused):
    """The database's own rules forbid it. Nothing was written."""

    code = "store-refused"


# -- what is not there


class NotFound(StoreRefused):
    """No such thing on record."""

    code = "not-found"


class UnknownModel(NotFound):
    """No device model of that name."""

    code = "unknown-model"


class UnknownBatch(NotFound):
    """No batch of that name."""

    code = "unknown-batch"


class UnknownDevice(NotFound):
    """No device of that id."""

    code = "unknown-device"


class UnknownEnrollment(NotFound):
    """No pending enrollment of that id."""

    code = "unknown-enrollment"


class UnknownCertificate(NotFound):
    """No certificate of that SHA-256: one that we do not know is nobody's."""

    code = "unknown-certificate"


class UnknownGroup(NotFound):
    """No group of that name."""

    code = "unknown-group"


class UnknownIssuer(NotFound):
    """No certificate authority of that name or SHA-256."""

    code = "unknown-issuer"


class UnknownAuthority(NotFound):
    """No certificate authority of that name is on record, or in the CA folder."""

    code = "unknown-authority"


class UnknownOperator(NotFound):
    """No operator of that name has a certificate that stands."""

    code = "unknown-operator"


class UnknownSwap(NotFound):
    """No board swap of that device waits for approval."""

    code = "unknown-swap"


class UnknownJob(NotFound):
    """No job of that id."""

    code = "unknown-job"


class UnknownCampaign(NotFound):
    """No campaign of that name."""

    code = "unknown-campaign"


class UnknownWorkOrder(NotFound):
    """No work order of that name."""

    code = "unknown-workorder"


class UnknownUnit(NotFound):
    """No station's entry names that serial number."""

    code = "unknown-unit"


class UnknownLine(NotFound):
    """The manifest has no line of that serial number."""

    code = "unknown-line"


class UnknownStation(NotFound):
    """No station of that name has a certificate that stands."""

    code = "unknown-station"


class NonceUnknown(NotFound):
    """The EST nonce is not there, was used, has expired, or belongs to another device."""

    code = "nonce-unknown"


# -- what is there already


class Conflict(StoreRefused):
    """It contradicts what is on record."""

    code = "conflict"


class AlreadyExists(Conflict):
    """Something else of that name is on record."""

    code = "already-exists"


class ManifestConflict(Conflict):
    """A manifest entry shares its EK, serial or device id with another one that differs from it."""

    code = "manifest-conflict"


class DuplicateDevice(Conflict):
    """Its id, its serial, its EK or one that it shows beside it belongs to another device on record."""

    code = "duplicate-device"


class AlreadyConsumed(Conflict):
    """The enrollment was finished already."""

    code = "already-consumed"


class SameOperator(Conflict):
    """Who asked for a board swap may not approve it."""

    code = "same-operator"


class KeyUsedBefore(Conflict):
    """The device has or had a certificate for this very key: each rotation is for a new one."""

    code = "key-used-before"


class TooManyTags(Conflict):
    """A device has as many tags as it may."""

    code = "too-many-tags"


class IllegalMove(Conflict):
    """What the operator asks for can't be done to a device, or an authority, that stands where this one does."""

    code = "illegal-move"


class DuplicateSerial(Conflict):
    """The serial number, or the device id that follows from it, is another TPM's."""

    code = "duplicate-serial"


class DuplicateEk(Conflict):
    """This TPM has another serial number."""

    code = "duplicate-ek"


class DuplicateMac(Conflict):
    """The MAC address is another device's."""

    code = "duplicate-mac"


class EntryWithdrawn(Conflict):
    """The very same entry was brought before, and the manifest's line that it made was removed."""

    code = "entry-withdrawn"


class BornAlready(Conflict):
    """The device of this manifest line is on record: it is expected no longer, it is there."""

    code = "born-already"


class LeavesStand(Conflict):
    """Certificates of this authority stand yet: it can't be retired."""

    code = "leaves-stand"


# -- who may not


class DeniedDevice(StoreRefused):
    """The deny list names it."""

    code = "denied-device"
    told = "this device is not let in"  # why it is denied is between operators


class DeviceNotActive(StoreRefused):
    """The device is quarantined, revoked, denied or retired: it is issued nothing."""

    code = "device-not-active"


class EpochChanged(StoreRefused):
    """The device was revoked, quarantined or swapped after this request began."""

    code = "epoch-changed"


class StationRevoked(StoreRefused):
    """The station that relays this device was revoked while it did."""

    code = "station-revoked"


class SwapNotApproved(StoreRefused):
    """The board swap that a birth rests on is not approved, has expired, was used, or names another EK."""

    code = "swap-not-approved"


class BatchClosed(StoreRefused):
    """The batch is closed, or its time is over."""

    code = "batch-closed"


class QuotaExhausted(StoreRefused):
    """The batch has admitted as many devices as it may."""

    code = "quota-exhausted"


class WorkOrderClosed(StoreRefused):
    """The work order is closed, or its time is over."""

    code = "workorder-closed"


class SerialsExhausted(StoreRefused):
    """All serial numbers of the work order are given out."""

    code = "serials-exhausted"


class SerialNotGiven(StoreRefused):
    """This station was not given that serial number."""

    code = "serial-not-given"


class ForeignModel(StoreRefused):
    """The work order is for devices of another model."""

    code = "foreign-model"


class EntryOutOfTime(StoreRefused):
    """By the station's clock, the entry was signed before its serial number was given out, or in the future."""

    code = "entry-out-of-time"


# -- not now


class TooManyPending(Busy):
    """This source has as many unanswered challenges for this EK and these keys as it may."""

    code = "too-many-pending"


class TooManyCertificates(Busy):
    """The device fetched as many certificates as it may in a day: does its renewal loop?"""

    code = "too-many-certificates"


class IssuerSuperseded(Busy):
    """Another authority issues by now: the server that asked had not heard of it yet."""

    code = "issuer-superseded"


class RekeyQuota(Busy):
    """The device made a new birth key less than a day ago."""

    code = "rekey-quota"


# -- our own trouble


class StoreFailed(BirthmarkError):
    """The database or the journal could not do it: disk full, connection lost, file unwritable. Nothing was granted."""

    code = "store-failed"


class StoreBusy(Busy):
    """The database was locked for too long."""

    code = "store-busy"


class JournalDamaged(BirthmarkError):
    """A journal line before the last is not what was written there: its hash chain is broken."""

    code = "journal-damaged"
