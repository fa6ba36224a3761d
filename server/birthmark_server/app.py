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
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from birthmark_server import log as log_lines
from birthmark_server.broker.rabbitmq_live import crl_folder
from birthmark_server.broker_records import StoreRecords
from birthmark_server.cut_off import Messenger, Teller
from birthmark_server.denials import POLL as DENY_POLL
from birthmark_server.denials import DenyFileKeeper, open_deny_file
from birthmark_server.open_doors import Addresses, Doors
from birthmark_server.presence import Presence, RabbitNeeds, assignment_of
from birthmark_server.roles import Role
from birthmark_server.rollover.brokers import BrokerTrust
from birthmark_server.rollover.record import POLL as FOLLOW
from birthmark_server.rollover.trust import TrustPush
from birthmark_server.rotation.campaigning import CampaignService
from birthmark_server.rotation.engine import Engine, Work
from birthmark_server.rotation.outside_check import OutsideChecks
from birthmark_server.rotation.runner import CampaignRunner
from birthmark_server.services import Services, open_services, utc_now
from birthmark_server.settings import BrokerSettings, RefusalSettings, Settings
from birthmark_server.store.protocol import Store
from birthmark_server.tracing import NO_TRACE, Tracer, open_tracer
from birthmark_server.web.api.desk import Desk
from birthmark_server.web.api.idempotency import AnswerBook
from birthmark_server.web.api.routes import operator_routes
from birthmark_server.web.api.store_desk import StoreDesk
from birthmark_server.web.api.workorders.stations import StationRequests, station_routes
from birthmark_server.web.broker_metrics import REFRESH as BROKER_REFRESH
from birthmark_server.web.broker_metrics import BrokerGauges
from birthmark_server.web.campaign_metrics import REFRESH as CAMPAIGN_REFRESH
from birthmark_server.web.campaign_metrics import CampaignGauges
from birthmark_server.web.crl import POLL
from birthmark_server.web.csrattrs import csr_attributes
from birthmark_server.web.doors import Route
from birthmark_server.web.enroll import enrollment_routes
from birthmark_server.web.est import est_routes
from birthmark_server.web.metrics import REFRESH, CrlGauges, FleetGauges, metrics_route
from birthmark_server.web.status import status_routes
from birthmark_server.web.trust import trust_routes
from birthmark_server.web.workers import Workers

log = logging.getLogger("birthmark.app")

PURGE_EVERY: Final = timedelta(minutes=10)
OTHER_FILES: Final = 256
"""What a server has open beside its clients' connections: database, journal, broker, modules being imported."""


def routes_of(
    services: Services, settings: Settings, *, now: Callable[[], datetime], teller: Teller | None = None
) -> list[Route]:
    """Return every route of the HTTPS door but those of Doors.open() and the metrics. teller: as cut_off's."""
    authority, started_at = services.authority, now()
    campaigns = CampaignService(
        campaigns=services.campaigns,
        now=now,
        seed=lambda: secrets.randbits(64),
        outside=OutsideChecks(settings.rotation.check_origins),
    )

    def open_desk(by: str, role: Role) -> Desk:
        return StoreDesk(
            services.store,
            campaigns=campaigns,
            workorders=services.workorders,
            authority=lambda _keys: authority,
            broker=Messenger(settings, services.store, authority=lambda: authority, now=now, teller=teller),
            rollover=services.rollover,
            by=by,
            role=role,
            now=now,
            started_at=started_at,
        )

    return [
        *enrollment_routes(services.enrollment),
        *est_routes(
            services.renewal,
            ca_certificates=lambda: authority.in_force.ca_certificates,
            csrattrs=csr_attributes(),
            broker_of=assignment_of(settings.broker).endpoint,
        ),
        *status_routes(troubles=services.crls.stale),
        *trust_routes(lambda: services.trust.current.jws if services.trust.current else None),
        *operator_routes(open_desk, services.store, now=now),
        *station_routes(
            StationRequests(
                store=services.store,
                workorders=services.workorders,
                entries=services.entries,
                answers=AnswerBook(services.store, now),
                now=now,
            )
        ),
    ]


async def serve(settings: Settings, *, stop: asyncio.Event, ready: Callable[[Addresses], None] | None = None) -> None:
    """Serve until `stop` is set. ready: called once when all doors are open. Raise Misconfigured."""
    tracer = open_tracer(settings.tracing, replica=settings.broker.control_replica)
    services = open_services(settings, tracer=tracer)
    try:
        async with contextlib.AsyncExitStack() as stack:
            workers = stack.enter_context(Workers(settings.server.workers, together=services.store.together))
            engine = _rotation_engine(settings, services, tracer) if settings.broker.control else None
            heard = None if engine is None else lambda: engine.live
            gauges = FleetGauges(services.store, live=heard, now=utc_now)
            campaigns = CampaignGauges(services.campaigns, now=utc_now)
            brokers = None if engine is None else BrokerGauges(engine, deny_version=_deny_version(settings.broker))
            if settings.crl.listen:
                await asyncio.to_thread(services.ocsp.refresh)  # its signers are there before anyone asks
            doors = Doors(
                settings,
                store=services.store,
                authority=services.authority,
                workers=workers,
                meters=services.meters,
                now=utc_now,
                stack=stack,
                tracer=tracer,
            )
            addresses = await doors.open(
                [
                    *routes_of(services, settings, now=utc_now, teller=None if engine is None else engine.control),
                    metrics_route(
                        services.meters,
                        gauges,
                        campaigns,
                        *([brokers] if brokers else []),
                        CrlGauges(services.crls.ages),
                    ),
                ],
                public=[*services.crls.routes(), *services.ocsp.routes()],
                ocsp=services.ocsp,
            )
            background = [
                _repeat("gauges", REFRESH, gauges.refresh),
                _repeat("campaign gauges", CAMPAIGN_REFRESH, campaigns.refresh),
                _repeat("crl", POLL, services.crls.refresh),
                _repeat("authorities", FOLLOW, services.record.refresh),
                _repeat("purge", PURGE_EVERY, partial(_purge, services.store, settings.refusals)),
            ]
            if brokers is not None:
                background.append(_repeat("broker gauges", BROKER_REFRESH, brokers.refresh))
            if settings.crl.listen:
                background.append(_repeat("ocsp", POLL, services.ocsp.refresh))
            if settings.broker.deny_file:
                keeper = _deny_file_keeper(settings, services)
                background.append(_repeat("deny file", DENY_POLL, keeper.refresh))
            for task in background:
                await stack.enter_async_context(_background(task))
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
        await asyncio.to_thread(tracer.close)


def _rotation_engine(settings: Settings, services: Services, tracer: Tracer = NO_TRACE) -> Engine:
    def at_broker(control: Presence) -> list[Work]:
        return [
            BrokerTrust(
                store=services.authorities,
                bundle=lambda: services.trust.bundle,
                control=control,
                gives=bool(settings.broker.deny_file),
                now=utc_now,
                revoked=services.authority.revoked,
            ),
            TrustPush(store=services.authorities, book=services.trust, publisher=control, broker=control, now=utc_now),
        ]

    return Engine(
        broker=settings.broker,
        anchors=services.authority.anchors_pem,
        store=services.store,
        jobs=services.jobs,
        service=services.rotation,
        threads=settings.server.workers,
        now=utc_now,
        work=[
            CampaignRunner(
                campaigns=services.campaigns,
                now=utc_now,
                tracer=tracer,
                outside=OutsideChecks(settings.rotation.check_origins),
            )
        ],
        at_broker=at_broker,
        rabbit=_rabbit_needs(settings, services) if settings.broker.kind == "rabbitmq" else None,
    )


def _rabbit_needs(settings: Settings, services: Services) -> RabbitNeeds:
    records = StoreRecords(
        store=services.store,
        authority=services.authority,
        make_crls=services.crls.make_anew,
        crl_folder=crl_folder(open_deny_file(settings.broker)),
        now=utc_now,
    )
    return RabbitNeeds(records, crl_every_s=min(settings.crl.refresh_s, settings.crl.lifetime_s / 4))


def _deny_version(broker: BrokerSettings) -> Callable[[], int] | None:
    """Return what tells the version of the deny list that the gates should have, None where there is no deny file."""
    return open_deny_file(broker).version if broker.deny_file else None


def _deny_file_keeper(settings: Settings, services: Services) -> DenyFileKeeper:
    return DenyFileKeeper(
        deny_file=open_deny_file(settings.broker), store=services.store, authority=services.authority, now=utc_now
    )


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
