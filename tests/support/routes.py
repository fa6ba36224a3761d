"""Every route of the HTTPS door and of the CRL listener, without anything behind them."""

from datetime import UTC, datetime
from unittest.mock import sentinel

from birthmark_server.web.doors import Route
from birthmark_server.web.enroll import enrollment_routes
from birthmark_server.web.est import est_routes
from birthmark_server.web.status import status_routes
from birthmark_server.web.time import TimeSigner, time_routes
from support.tpm_vendor import build_ca


def epoch() -> datetime:
    """A time."""
    return datetime(2026, 1, 1, tzinfo=UTC)


def every_route() -> list[Route]:
    """The routes, in the order in which the server declares them."""
    return [
        *enrollment_routes(sentinel.enrollment),
        *est_routes(sentinel.renewal, ca_certificates=[build_ca("x").certificate], csrattrs=b""),
        *status_routes(sentinel.store, started_at=epoch(), now=epoch),
        *time_routes(TimeSigner((b"",), sentinel.key), now=epoch),
    ]
