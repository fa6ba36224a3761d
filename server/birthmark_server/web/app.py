"""The HTTP shell: aiohttp's low-level server, a router, and one hop to a worker thread per request.

No middleware and no framework application: between the parser and the handler stand a token bucket, the router, the
body reader and the door (doors.py), in this order, so that nothing is computed for who asks too often, and nothing is
read for a path that is not there. Handlers are plain functions from `Call` to `Answer`; they do not know HTTP's shell.

The hop: a request's work is a few TPM checks and one or two durable commits. On the loop, every commit would stop all
other connections for as long as the disk takes; in a worker, the next handshake is computed meanwhile. Answers that
come from memory (cacerts, health) stay on the loop.
"""

import asyncio
import itertools
import logging
import secrets
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from birthmark_server.domain import Caller
from birthmark_server.errors import BirthmarkError, Malformed
from birthmark_server.settings import LimitSettings
from birthmark_server.store.protocol import Store
from birthmark_server.web.doors import Answer, Call, Route, Router, identify
from birthmark_server.web.errors import BodyTooLarge, BodyTooSlow
from birthmark_server.web.limits import TokenBuckets, source_of
from birthmark_server.web.problems import answer_for, code_of
from birthmark_wire.errors import DecodeError

log = logging.getLogger("birthmark.web")

CertificateSource = Callable[[web.BaseRequest], bytes | None]
"""Where a listener finds the client certificate (DER) whose key has been proven: its TLS layer, or a trusted front."""


@dataclass(frozen=True, slots=True)
class Work:
    """One request, as a worker takes it over from the loop."""

    route: Route
    request_id: str
    address: str
    certificate: bytes | None
    body: bytes
    media_type: str
    accept: str
    argument: str
    if_none_match: str
    if_modified_since: str


class HttpShell:
    """Serves `router` on any number of listeners. now: UTC; issuers: SHA-256 of our CA certificates."""

    def __init__(
        self,
        *,
        router: Router,
        store: Store,
        issuers: frozenset[str],
        limits: LimitSettings,
        pool: Executor,
        now: Callable[[], datetime],
    ) -> None:
        self._router = router
        self._store = store
        self._issuers = issuers
        self._limits = limits
        self._pool = pool
        self._now = now
        self._buckets = TokenBuckets(per_s=limits.requests_per_s, burst=limits.burst, clock=time.monotonic)
        self._request_ids = request_ids()

    def listener(self, certificate_of: CertificateSource) -> "Listener":
        """Return a protocol factory; `shutdown` on it ends its connections."""

        async def handle(request: web.BaseRequest) -> web.Response:
            return await self._handle(request, certificate_of)

        return Listener(handle, idle_timeout_s=self._limits.idle_timeout_s, request_ids=self._request_ids)

    async def _handle(self, request: web.BaseRequest, certificate_of: CertificateSource) -> web.Response:
        began = time.perf_counter()
        request_id = next(self._request_ids)
        address = source_of(request.remote or "local")
        route = None
        try:
            certificate = certificate_of(request)
            self._buckets.take(address if certificate is None else sha256(certificate).hexdigest())
            route, argument = self._router.find(request.method, request.rel_url.raw_path)
            headers = request.headers
            work = Work(
                route=route,
                request_id=request_id,
                address=address,
                certificate=certificate,
                body=await self._read(request) if request.body_exists else b"",
                media_type=headers.get("Content-Type", "").partition(";")[0].strip().lower(),
                accept=headers.get("Accept", ""),
                argument=argument,
                if_none_match=headers.get("If-None-Match", ""),
                if_modified_since=headers.get("If-Modified-Since", ""),
            )
            if route.cheap:
                answer, caller = self._answer(work)
            else:
                answer, caller = await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, work)
            fields = {"caller": caller.source}
        except (BirthmarkError, DecodeError) as error:
            est = route is not None and route.est
            answer = answer_for(error, request_id=request_id, est=est, accept=request.headers.get("Accept", ""))
            fields = {"caller": address, "code": code_of(error), "detail": str(error)}
            if answer.status >= 500:
                log.error("failed", exc_info=error, extra={"fields": {"request": request_id}})
        except Exception as error:  # the last line of defence: log it, tell the client nothing
            est = route is not None and route.est
            answer = answer_for(error, request_id=request_id, est=est)
            fields = {"caller": address, "code": code_of(error)}
            log.exception("failed", extra={"fields": {"request": request_id}})
        spent_ms = f"{(time.perf_counter() - began) * 1000:.1f}"
        path = request.rel_url.raw_path
        log.info(
            "request",
            extra={
                "fields": {
                    "request": request_id,
                    "method": request.method,
                    "path": path,
                    "status": answer.status,
                    **fields,
                    "ms": spent_ms,
                }
            },
        )
        return respond(answer, request_id)

    def _answer(self, work: Work) -> tuple[Answer, Caller]:
        """Do the work of one request (in a worker thread, where the route is not cheap)."""
        caller = identify(
            self._store,
            work.route.door,
            work.certificate,
            address=work.address,
            request_id=work.request_id,
            issuers=self._issuers,
            now=self._now(),
        )
        call = Call(
            caller,
            body=work.body,
            media_type=work.media_type,
            accept=work.accept,
            argument=work.argument,
            if_none_match=work.if_none_match,
            if_modified_since=work.if_modified_since,
        )
        return work.route.handler(call), caller

    async def _read(self, request: web.BaseRequest) -> bytes:
        """Return the body; stop reading as soon as it is too large or too slow."""
        most = self._limits.body_bytes
        if (request.content_length or 0) > most:
            raise BodyTooLarge(f"want at most {most} bytes, got {request.content_length}")
        if request.headers.get("Expect", "").lower() == "100-continue" and request._payload_writer is not None:
            await request._payload_writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                while chunk := await request.content.readany():
                    body += chunk
                    if len(body) > most:
                        raise BodyTooLarge(f"want at most {most} bytes, got more")
        except TimeoutError:
            raise BodyTooSlow(f"the body did not arrive within {self._limits.body_timeout_s:g} s") from None
        except web.RequestPayloadError as error:
            raise Malformed(f"the body broke off: {error}") from None
        return body


class Listener:
    """Makes one HTTP protocol per connection and can end them all."""

    def __init__(
        self,
        handle: Callable[[web.BaseRequest], Any],
        *,
        idle_timeout_s: float,
        request_ids: "itertools.chain[str] | Any",
    ) -> None:
        self._server = web.Server(handle)
        self._idle_timeout_s = idle_timeout_s
        self._request_ids = request_ids

    def __call__(self) -> RequestHandler:
        """Return the protocol of one connection."""
        return _Connection(
            self._server,
            request_ids=self._request_ids,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._idle_timeout_s,
            access_log=None,  # aiohttp's own way to say: no access log
            lingering_time=1.0,
            tcp_keepalive=False,
            auto_decompress=False,
        )

    async def shutdown(self, grace_s: float) -> None:
        """Let requests that have begun finish for `grace_s`, then close every connection."""
        self._server.pre_shutdown()
        await self._server.shutdown(grace_s)


class _Connection(RequestHandler):
    """aiohttp's HTTP protocol, with problem documents for what is not HTTP."""

    __slots__ = ("_request_ids",)

    def __init__(self, manager: web.Server, *, request_ids: Any, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._request_ids = request_ids

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp could not parse."""
        request_id = next(self._request_ids)
        fields = {"request": request_id, "status": status, "detail": message or ""}
        if status >= 500:
            log.error("failed", exc_info=exc, extra={"fields": fields})
            error: BirthmarkError = BirthmarkError("")
        else:
            log.info("request", extra={"fields": fields})
            error = Malformed("this is not HTTP/1.1 as we read it")
        response = respond(answer_for(error, request_id=request_id), request_id)
        response.force_close()
        return response


def respond(answer: Answer, request_id: str) -> web.Response:
    """Turn an Answer into aiohttp's response."""
    headers = CIMultiDict(answer.headers)
    headers["Content-Type"] = answer.media_type
    headers["X-Request-Id"] = request_id
    headers["Cache-Control"] = headers.get("Cache-Control", "no-store")
    return web.Response(body=answer.body, status=answer.status, headers=headers)


def request_ids() -> "Any":
    """Return an endless iterator of ids that no other process gives out."""
    prefix = secrets.token_hex(4)
    return (f"{prefix}-{number:x}" for number in itertools.count(1))


def certificate_from_tls(request: web.BaseRequest) -> bytes | None:
    """Return the client certificate that this connection's handshake verified."""
    transport = request.transport
    if transport is None:
        return None
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    return None if tls is None else tls.getpeercert(binary_form=True)
