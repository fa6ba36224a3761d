"""The desk's part for work orders and stations, on the store and the CA folder."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from birthmark_server.ca.authority import Authority
from birthmark_server.ca.record import common_name
from birthmark_server.domain import CertificateProfile, CertificateRecord
from birthmark_server.roles import ADMITTING, VOUCHING, Role, require
from birthmark_server.store.errors import UnknownStation
from birthmark_server.store.protocol import Store
from birthmark_server.store.workorder_protocol import WorkOrderStore
from birthmark_server.web.api import bodies as common
from birthmark_server.web.api.lists import page_of
from birthmark_server.web.api.requests import certify_request
from birthmark_server.web.api.workorders import bodies, views
from birthmark_server.web.api.workorders.orders import view_of, with_serials
from birthmark_server.workorders import WorkOrder


class StoreWorkOrderDesk:
    """See desk.WorkOrderDesk. authority, by, role, now: as StoreDesk, of which this is a part."""

    def __init__(
        self,
        workorders: WorkOrderStore,
        store: Store,
        *,
        authority: Callable[[bool], Authority],
        by: str,
        role: Role | None,
        now: Callable[[], datetime],
    ) -> None:
        self._workorders = workorders
        self._store = store
        self._authority = authority
        self._by = by
        self._role = role
        self._now = now

    def create(self, order: bodies.NewWorkOrder) -> views.WorkOrderView:
        require(self._role, ADMITTING, "making work orders")
        at = self._now()
        new = WorkOrder(
            name=order.name,
            model=order.model,
            quantity=order.quantity,
            serials=order.serials,
            created_by=self._by,
            created_at=at,
            closes_at=at + timedelta(seconds=order.open_for_s),
        )
        return self._view(self._workorders.create(order.name, lambda known: with_serials(new, known)))

    def workorders(self, *, after: str = "", limit: int = 100) -> views.WorkOrderPage:
        found = self._workorders.page(after=after, limit=limit + 1)
        return views.WorkOrderPage(
            items=tuple(map(self._view, found[:limit])), next=found[limit - 1].name if len(found) > limit else None
        )

    def workorder(self, name: str) -> views.WorkOrderView:
        return self._view(self._workorders.get(name))

    def close(self, name: str) -> views.WorkOrderView:
        require(self._role, ADMITTING, "closing work orders")
        return self._view(self._workorders.close(name, at=self._now(), by=self._by))

    def stations(self, *, after: str = "", limit: int = 100) -> views.StationPage:
        shown = map(_station, self._stations())
        return page_of(views.StationPage, shown, lambda one: f"{one.name} {one.sha256}", after, limit)

    def add_station(self, station: bodies.NewStation) -> views.IssuedStation:
        require(self._role, VOUCHING, "making stations")
        authority = self._authority(True)
        issued = certify_request(
            authority,
            self._store,
            station.csr,
            profile=CertificateProfile.STATION,
            name=station.name,
            by=self._by,
            now=self._now(),
        )
        return views.IssuedStation(
            station=_station(issued.record), chain=issued.chain_pem.decode(), root=authority.root_pem().decode()
        )

    def revoke_station(self, name: str, revocation: common.Revocation) -> views.StationCut:
        require(self._role, VOUCHING, "revoking stations")
        standing = [
            record for record in self._stations() if common_name(record.subject) == name and record.revoked_at is None
        ]
        if not standing:
            raise UnknownStation(f"no station {name!r} has a certificate that stands")
        for record in standing:
            self._store.revoke_certificate(record.sha256, reason=revocation.reason, at=self._now(), by=self._by)
        return views.StationCut(name=name, certificates=len(standing), by=self._by)

    def _view(self, order: WorkOrder) -> views.WorkOrderView:
        return view_of(self._store, self._workorders, order)

    def _stations(self) -> Iterator[CertificateRecord]:
        after = ""
        while page := self._store.list_certificates(profile=CertificateProfile.STATION.value, after=after, limit=500):
            yield from page
            after = page[-1].sha256


def _station(record: CertificateRecord) -> views.StationView:
    return views.StationView(
        name=common_name(record.subject),
        sha256=record.sha256,
        serial_number=record.serial_number,
        not_before=record.not_before,
        not_after=record.not_after,
        issued_at=record.issued_at,
        issued_by=record.issued_by,
        revoked_at=record.revoked_at,
        reason=record.reason,
        revoked_by=record.revoked_by,
    )
