"""Every route of the HTTPS door and of the CRL listener, without anything behind them."""

from datetime import UTC, datetime
from unittest.mock import sentinel

from birthmark_server.meters import Meters
from birthmark_server.web.api.openapi import openapi_route
from birthmark_server.web.api.routes import operator_routes
from birthmark_server.web.api.workorders.stations import StationRequests, station_routes
from birthmark_server.web.doors import Route
from birthmark_server.web.enroll import enrollment_routes
from birthmark_server.web.est import est_routes
from birthmark_server.web.metrics import FleetGauges, metrics_route
from birthmark_server.web.status import status_routes
from birthmark_server.web.time import TimeSigner, time_routes
from birthmark_server.web.trust import trust_routes


def epoch() -> datetime:
    """A time."""
    return datetime(2026, 1, 1, tzinfo=UTC)


def of_stations() -> list[Route]:
    """Those that stations may ask."""
    requests = StationRequests(
        store=sentinel.store,
        workorders=sentinel.workorders,
        entries=sentinel.entries,
        answers=sentinel.answers,
        now=epoch,
    )
    return station_routes(requests)


def every_route() -> list[Route]:
    """The routes, in the order in which the server declares them."""
    routes = [
        *enrollment_routes(sentinel.enrollment),
        *est_routes(
            sentinel.renewal,
            ca_certificates=tuple,
            csrattrs=b"",
            broker_of=sentinel.broker_of,
        ),
        *status_routes(troubles=tuple),
        *operator_routes(sentinel.open_desk, sentinel.store, now=epoch),
        *of_stations(),
        *trust_routes(bytes),
        *time_routes(TimeSigner((b"",), sentinel.key), now=epoch),
        metrics_route(Meters(), FleetGauges(sentinel.store, live=None, now=epoch)),
    ]
    return [*routes, openapi_route(routes)]
