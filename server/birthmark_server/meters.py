"""What a server counts of itself while it works; web/metrics.py shows it to Prometheus.

Labels come from closed sets only (routes as declared, our own codes, OpenSSL's names of its errors): nothing that a
client sends makes a new series. Each server counts for itself; whoever watches several adds them up.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
NO_ROUTE: Final = "none"
"""The label of requests for what is not there."""


class Meters:
    """The counters of one server. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "birthmark_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "birthmark_request_seconds",
            "From a request's head to its answer, commit included.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._refusals = Counter(
            "birthmark_refusals", "What the verifier and the doors refused.", ["door", "code"], registry=self.registry
        )
        self._handshakes = Counter(
            "birthmark_handshakes_failed", "TLS handshakes that failed.", ["reason"], registry=self.registry
        )
        self._turned_away = Counter(
            "birthmark_connections_refused", "Connections over a limit.", registry=self.registry
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request was answered. route: METHOD and path as declared, or NO_ROUTE."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, door: str, code: str) -> None:
        """A device was refused. door: as in the book of refusals."""
        self._refusals.labels(door, code).inc()

    def handshake_failed(self, reason: str) -> None:
        """A handshake failed. reason: OpenSSL's name for it."""
        self._handshakes.labels(reason).inc()

    def turned_away(self) -> None:
        """A connection was closed because there were too many."""
        self._turned_away.inc()
