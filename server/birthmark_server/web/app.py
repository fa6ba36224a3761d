"""The HTTP shell: aiohttp's low-level server, a router, and a hop to a worker thread and back.

No middleware and no framework application: between the parser and the handler stand a token bucket, the router, the
body reader and the door (doors.py), in this order, so that nothing is computed for who asks too often, and nothing is
read for a path that is not there. Handlers are plain functions from `Call` and `Caller` to `Answer`; they do not know
HTTP's shell.

The hop (workers.py): a request's work is a few TPM checks and one or two durable commits. On the loop, every commit
would stop all other connections for as long as the disk takes; in a worker, the next handshake is computed meanwhile.
Answers that come from memory (cacerts, health, CRLs) stay on the loop. What reaches beyond the database, as a
revocation does to the broker, has a thread of its own: each of its writes is durable when the store returns, so the
broker hears of nothing that may not last, and neither a batch nor the database's lock waits for it.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Final

from aiohttp import web

from birthmark_server.domain import Caller
from birthmark_server.errors import Malformed
from birthmark_server.meters import NO_ROUTE, Meters
from birthmark_server.settings import LimitSettings
from birthmark_server.tracing import NO_TRACE, Span, Tracer
from birthmark_server.web.doors import Answer, Call, DoorStore, Route, Router, identify
from birthmark_server.web.errors import BodyTooLarge, BodyTooSlow
from birthmark_server.web.front import address_from_front, certificate_from_front
from birthmark_server.web.limits import TokenBuckets, source_of
from birthmark_server.web.listener import Listener, address_of, make_request_ids, to_response
from birthmark_server.web.problems import answer_for, code_of
from birthmark_server.web.shortcut import Shortcut
from birthmark_server.web.workers import Workers

log = logging.getLogger("birthmark.web")

_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Peers:
    """Where a listener finds who asks: its own transport and TLS layer, or a trusted front. Both raise Malformed.

    certificate: DER, one whose key has been proven and whose chain was verified; None without one. address: IP.
    """

    certificate: Callable[[web.BaseRequest], bytes | None]
    address: Callable[[web.BaseRequest], str]


class HttpShell:
    """Serves `router` on any number of listeners. now: UTC; issuers: returns the SHA-256 of the CA certificates that
    are believed now."""

    def __init__(
        self,
        *,
        router: Router,
        store: DoorStore,
        issuers: Callable[[], Container[str]],
        limits: LimitSettings,
        workers: Workers,
        meters: Meters,
        now: Callable[[], datetime],
        tracer: Tracer = NO_TRACE,
    ) -> None:
        self._router = router
        self._store = store
        self._issuers = issuers
        self._limits = limits
        self._workers = workers
        self._meters = meters
        self._now = now
        self._tracer = tracer
        self._buckets = TokenBuckets(per_s=limits.requests_per_s, burst=limits.burst, clock=time.monotonic)
        self._request_ids = make_request_ids()

    def listener(
        self, peers: Peers, *, folder: str = "", kept: Callable[[str, Call], Answer | None] | None = None
    ) -> Listener:
        """Return a protocol factory for `loop.create_server`. kept: what is in memory for a request below `folder`, to
        be answered the short way (shortcut.py): over plain TCP only, and public."""

        async def handle(request: web.BaseRequest) -> web.Response:
            return await self._handle(request, peers)

        shortcut = None
        if kept is not None:
            shortcut = Shortcut(folder=folder, kept=kept, take=self._take_of_address, request_ids=self._request_ids)
        return Listener(
            handle, idle_timeout_s=self._limits.idle_timeout_s, request_ids=self._request_ids, shortcut=shortcut
        )

    def _take_of_address(self, address: str) -> None:
        self._buckets.take(source_of(address))

    async def _handle(self, request: web.BaseRequest, peers: Peers) -> web.Response:
        with self._tracer.span("request", served=True) as span:
            return await self._answer(request, peers, span)

    async def _answer(self, request: web.BaseRequest, peers: Peers, span: Span) -> web.Response:
        """Answer one request, whatever happens, and leave one line in the log."""
        began = time.perf_counter()
        request_id, address = next(self._request_ids), "unknown"
        method, path = request.method, request.rel_url.raw_path
        route, outcome = None, {}
        try:
            address = source_of(peers.address(request))
            certificate = peers.certificate(request)
            self._buckets.take(address if certificate is None else sha256(certificate).hexdigest())
            route, argument = self._router.find(method, path)
            call = self._read_call(request, request_id, address, certificate, argument)
            if route.most_body_bytes:  # only who may use the route is listened to for so long
                await self._workers.run(partial(self._identify, route, call))
            if request.body_exists:
                call = replace(call, body=await self._read_body(request, route.most_body_bytes))
            if route.cheap:
                answer, source = self._work(route, call)
            elif route.alone:
                answer, source = await asyncio.to_thread(self._work, route, call)
            else:
                answer, source = await self._workers.run(self._tracer.carry(partial(self._work, route, call)))
        except Exception as error:  # whatever it is: the table says what becomes of it, and a client sees no trace
            est = route is not None and route.est
            accept = request.headers.get("Accept", "")
            answer, source = answer_for(error, request_id=request_id, est=est, accept=accept), address
            outcome = {"code": code_of(error), "detail": str(error)}
            if answer.status >= 500:
                log.error("failed", exc_info=error, extra={"fields": {"request": request_id}})
        spent_s = time.perf_counter() - began
        what = NO_ROUTE if route is None else f"{route.method} {route.path}"
        self._meters.answered(what, answer.status, spent_s)
        if self._tracer is not NO_TRACE:
            span.note(_of_request(request_id, route, answer.status, outcome.get("code", "")), name=what)
        fields = {"request": request_id, "method": method, "path": path, "status": answer.status, "caller": source}
        log.info("request", extra={"fields": {**fields, **outcome, "ms": f"{spent_s * 1000:.1f}"}})
        return to_response(answer, request_id)

    def _work(self, route: Route, call: Call) -> tuple[Answer, str]:
        """Do the work of one request (in a worker thread, where the route is not cheap); return who asked, too."""
        caller = self._identify(route, call)
        return route.handler(call, caller), caller.source

    def _identify(self, route: Route, call: Call) -> Caller:
        """Return who calls; raise what keeps the route's door shut."""
        return identify(self._store, route.door, call, issuers=self._issuers(), now=self._now())

    def _read_call(
        self, request: web.BaseRequest, request_id: str, address: str, certificate: bytes | None, argument: str
    ) -> Call:
        headers = request.headers
        return Call(
            request_id=request_id,
            address=address,
            certificate=certificate,
            media_type=headers.get("Content-Type", "").partition(";")[0].strip().lower(),
            argument=argument,
            query=request.rel_url.raw_query_string,
            idempotency_key=headers.get("Idempotency-Key", ""),
            if_none_match=headers.get("If-None-Match", ""),
            if_modified_since=headers.get("If-Modified-Since", ""),
        )

    async def _read_body(self, request: web.BaseRequest, most: int) -> bytes:
        """Return the body; stop reading as soon as it is too large or too slow. most: bytes, where the route takes more
        than the settings' limit."""
        most = max(most, self._limits.body_bytes)
        timeout_s = self._limits.body_timeout_s * (1 + most // _MIB)
        if (request.content_length or 0) > most:
            raise BodyTooLarge(f"want at most {most} bytes, got {request.content_length}")
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            if request.content.is_eof():  # it came whole, with its head
                whole = request.content.read_nowait()
                if len(whole) > most:
                    raise BodyTooLarge(f"want at most {most} bytes, got more")
                return whole
            body = bytearray()
            async with asyncio.timeout(timeout_s):
                while chunk := await request.content.readany():
                    body += chunk
                    if len(body) > most:
                        raise BodyTooLarge(f"want at most {most} bytes, got more")
        except TimeoutError:
            raise BodyTooSlow(f"the body did not arrive within {timeout_s:g} s") from None
        except web.RequestPayloadError as error:
            raise Malformed(f"the body broke off: {error}") from None
        return bytes(body)


def _of_request(request_id: str, route: Route | None, status: int, code: str) -> dict[str, str | int]:
    """Return a request's attributes, by OpenTelemetry's names for what it has names for."""
    told: dict[str, str | int] = {"birthmark.request_id": request_id, "http.response.status_code": status}
    if route is not None:
        told |= {"http.request.method": route.method, "http.route": route.path}
    if code:
        told["error.type"] = code
    return told


def address_from_tls(request: web.BaseRequest) -> str:
    """Return the client's address, as our TLS layer knows it."""
    return request.remote or "unknown"


def certificate_from_tls(request: web.BaseRequest) -> bytes | None:
    """Return the client certificate that this connection's handshake verified. Raise Malformed if the connection is
    gone: who left is not one who showed none."""
    transport = request.transport
    if transport is None:
        raise Malformed("the connection ended with the request")
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    return None if tls is None else tls.getpeercert(binary_form=True)


OVER_TLS: Final = Peers(certificate_from_tls, address_from_tls)
OVER_TCP: Final = Peers(lambda _: None, address_of)
THROUGH_FRONT: Final = Peers(certificate_from_front, address_from_front)
