"""The desk's part for work orders and stations from afar: each method is one request."""

from birthmark_server.cli.remote_requests import RemoteRequests, segment
from birthmark_server.web.api import bodies as common
from birthmark_server.web.api.workorders import bodies, views


class RemoteWorkOrders(RemoteRequests):
    """See web.api.workorders.desk.WorkOrderDesk, where each method's contract is."""

    def create(self, order: bodies.NewWorkOrder) -> views.WorkOrderView:
        return self._create("/v1/workorders", views.WorkOrderView, order)

    def workorders(self, *, after: str = "", limit: int = 100) -> views.WorkOrderPage:
        return self._list("/v1/workorders", views.WorkOrderPage, after, limit)

    def workorder(self, name: str) -> views.WorkOrderView:
        return self._get(f"/v1/workorders/{segment(name)}", views.WorkOrderView)

    def close(self, name: str) -> views.WorkOrderView:
        return self._post(f"/v1/workorders/{segment(name)}/close", views.WorkOrderView)

    def stations(self, *, after: str = "", limit: int = 100) -> views.StationPage:
        return self._list("/v1/stations", views.StationPage, after, limit)

    def add_station(self, station: bodies.NewStation) -> views.IssuedStation:
        return self._create("/v1/stations", views.IssuedStation, station)

    def revoke_station(self, name: str, revocation: common.Revocation) -> views.StationCut:
        return self._post(f"/v1/stations/{segment(name)}/revoke", views.StationCut, revocation)
