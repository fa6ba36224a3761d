"""Traces of what a server does: which request, message or campaign led to which issuance, and where the time went.

Off unless `[tracing] endpoint` is set. Off, NO_TRACE stands in every place: it makes nothing and imports nothing. On,
telemetry.py hands spans to OpenTelemetry (the extra `birthmark[tracing]`).

Rules: attributes come from our own records and closed sets: routes as declared, stable codes, ids of devices, jobs and
campaigns, serial numbers of certificates, request ids as in the log. Never what was sent to us: no evidence, no nonce,
no header, no body, no exception's text.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, Protocol, TypeVar

from birthmark_server.errors import Misconfigured
from birthmark_server.settings import TracingSettings

T = TypeVar("T")
Attributes = Mapping[str, str | int | float | bool]
_NOTHING: Final[Attributes] = {}


class Span(Protocol):
    """One thing that is done, from its beginning to its end."""

    def note(self, told: Attributes, *, name: str = "") -> None:
        """Add what has become known meanwhile. name: a better one than at the beginning."""


class Tracer(Protocol):
    """Where spans go. Thread-safe."""

    def span(self, name: str, told: Attributes = _NOTHING, *, served: bool = False) -> AbstractContextManager[Span]:
        """Return a span for a with block: a child of the one that is open in this thread or task. told: its attributes.
        served: it answers somebody outside. What the block raises is noted by its code, and goes on."""

    def after(self, name: str, began_ns: int, told: Attributes) -> None:
        """Note what has ended by now. began_ns: since the epoch."""

    def carry(self, work: Callable[[], T]) -> Callable[[], T]:
        """Return `work`, for another thread: what it does there belongs to the span that is open here."""

    def close(self) -> None:
        """Send what is unsent, for some seconds at most, and end."""


class _NoSpan:
    def note(self, told: Attributes, *, name: str = "") -> None:
        pass


_NO_SPAN: Final = nullcontext(_NoSpan())


class _NoTracer:
    """Tracing that is off."""

    def span(
        self,
        name: str,  # noqa: ARG002 - nothing is made of any of them
        told: Attributes = _NOTHING,  # noqa: ARG002
        *,
        served: bool = False,  # noqa: ARG002
    ) -> AbstractContextManager[Span]:
        return _NO_SPAN

    def after(self, name: str, began_ns: int, told: Attributes) -> None:
        pass

    def carry(self, work: Callable[[], T]) -> Callable[[], T]:
        return work

    def close(self) -> None:
        pass


NO_TRACE: Final[Tracer] = _NoTracer()


def of_issuance(issuer: str, profile: str, serial_number: str) -> dict[str, str]:
    """Return the attributes of a certificate that was issued."""
    return {
        "birthmark.issuer": issuer,
        "birthmark.profile": profile,
        "birthmark.serial_number": serial_number,
    }


def open_tracer(settings: TracingSettings, *, replica: str) -> Tracer:
    """Return where this server's spans go. replica: which server it is. Raise Misconfigured."""
    if not settings.endpoint:
        return NO_TRACE
    if settings.anchors and not Path(settings.anchors).is_file():
        raise Misconfigured(f"[tracing] anchors: there is no file {settings.anchors}")
    try:
        from birthmark_server.telemetry import OtlpTracer
    except ImportError as error:
        raise Misconfigured(
            f"[tracing] endpoint is set, and OpenTelemetry is not installed: pip install 'birthmark[tracing]' "
            f"(there is no {error.name})"
        ) from None
    return OtlpTracer(settings, replica=replica)
