"""What stands behind the doors: authority, trust store and database, and the services that are made of them."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from birthmark_server.attestation.roots import TrustStore
from birthmark_server.ca import passphrase
from birthmark_server.ca.authority import Authority
from birthmark_server.enrollment import EnrollmentPolicy, EnrollmentService
from birthmark_server.factory.entries import EntryService
from birthmark_server.meters import Meters
from birthmark_server.presence import assignment_of
from birthmark_server.refusals import RefusalBook
from birthmark_server.renewal import RenewalPolicy, RenewalService
from birthmark_server.rollover.record import RecordKeeper
from birthmark_server.rollover.service import RolloverService
from birthmark_server.rollover.trust import TrustBook
from birthmark_server.rotation.service import RotationPolicy, RotationService
from birthmark_server.rotation.signer import CommandSigner
from birthmark_server.settings import BrokerSettings, Settings
from birthmark_server.store.authority_protocol import AuthorityStore
from birthmark_server.store.campaign_protocol import CampaignStore
from birthmark_server.store.job_protocol import JobStore
from birthmark_server.store.open import open_store
from birthmark_server.store.protocol import Store
from birthmark_server.store.workorder_protocol import WorkOrderStore
from birthmark_server.tracing import NO_TRACE, Tracer
from birthmark_server.web.crl import CrlPublisher
from birthmark_server.web.ocsp import OcspResponder


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
    authorities: AuthorityStore
    workorders: WorkOrderStore
    entries: EntryService
    record: RecordKeeper
    trust: TrustBook
    rollover: RolloverService
    crls: CrlPublisher
    ocsp: OcspResponder
    meters: Meters


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def open_services(settings: Settings, *, now: Callable[[], datetime] = utc_now, tracer: Tracer = NO_TRACE) -> Services:
    """Open CA, trust store and database and build the services. Raise Misconfigured for what is wrong."""
    secret = passphrase.read(settings.ca.passphrase) if settings.ca.passphrase else b""
    authority = Authority.load(Path(settings.ca.folder), passphrase=secret, now=now())
    roots = TrustStore.load(Path(settings.tpm.roots))
    store = open_store(settings.database.url, journal=Path(settings.database.journal))
    signer = _command_signer(settings.broker)
    trust = TrustBook(store=store.authorities, sign=signer.sign_trust if signer else None)
    record = RecordKeeper(
        store=store.authorities,
        authority=authority,
        name=f"{socket.gethostname()} {settings.server.listen}",
        now=now,
        changed=trust.refresh,
    )
    record.open()
    meters = Meters()
    refusals = RefusalBook(store, count=meters.refused)
    enrollment = EnrollmentService(
        store=store,
        authority=authority,
        roots=roots,
        policy=EnrollmentPolicy(
            server_names=frozenset(settings.server.names),
            public_url=settings.public_url,
            broker_of=assignment_of(settings.broker).endpoint,
            challenge_ttl=timedelta(seconds=settings.enrollment.challenge_ttl_s),
            answer_ttl=timedelta(seconds=settings.enrollment.answer_ttl_s),
            most_challenges_per_source=settings.enrollment.most_challenges_per_source,
        ),
        refusals=refusals,
        now=now,
        random=os.urandom,
        tracer=tracer,
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
        tracer=tracer,
    )
    rotation = RotationService(
        store=store,
        jobs=store.jobs,
        renewal=renewal,
        authority=authority,
        signer=signer,
        policy=RotationPolicy(
            nonce_ttl=timedelta(seconds=settings.est.nonce_ttl_s),
            silence=timedelta(seconds=settings.rotation.silence_s),
            most_under_way=settings.rotation.most_under_way,
            spread=timedelta(seconds=settings.rotation.spread_s),
        ),
        refusals=refusals,
        trust=trust,
        random=os.urandom,
        tracer=tracer,
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
        store=store,
        authority=authority,
        roots=roots,
        enrollment=enrollment,
        renewal=renewal,
        rotation=rotation,
        jobs=store.jobs,
        campaigns=store.campaigns,
        authorities=store.authorities,
        workorders=store.workorders,
        entries=EntryService(store=store, workorders=store.workorders, authority=authority, refusals=refusals, now=now),
        record=record,
        trust=trust,
        rollover=RolloverService(
            store=store.authorities,
            authority=lambda: authority,
            now=now,
            window=timedelta(seconds=settings.rollover.seen_within_s),
        ),
        crls=crls,
        ocsp=ocsp,
        meters=meters,
    )


def _command_signer(broker: BrokerSettings) -> CommandSigner | None:
    if not broker.command_certificate:
        return None
    return CommandSigner.load(Path(broker.command_certificate), Path(broker.command_key))
