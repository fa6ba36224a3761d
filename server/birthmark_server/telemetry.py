"""Traces by OpenTelemetry, sent by OTLP over HTTP: tracing.Tracer where it is on. tracing.open_tracer imports it.

Spans are handed over by a thread of the SDK's, in batches. Its queue is bounded: a collector that is down costs spans,
and no request a moment. A client's `traceparent` is not looked at: strangers don't decide what is kept here.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, TypeVar

import requests
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from birthmark_server.errors import BirthmarkError
from birthmark_server.settings import TracingSettings
from birthmark_server.tracing import Attributes, Span

T = TypeVar("T")
SERVICE: Final = "birthmark"
_EXPORT_TIMEOUT_S: Final = 5
_NOTHING: Final[Attributes] = {}


class OtlpTracer:
    """See tracing.Tracer."""

    def __init__(self, settings: TracingSettings, *, replica: str) -> None:
        # It warns of each retry; that a batch is lost is an error of its own, and enough.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        self._provider = TracerProvider(
            sampler=TraceIdRatioBased(settings.sample),
            resource=Resource.create({"service.name": SERVICE, "service.instance.id": replica}),
            shutdown_on_exit=False,
        )
        session = requests.Session()
        session.trust_env = False  # REQUESTS_CA_BUNDLE would overrule the anchors, HTTP_PROXY the way
        exporter = OTLPSpanExporter(
            endpoint=settings.endpoint,
            certificate_file=settings.anchors or None,
            timeout=_EXPORT_TIMEOUT_S,
            session=session,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE)

    def span(self, name: str, told: Attributes = _NOTHING, *, served: bool = False) -> AbstractContextManager[Span]:
        """See tracing.Tracer."""
        kind = trace.SpanKind.SERVER if served else trace.SpanKind.INTERNAL
        return self._open(name, told, kind)

    @contextmanager
    def _open(self, name: str, told: Attributes, kind: trace.SpanKind) -> Iterator[Span]:
        # The SDK would note an exception with its text and its stack: a refusal's text may quote what was sent.
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes=told, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield _OpenSpan(span)
            except BaseException as error:
                code = error.code if isinstance(error, BirthmarkError) else type(error).__name__
                span.set_attribute("error.type", code)
                span.set_status(trace.StatusCode.ERROR)
                raise

    def after(self, name: str, began_ns: int, told: Attributes) -> None:
        """See tracing.Tracer."""
        self._tracer.start_span(name, attributes=told, start_time=began_ns).end()

    def carry(self, work: Callable[[], T]) -> Callable[[], T]:
        """See tracing.Tracer."""
        here = contexts.get_current()

        def carried() -> T:
            token = contexts.attach(here)
            try:
                return work()
            finally:
                contexts.detach(token)

        return carried

    def close(self) -> None:
        """See tracing.Tracer."""
        self._provider.shutdown()


class _OpenSpan:
    """See tracing.Span."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def note(self, told: Attributes, *, name: str = "") -> None:
        """See tracing.Span."""
        self._span.set_attributes(told)
        if name:
            self._span.update_name(name)
