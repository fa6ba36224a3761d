"""The composition root of `birthmark serve`: the one place where everything is made and joined.

Start: settings -> CA folder, trust store, database -> services -> routes -> listeners. Whatever is wrong is said in one
sentence before anything listens. Stop (SIGTERM, SIGINT): listeners close, requests that have begun finish, then the
background tasks, the workers and the database, in this order.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from birthmark_server import log as log_lines
from birthmark_server.attestation.roots import TrustStore
from birthmark_server.ca import passphrase
from birthmark_server.ca.authority import Authority
from birthmark_server.cut_off import let_back, try_cut_off
from birthmark_server.denials import POLL as DENY_POLL
from birthmark_server.denials import DenyFileKeeper, open_deny_file
from birthmark_server.enrollment import EnrollmentPolicy, EnrollmentService
from birthmark_server.errors import Misconfigured
from birthmark_server.meters import Meters
from birthmark_server.refusals import RefusalBook
from birthmark_server.renewal import RenewalPolicy, RenewalService
from birthmark_server.roles import Role
from birthmark_server.rotation.engine import Engine
from birthmark_server.rotation.runner import CampaignRunner
from birthmark_server.rotation.service import RotationPolicy, RotationService
from birthmark_server.rotation.signer import CommandSigner
from birthmark_server.settings import BrokerSettings, RefusalSettings, Settings
from birthmark_server.store.campaign_protocol import CampaignStore
from birthmark_server.store.job_protocol import JobStore
from birthmark_server.store.open import open_store
from birthmark_server.store.protocol import Store
from birthmark_server.web.api.desk import Desk
from birthmark_server.web.api.openapi import openapi_route
from birthmark_server.web.api.routes import operator_routes
from birthmark_server.web.api.store_desk import StoreDesk
from birthmark_server.web.app import OVER_TCP, OVER_TLS, THROUGH_FRONT, HttpShell
from birthmark_server.web.crl import POLL, CrlPublisher
from birthmark_server.web.csrattrs import csr_attributes
from birthmark_server.web.doors import Route, Router
from birthmark_server.web.enroll import enrollment_routes
from birthmark_server.web.est import est_routes
from birthmark_server.web.limits import ConnectionLimit
from birthmark_server.web.listener import Listener
from birthmark_server.web.metrics import REFRESH, FleetGauges, metrics_route
from birthmark_server.web.ocsp import OcspResponder
from birthmark_server.web.status import status_routes
from birthmark_server.web.time import TimeSigner, time_routes
from birthmark_server.web.tls import (
    ConnectionObserver,
    FreshContexts,
    TlsServer,
    listening_sockets,
    server_context,
)
from birthmark_server.web.workers import Workers

log = logging.getLogger("birthmark.app")

PURGE_EVERY: Final = timedelta(minutes=10)
OTHER_FILES: Final = 256
"""What a server has open beside its clients' connections: database, journal, broker, modules being imported."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running server listens, as HOST:PORT or a path; empty where it does not."""

    https: str
    crl: str = ""
    front: str = ""


@dataclass(frozen=True, slots=True)
class Services:
    """What stands behind the doors; the command line uses the same."""

    store: Store
    authority: Authority
    roots: TrustStore
    enrollment: EnrollmentService
    renewal: RenewalService
    rotation: RotationService
    jobs: JobStore
    campaigns: CampaignStore
    crls: CrlPublisher
    ocsp: OcspResponder
    meters: Meters


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def open_services(settings: Settings, *, now: Callable[[], datetime] = utc_now) -> Services:
    """Open CA, trust store and database and build the services. Raise Misconfigured for what is wrong."""
    secret = passphrase.read(settings.ca.passphrase) if settings.ca.passphrase else b""
    authority = Authority.load(Path(settings.ca.folder), passphrase=secret, now=now())
    roots = TrustStore.load(Path(settings.tpm.roots))
    store = open_store(settings.database.url, journal=Path(settings.database.journal))
    meters = Meters()
    refusals = RefusalBook(store, count=meters.refused)
    enrollment = EnrollmentService(
        store=store,
        authority=authority,
        roots=roots,
        policy=EnrollmentPolicy(
            server_names=frozenset(settings.server.names),
            public_url=settings.public_url,
            broker_host=settings.broker.host,
            broker_port=settings.broker.port,
            challenge_ttl=timedelta(seconds=settings.enrollment.challenge_ttl_s),
            answer_ttl=timedelta(seconds=settings.enrollment.answer_ttl_s),
            most_challenges_per_source=settings.enrollment.most_challenges_per_source,
        ),
        refusals=refusals,
        now=now,
        random=os.urandom,
    )
    renewal = RenewalService(
        store=store,
        jobs=store.jobs,
        authority=authority,
        policy=RenewalPolicy(
            ldevid_lifetime=timedelta(seconds=settings.ca.ldevid_lifetime_s),
            nonce_ttl=timedelta(seconds=settings.est.nonce_ttl_s),
            most_per_day=settings.est.most_per_day,
        ),
        refusals=refusals,
        now=now,
        random=os.urandom,
    )
    rotation = RotationService(
        store=store,
        jobs=store.jobs,
        renewal=renewal,
        authority=authority,
        signer=_command_signer(settings.broker),
        policy=RotationPolicy(
            nonce_ttl=timedelta(seconds=settings.est.nonce_ttl_s),
            silence=timedelta(seconds=settings.rotation.silence_s),
            most_under_way=settings.rotation.most_under_way,
            spread=timedelta(seconds=settings.rotation.spread_s),
        ),
        refusals=refusals,
        random=os.urandom,
    )
    crls = CrlPublisher(
        store=store,
        authority=authority,
        lifetime=timedelta(seconds=settings.crl.lifetime_s),
        refresh=timedelta(seconds=settings.crl.refresh_s),
        now=now,
    )
    ocsp = OcspResponder(
        store=store, authority=authority, lifetime=timedelta(seconds=settings.ocsp.lifetime_s), now=now
    )
    return Services(
        store, authority, roots, enrollment, renewal, rotation, store.jobs, store.campaigns, crls, ocsp, meters
    )


def _command_signer(broker: BrokerSettings) -> CommandSigner | None:
    if not broker.command_certificate:
        return None
    return CommandSigner.load(Path(broker.command_certificate), Path(broker.command_key))


def routes_of(services: Services, settings: Settings, *, now: Callable[[], datetime]) -> list[Route]:
    """Return every route of the HTTPS door but the time's and the OpenAPI document's."""
    authority, started_at = services.authority, now()

    def open_desk(by: str, role: Role) -> Desk:
        return StoreDesk(
            services.store,
            authority=lambda _keys: authority,
            cut_off=partial(try_cut_off, settings),
            let_back=lambda device_id: let_back(settings, services.store, lambda: authority, device_id, now=now()),
            by=by,
            role=role,
            now=now,
            started_at=started_at,
        )

    cas = [authority.root, *(issuer.certificate for issuer in authority.issuers)]
    return [
        *enrollment_routes(services.enrollment),
        *est_routes(services.renewal, ca_certificates=cas, csrattrs=csr_attributes()),
        *status_routes(troubles=services.crls.stale),
        *operator_routes(open_desk, services.store, now=now),
    ]


async def serve(settings: Settings, *, stop: asyncio.Event, ready: Callable[[Addresses], None] | None = None) -> None:
    """Serve until `stop` is set. ready: called once when all doors are open. Raise Misconfigured."""
    services = open_services(settings)
    try:
        async with contextlib.AsyncExitStack() as stack:
            workers = stack.enter_context(Workers(settings.server.workers, together=services.store.together))
            engine = _rotation_engine(settings, services) if settings.broker.control else None
            heard = None if engine is None else lambda: engine.live
            gauges = FleetGauges(services.store, live=heard, now=utc_now)
            addresses = await _open_doors(settings, services, workers, stack, gauges)
            background = [
                _repeat("gauges", REFRESH, gauges.refresh),
                _repeat("crl", POLL, services.crls.refresh),
                _repeat("purge", PURGE_EVERY, partial(_purge, services.store, settings.refusals)),
            ]
            if settings.crl.listen:
                background.append(_repeat("ocsp", POLL, services.ocsp.refresh))
            for task in background:
                await stack.enter_async_context(_background(task))
            if settings.broker.deny_file:
                keeper = _deny_file_keeper(settings, services)
                await stack.enter_async_context(_background(_repeat("deny file", DENY_POLL, keeper.refresh)))
            if engine is not None:
                engine.start()
                stack.push_async_callback(asyncio.to_thread, engine.stop)
            log.info(
                "serving",
                extra={"fields": {"https": addresses.https, "crl": addresses.crl, "front": addresses.front}},
            )
            if ready is not None:
                ready(addresses)
            # What is there now stays; what requests make is mostly freed without the collector's help. Looking less
            # often saves 3 % of an enrollment's CPU.
            gc.freeze()
            gc.set_threshold(50_000, 20, 50)
            notify_systemd("READY=1")
            await stop.wait()
            notify_systemd("STOPPING=1")
            log.info("stopping")
    finally:
        services.store.close()


def _rotation_engine(settings: Settings, services: Services) -> Engine:
    return Engine(
        broker=settings.broker,
        anchors=Path(settings.ca.folder) / "root.pem",
        store=services.store,
        jobs=services.jobs,
        service=services.rotation,
        threads=settings.server.workers,
        now=utc_now,
        work=[CampaignRunner(campaigns=services.campaigns, now=utc_now)],
    )


def _deny_file_keeper(settings: Settings, services: Services) -> DenyFileKeeper:
    return DenyFileKeeper(
        deny_file=open_deny_file(settings.broker), store=services.store, authority=services.authority, now=utc_now
    )


async def _open_doors(
    settings: Settings,
    services: Services,
    workers: Workers,
    stack: contextlib.AsyncExitStack,
    gauges: FleetGauges,
) -> Addresses:
    loop = asyncio.get_running_loop()
    limits = settings.limits
    authority = services.authority

    def shell(routes: list[Route]) -> HttpShell:
        return HttpShell(
            router=Router(routes),
            store=services.store,
            issuers=frozenset(issuer.sha256 for issuer in authority.issuers),
            limits=limits,
            workers=workers,
            meters=services.meters,
            now=utc_now,
        )

    def finish_at_the_end(listener: Listener) -> Listener:
        stack.push_async_callback(listener.shutdown, settings.server.shutdown_grace_s)
        return listener

    async def listen(listener: Listener, sockets: list[socket.socket], limit: ConnectionLimit) -> None:
        for sock in sockets:
            server = await loop.create_server(
                partial(listener, ConnectionObserver(limit, meters=services.meters)), sock=sock
            )
            stack.callback(server.close)

    key, key_passphrase = Path(settings.server.key), None
    if settings.server.key_passphrase:
        key_passphrase = passphrase.read(settings.server.key_passphrase)
    signer = TimeSigner.load(Path(settings.server.certificate), key, key_passphrase)
    routes = [
        *routes_of(services, settings, now=utc_now),
        *time_routes(signer, now=utc_now),
        metrics_route(services.meters, gauges),
    ]
    devices = shell([*routes, openapi_route(routes)])
    contexts = FreshContexts(
        partial(
            server_context,
            certificate=Path(settings.server.certificate),
            key=key,
            key_passphrase=key_passphrase,
            issuers=[issuer.certificate for issuer in authority.issuers],
            min_version=ssl.TLSVersion.TLSv1_2 if settings.server.min_tls == "1.2" else ssl.TLSVersion.TLSv1_3,
        )
    )

    def connections(most_per_source: int) -> ConnectionLimit:
        """Each listener has a limit of its own: connections that fill one leave the others' places free."""
        return ConnectionLimit(most=limits.connections, most_per_source=most_per_source)

    https, over_tls = listening_sockets(settings.server.listen), devices.listener(OVER_TLS)
    door = TlsServer(
        https,
        loop=loop,
        contexts=contexts,
        protocol=over_tls,
        connections=connections(limits.connections_per_source),
        handshake_timeout_s=limits.handshake_timeout_s,
        meters=services.meters,
    )
    stack.push_async_callback(door.wait_closed)
    finish_at_the_end(over_tls)
    stack.callback(door.close)
    crl: list[socket.socket] = []
    if settings.crl.listen:
        await asyncio.to_thread(services.ocsp.refresh)  # its signers are there before anyone asks
        public = shell([*services.crls.routes(), *services.ocsp.routes()])
        crl = listening_sockets(settings.crl.listen)
        plain = public.listener(OVER_TCP, folder=services.ocsp.folder, kept=services.ocsp.kept)
        await listen(finish_at_the_end(plain), crl, connections(limits.connections_per_source))
    if settings.front.listen:
        path, behind = Path(settings.front.listen), devices.listener(THROUGH_FRONT)
        # All its connections come from one peer: the front.
        await listen(finish_at_the_end(behind), [unix_socket(path)], connections(limits.connections))
    return Addresses(_address(https), _address(crl), settings.front.listen)


def unix_socket(path: Path) -> socket.socket:
    """Bind a Unix socket (mode 0660) or raise Misconfigured. One that nobody listens on any more is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        sock.bind(str(path))
        path.chmod(0o660)
    except OSError as error:
        sock.close()
        raise Misconfigured(f"can't listen on {path}: {error.strerror or error}") from None
    return sock


def _address(sockets: list[socket.socket]) -> str:
    return ":".join(str(part) for part in sockets[0].getsockname()[:2]) if sockets else ""


def _purge(store: Store, refusals: RefusalSettings) -> None:
    now = utc_now()
    purged = store.purge_expired(at=now)
    purged += store.purge_refusals(before=now - timedelta(seconds=refusals.keep_s), most_bytes=refusals.most_bytes)
    if purged:
        log.info("purged", extra={"fields": {"rows": purged}})


async def _repeat(name: str, every: timedelta, work: Callable[[], object]) -> None:
    """Do blocking work now and then `every` so often, in a thread; what it raises is logged and tried again."""
    while True:
        try:
            await asyncio.to_thread(work)
        except Exception:
            log.exception("background work failed", extra={"fields": {"work": name}})
        await asyncio.sleep(every.total_seconds())


@contextlib.asynccontextmanager
async def _background(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def make_room_for_connections(settings: Settings) -> None:
    """Raise this process's limit of open files to what full listeners need; warn where the system does not let us."""
    listeners = 1 + bool(settings.crl.listen) + bool(settings.front.listen)
    wanted = listeners * settings.limits.connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        log.warning("too few open files allowed", extra={"fields": {"wanted": wanted, "allowed": most}})


def notify_systemd(state: str) -> None:
    """Tell systemd how we are, where it wants to know (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)


def run(settings: Settings, *, ready: Callable[[Addresses], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT and return 0. Raise Misconfigured, StoreFailed: what keeps it from starting."""
    log_lines.configure(settings.log.format)
    make_room_for_connections(settings)

    async def until_signal() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(settings, stop=stop, ready=ready)

    asyncio.run(until_signal())
    return 0
