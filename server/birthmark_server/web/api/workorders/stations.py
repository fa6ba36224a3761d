"""What stations ask, by their own certificate: a door of their own, some of which they share with operators.

A station takes blocks of serial numbers and brings what it signed (factory/entries.py); what else it may do with the
enrollment door says docs/protocol.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from birthmark_server.domain import Caller, CertificateProfile, Device
from birthmark_server.factory.entries import ENTRY_MIME, MOST_ENTRY_BYTES, EntryService
from birthmark_server.roles import ADMITTING, READING, Role
from birthmark_server.store.protocol import Store
from birthmark_server.store.workorder_protocol import WorkOrderStore
from birthmark_server.web.api.idempotency import AnswerBook
from birthmark_server.web.api.operation import read_argument, read_body, read_query
from birthmark_server.web.api.values import View
from birthmark_server.web.api.workorders import bodies, views
from birthmark_server.web.api.workorders.orders import view_of
from birthmark_server.web.contract import JSON_MIME, Contract
from birthmark_server.web.doors import Answer, Call, Door, Route, for_roles
from birthmark_server.web.errors import CertificateRequired, WrongMediaType

_STATION: Final = frozenset({CertificateProfile.STATION})
STATIONS: Final = Door(_STATION)

WORKORDER: Final = Contract("Show one work order, and how far it is.", answer=views.WorkOrderView)
SERIALS: Final = Contract(
    "Take the next serial numbers of a work order, for this station alone.",
    body=bodies.SerialsWanted, answer=views.SerialBlockView, status=201, creates=True,
)  # fmt: skip
ENTRIES: Final = Contract(
    "Bring what a station signed: from now on the device is expected.",
    raw_body=ENTRY_MIME, answer=views.EntryTaken, status=201, most_body_bytes=MOST_ENTRY_BYTES,
)  # fmt: skip
UNIT: Final = Contract("Show what became of a serial number that a station signed for.", answer=views.UnitView)


@dataclass(frozen=True, slots=True)
class StationRequests:
    """Answers them. now: UTC; answers: kept for idempotency keys."""

    store: Store
    workorders: WorkOrderStore
    entries: EntryService
    answers: AnswerBook
    now: Callable[[], datetime]

    def workorder(self, call: Call, _caller: Caller) -> Answer:
        read_query(None, call.query)
        order = self.workorders.get(read_argument(call.argument))
        return _answer(WORKORDER, view_of(self.store, self.workorders, order))

    def serials(self, call: Call, caller: Caller) -> Answer:
        name, wanted = read_argument(call.argument), read_body(bodies.SerialsWanted, call)
        station = caller.station
        if wanted is None or not station:
            raise CertificateRequired("this resource needs a station's certificate")

        def take() -> Answer:
            block = self.workorders.take_serials(name, station=station, count=wanted.count, at=self.now())
            return _answer(SERIALS, views.SerialBlockView.model_validate(block))

        return self.answers.once(f"station:{station}", call, "serials", take)

    def bring(self, call: Call, caller: Caller) -> Answer:
        if call.media_type != ENTRY_MIME:
            raise WrongMediaType(f"want {ENTRY_MIME}, got {call.media_type[:80] or 'none'}")
        entry = self.entries.bring(call.body, read_argument(call.argument), caller)
        return _answer(ENTRIES, views.EntryTaken.model_validate(entry))

    def unit(self, call: Call, _caller: Caller) -> Answer:
        read_query(None, call.query)
        found = self.workorders.unit(read_argument(call.argument))
        entry, device = views.EntryTaken.model_validate(found.entry), found.device
        if device is None:
            return _answer(UNIT, views.UnitView(entry=entry))
        shown = views.UnitView(
            entry=entry,
            device_id=device.device_id,
            state=device.state,
            last_seen_at=device.last_seen_at,
            idevid=self._idevid(device),
        )
        return _answer(UNIT, shown)

    def _idevid(self, device: Device) -> str | None:
        for record in self.store.device_certificates(device.device_id):
            if record.profile is CertificateProfile.IDEVID and record.revoked_at is None:
                return record.der.hex()
        return None


def _answer(contract: Contract, view: View) -> Answer:
    return Answer(contract.status, view.model_dump_json().encode(), JSON_MIME)


def _shared(roles: frozenset[Role]) -> Door:
    return Door(_STATION | for_roles(roles).profiles)


def station_routes(requests: StationRequests) -> list[Route]:
    """Return the routes of stations."""
    return [
        Route("GET", "/v1/workorders/{id}", _shared(READING), requests.workorder, contract=WORKORDER),
        Route("POST", "/v1/workorders/{id}/serials", STATIONS, requests.serials, contract=SERIALS),
        Route(
            "POST",
            "/v1/workorders/{id}/entries",
            _shared(ADMITTING),
            requests.bring,
            contract=ENTRIES,
            most_body_bytes=MOST_ENTRY_BYTES,
        ),
        Route("GET", "/v1/units/{id}", _shared(READING), requests.unit, contract=UNIT),
    ]
