"""What answers about work orders and stations hold."""

from typing import Annotated

from pydantic import Field

from birthmark_server.domain import DeviceState, RevocationReason
from birthmark_server.web.api.values import Hex, Moment, View
from birthmark_server.web.api.views import Page


class WorkOrderView(View):
    """One work order, and how far it is."""

    name: str
    model: str
    ek_template: Annotated[str, Field(description="Which of a TPM's EKs identifies a device of this model.")]
    quantity: int
    serials: Annotated[str, Field(description="The pattern of its serial numbers, with the number of the first.")]
    created_by: str
    created_at: Moment
    closes_at: Moment
    closed_at: Moment | None
    closed_by: str
    given: Annotated[int, Field(description="Serial numbers that stations have.")]
    entries: Annotated[int, Field(description="Devices that a station signed for, and that are expected.")]
    born: Annotated[int, Field(description="Devices that have proven themselves.")]


class SerialBlockView(View):
    """Places of a work order's serial numbers that are this station's now: from `first` on, `count` of them."""

    workorder: str
    station: str
    first: int
    count: int
    at: Moment


class EntryTaken(View):
    """The entry that stands for a device: it is expected, or there already. sha256: of the JWS that stands."""

    workorder: str
    serial: str
    model: str
    device_id: str
    ek_sha256: str
    mac: str
    station: str
    operator: str
    sha256: str
    made_at: Moment
    brought_by: str
    brought_at: Moment


class UnitView(View):
    """What became of a serial number. device_id and below: null while the device was not born. idevid: its birth
    certificate that stands, DER in hexadecimal."""

    entry: EntryTaken
    device_id: str | None = None
    state: DeviceState | None = None
    last_seen_at: Moment | None = None
    idevid: Hex | None = None


class StationView(View):
    """One station's certificate. Several of one name are one station."""

    name: str
    sha256: str
    serial_number: str
    not_before: Moment
    not_after: Moment
    issued_at: Moment
    issued_by: str
    revoked_at: Moment | None
    reason: RevocationReason | None
    revoked_by: str


class IssuedStation(View):
    """A station's new certificate. chain: PEM, the station's and then the Infra CA's. root: PEM, what the server's
    certificate leads to."""

    station: StationView
    chain: str
    root: str


class StationCut(View):
    """Whose certificates were revoked, and how many."""

    name: str
    certificates: int
    by: str


class WorkOrderPage(Page[WorkOrderView]):
    """A part of the work orders, by name."""


class StationPage(Page[StationView]):
    """A part of the stations' certificates, by name."""
