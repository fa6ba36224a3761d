"""The operations of operators on work orders and stations. What stations share with them is in stations.py."""

from typing import Final

from birthmark_server.roles import ADMITTING, READING, VOUCHING
from birthmark_server.web.api import bodies as common
from birthmark_server.web.api.operation import Entry
from birthmark_server.web.api.queries import PageQuery
from birthmark_server.web.api.workorders import bodies, views
from birthmark_server.web.contract import Contract

WORKORDERS: Final[tuple[Entry, ...]] = (
    (
        "GET", "/v1/workorders", READING,
        Contract("List work orders, by name.", query=PageQuery, answer=views.WorkOrderPage),
        lambda asked: asked.desk.workorders.workorders(after=asked.after, limit=asked.limit),
    ),
    (
        "POST", "/v1/workorders", ADMITTING,
        Contract(
            "Make a work order: so many devices of one model, with these serial numbers.",
            body=bodies.NewWorkOrder, answer=views.WorkOrderView, status=201, creates=True,
        ),
        lambda asked: asked.desk.workorders.create(asked.body),
    ),
    (
        "POST", "/v1/workorders/{id}/close", ADMITTING,
        Contract("Close a work order: what stations sign from now on is not taken.", answer=views.WorkOrderView),
        lambda asked: asked.desk.workorders.close(asked.argument),
    ),
    (
        "GET", "/v1/stations", READING,
        Contract("List stations' certificates, by name.", query=PageQuery, answer=views.StationPage),
        lambda asked: asked.desk.workorders.stations(after=asked.after, limit=asked.limit),
    ),
    (
        "POST", "/v1/stations", VOUCHING,
        Contract(
            "Give a station a certificate, for the key in its request.",
            body=bodies.NewStation, answer=views.IssuedStation, status=201, creates=True,
        ),
        lambda asked: asked.desk.workorders.add_station(asked.body),
    ),
    (
        "POST", "/v1/stations/{id}/revoke", VOUCHING,
        Contract("Revoke all certificates of a station.", body=common.Revocation, answer=views.StationCut),
        lambda asked: asked.desk.workorders.revoke_station(asked.argument, asked.body),
    ),
)  # fmt: skip
