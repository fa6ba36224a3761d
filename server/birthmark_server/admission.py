"""May this device enroll, and under which name?

In this order: an EK on the deny list is refused; an approved board swap admits the one TPM that it names; a device on
record comes back as itself; a manifest entry admits and supplies serial number and model, and the work order for which
a station signed it; a batch window admits what an authenticated station relays, and its claim supplies them. Everything
else is refused: a vendor's chain proves "a TPM", never "our device".

What is decided here is asked again by the store, in the transaction that lets the device in. This is the early, cheap
answer, before the proof: the EKs are as shown, not yet proven.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, Protocol

from birthmark_server.ca.profile import SOFTWARE_PREFIX
from birthmark_server.domain import BY_STATION, AdmissionFacts, Assurance, Batch, BoardSwap, Caller, Device, DeviceState
from birthmark_server.errors import Refused
from birthmark_server.store.errors import BatchClosed, DeniedDevice, DeviceNotActive, QuotaExhausted
from birthmark_wire import ids
from birthmark_wire.enrollment import Claim

_NOTHING: Final = AdmissionFacts(manifest=None, device=None, denied=None, swap=None)


class NotExpected(Refused):
    """No manifest lists this device, no batch is open for it, and none of its EKs is on record."""

    code = "not-expected"


class ClaimWithoutStation(Refused):
    """The request claims a batch, but it was not relayed by an authenticated station."""

    code = "claim-without-station"


class ClaimContradicts(Refused):
    """The station's claim is not what the manifest, the batch or the record says."""

    code = "claim-contradicts"


class OtherEndorsementKey(Refused):
    """This TPM has several EKs, and this device is known by another one of them."""

    code = "other-ek"


class AdmissionStore(Protocol):
    """What admission asks the record: it reads, and nothing else. A part of store.protocol.Store, which says what each
    promises."""

    def admission_facts(self, ek_sha256: Sequence[str], *, at: datetime) -> AdmissionFacts: ...

    def get_device(self, device_id: str) -> Device: ...

    def get_batch(self, name: str) -> Batch: ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """What may be, once it is proven.

    ek_sha256: the EK that must be proven; empty where a batch lets any EK of the model in. device: as on record; None
    for one not seen before. epoch: its revocation epoch, 0 without a record. seen_by_station: it is expected because a
    station signed for it.
    """

    device_id: str
    serial: str
    model: str
    batch: str
    ek_sha256: str
    epoch: int
    device: Device | None = None
    swap: BoardSwap | None = None
    seen_by_station: bool = False

    @property
    def listed_ek(self) -> frozenset[str]:
        """The EK for which somebody vouched by name, so that it may pass without an EK certificate: a batch vouches
        for none, and a device that came with a certificate must not come back without one. A station saw some TPM and
        vouches for none either: whoever stole its key could sign for an EK in software."""
        certified = self.device is not None and self.device.assurance is not Assurance.LISTED_KEY
        if not self.ek_sha256 or self.seen_by_station or (certified and self.swap is None):
            return frozenset()
        return frozenset({self.ek_sha256})


def admit(
    store: AdmissionStore, shown_ek: Sequence[str], claim: Claim | None, caller: Caller, *, now: datetime
) -> Admitted:
    """Return what the device would be, or raise a Refused that says why it is not let in.

    shown_ek: SHA-256 of every EK that the device showed, at least one.
    """
    if claim is not None and not caller.station:
        raise ClaimWithoutStation("a claim of batch and serial number counts only from an authenticated station")
    facts = _facts(store, shown_ek, now=now)
    if facts.denied is not None:
        raise DeniedDevice(f"one of this device's EKs is on the deny list: {facts.denied.reason}")
    if facts.swap is not None:
        admitted = _swapped(facts.swap, store.get_device(facts.swap.device_id))
    elif facts.device is not None:
        admitted = _on_record(facts.device)
    elif facts.manifest is not None:
        entry = facts.manifest
        admitted = Admitted(
            entry.device_id,
            entry.serial,
            entry.model,
            entry.batch,
            entry.ek_sha256,
            epoch=0,
            seen_by_station=entry.imported_by.startswith(BY_STATION),
        )
    elif claim is not None:
        return _through_batch(store, claim, now=now)
    else:
        raise NotExpected("no manifest lists any EK of this device, and no station relays it for an open batch")
    if claim is not None and (claim.serial, claim.model) != (admitted.serial, admitted.model):
        raise ClaimContradicts(
            f"the station claims serial {claim.serial} of model {claim.model}, on record is serial {admitted.serial} "
            f"of model {admitted.model}"
        )
    return admitted


def device_named(store: AdmissionStore, shown_ek: Sequence[str], *, now: datetime) -> str:
    """Return the id of the device that these EKs name, on record, on the manifest or denied; empty if none does. For
    the book of refusals: nothing is proven."""
    facts = _facts(store, shown_ek, now=now)
    for known in (facts.device, facts.denied, facts.manifest):
        if known is not None:
            return known.device_id
    return ""


def _facts(store: AdmissionStore, shown_ek: Sequence[str], *, now: datetime) -> AdmissionFacts:
    """Read what is known of the EKs. Manifest and swap name one of them, so each is asked for until one is found."""
    for ek in shown_ek:
        facts = store.admission_facts((ek, *(other for other in shown_ek if other != ek)), at=now)
        if facts != _NOTHING:
            break
    return facts


def _swapped(swap: BoardSwap, device: Device) -> Admitted:
    if device.state is not DeviceState.ACTIVE:
        raise DeviceNotActive(f"device {device.device_id} is {device.state}")
    return Admitted(
        device.device_id,
        device.serial,
        device.model,
        device.batch,
        swap.new_ek_sha256,
        epoch=device.epoch,
        device=device,
        swap=swap,
    )


def _on_record(device: Device) -> Admitted:
    if device.state is not DeviceState.ACTIVE:
        raise DeviceNotActive(f"device {device.device_id} is {device.state}")
    return Admitted(
        device.device_id,
        device.serial,
        device.model,
        device.batch,
        device.ek_sha256,
        epoch=device.epoch,
        device=device,
    )


def _through_batch(store: AdmissionStore, claim: Claim, *, now: datetime) -> Admitted:
    batch = store.get_batch(claim.batch)
    if batch.closed_at is not None or now >= batch.closes_at:
        raise BatchClosed(f"batch {batch.name} is closed")
    if batch.used >= batch.quota:
        raise QuotaExhausted(f"batch {batch.name} has admitted its {batch.quota} devices")
    if claim.model != batch.model:
        raise ClaimContradicts(f"batch {batch.name} is for model {batch.model}, the station claims {claim.model}")
    return Admitted(device_id_for(claim.serial), claim.serial, claim.model, batch.name, "", epoch=0)


def require_proven(admitted: Admitted, proven_ek_sha256: str) -> None:
    """Raise OtherEndorsementKey unless the proven EK is the one that the device was admitted by."""
    if admitted.ek_sha256 and proven_ek_sha256 != admitted.ek_sha256:
        raise OtherEndorsementKey(
            f"device {admitted.device_id} is known by EK {admitted.ek_sha256}, model {admitted.model} is proven by EK "
            f"{proven_ek_sha256}"
        )


def device_id_for(serial: str) -> str:
    """Return the device id of a device that is known by its serial number alone.

    The serial number in lower case where that is a device id; else its letters and digits, with 8 hex digits of its
    SHA-256 behind them, so that `A/1` and `A-1` stay two devices.
    """
    plain = serial.lower()
    if re.fullmatch(r"[a-z0-9-]{1,64}", plain) and not plain.startswith((ids.RESERVED_PREFIX, SOFTWARE_PREFIX)):
        return plain
    readable = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48]
    return f"d-{readable}-{sha256(serial.encode()).hexdigest()[:8]}"
