"""The desk's part for work orders and stations: by the rules of web/api/desk.py."""

from typing import Protocol

from birthmark_server.web.api import bodies as common
from birthmark_server.web.api.workorders import bodies, views


class WorkOrderDesk(Protocol):
    """What operators do with work orders and stations."""

    def create(self, order: bodies.NewWorkOrder) -> views.WorkOrderView:
        """Raise AlreadyExists, UnknownModel; PoolExhausted where its pattern has too few numbers, SerialsTaken where
        they are another work order's."""

    def workorders(self, *, after: str = "", limit: int = 100) -> views.WorkOrderPage:
        """By name."""

    def workorder(self, name: str) -> views.WorkOrderView:
        """Raise UnknownWorkOrder."""

    def close(self, name: str) -> views.WorkOrderView:
        """No station gets serial numbers any more, or may sign. Raise UnknownWorkOrder."""

    def stations(self, *, after: str = "", limit: int = 100) -> views.StationPage:
        """By name."""

    def add_station(self, station: bodies.NewStation) -> views.IssuedStation:
        """Issue a certificate. Raise Malformed for a request that proves no key, ProfileViolation."""

    def revoke_station(self, name: str, revocation: common.Revocation) -> views.StationCut:
        """All certificates of this station. Raise UnknownStation."""
