"""Every route of the HTTPS door and of the CRL listener, without anything behind them."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import sentinel

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from birthmark_server.web.doors import Route
from birthmark_server.web.enroll import enrollment_routes
from birthmark_server.web.est import est_routes
from birthmark_server.web.status import status_routes
from birthmark_server.web.time import time_routes
from support.tpm_vendor import build_ca


def epoch() -> datetime:
    """A time."""
    return datetime(2026, 1, 1, tzinfo=UTC)


def every_route() -> list[Route]:
    """The routes, in the order in which the server declares them."""
    with TemporaryDirectory() as folder:
        key = Path(folder) / "key.pem"
        private = ec.generate_private_key(ec.SECP256R1())
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return [
            *enrollment_routes(sentinel.enrollment),
            *est_routes(sentinel.renewal, ca_certificates=[build_ca("x").certificate], csrattrs=b""),
            *status_routes(sentinel.store, troubles=tuple, started_at=epoch(), now=epoch),
            *time_routes(key, None, now=epoch),
        ]
