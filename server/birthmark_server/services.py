"""What stands behind the doors: authority, trust store and database, and the services that are made of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from birthmark_server.attestation.roots import TrustStore
from birthmark_server.ca import passphrase
from birthmark_server.ca.authority import Authority
from birthmark_server.enrollment import EnrollmentPolicy, EnrollmentService
from birthmark_server.meters import Meters
from birthmark_server.presence import assignment_of
from birthmark_server.refusals import RefusalBook
from birthmark_server.renewal import RenewalPolicy, RenewalService
from birthmark_server.rotation.service import RotationPolicy, RotationService
from birthmark_server.rotation.signer import CommandSigner
from birthmark_server.settings import BrokerSettings, Settings
from birthmark_server.store.campaign_protocol import CampaignStore
from birthmark_server.store.job_protocol import JobStore
from birthmark_server.store.open import open_store
from birthmark_server.store.protocol import Store
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
        signer=_command_signer(settings.broker),
        policy=RotationPolicy(
            nonce_ttl=timedelta(seconds=settings.est.nonce_ttl_s),
            silence=timedelta(seconds=settings.rotation.silence_s),
            most_under_way=settings.rotation.most_under_way,
            spread=timedelta(seconds=settings.rotation.spread_s),
        ),
        refusals=refusals,
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
        store, authority, roots, enrollment, renewal, rotation, store.jobs, store.campaigns, crls, ocsp, meters
    )


def _command_signer(broker: BrokerSettings) -> CommandSigner | None:
    if not broker.command_certificate:
        return None
    return CommandSigner.load(Path(broker.command_certificate), Path(broker.command_key))
