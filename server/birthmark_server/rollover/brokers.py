"""The broker's part: it is given the trust bundle's CAs, and what its gate then goes by is kept on record.

One server at least must be able to write the broker's CA files: one on its machine, with `[broker] deny_file`. Any
other that is connected only asks. What a broker says is worth a minute (readiness.py).
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

from cryptography import x509

from birthmark_server.authorities import PeerReport
from birthmark_server.broker.errors import BrokerRefused, BrokerUnavailable
from birthmark_server.broker.trust_files import IssuersInForce
from birthmark_server.errors import Misconfigured
from birthmark_server.store.authority_protocol import AuthorityStore
from birthmark_wire.trust import IssuerKind, TrustBundle

LOOK: Final = timedelta(seconds=5)
_log: Final = logging.getLogger(__name__)

Update = Callable[[TrustBundle], IssuersInForce]
"""Has the broker go by a bundle; see update_by."""


class Control(Protocol):
    """The part of broker.control.BrokerControl that this one needs."""

    def update_trust(
        self,
        *,
        roots: list[x509.Certificate],
        fleet: list[x509.Certificate],
        infra: list[x509.Certificate],
        links: list[x509.Certificate] = ...,
    ) -> IssuersInForce: ...


def update_by(control: Control) -> Update:
    """Return how a broker is given a bundle by its control."""

    def update(bundle: TrustBundle) -> IssuersInForce:
        return control.update_trust(
            roots=list(map(x509.load_der_x509_certificate, bundle.roots)),
            fleet=_issuers(bundle, IssuerKind.FLEET),
            infra=_issuers(bundle, IssuerKind.INFRA),
            links=list(map(x509.load_der_x509_certificate, bundle.links)),
        )

    return update


def _issuers(bundle: TrustBundle, kind: IssuerKind) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(one.certificate) for one in bundle.issuers if one.kind is kind]


class BrokerTrust:
    """See engine.Work. name: the broker's address. update: None where this server can't write its files. ask: by what
    it goes. bundle: the one in force, None while there is none; live: whether the broker can be asked."""

    def __init__(
        self,
        *,
        store: AuthorityStore,
        name: str,
        bundle: Callable[[], TrustBundle | None],
        update: Update | None,
        ask: Callable[[], IssuersInForce],
        live: Callable[[], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._name = name
        self._bundle = bundle
        self._update = update
        self._ask = ask
        self._live = live
        self._now = now
        self._given = 0
        self._wanted = 0
        self._look_at: datetime | None = None

    def run(self) -> int:
        """Give the broker what is new, and note by what it goes; now and then."""
        now, bundle = self._now(), self._bundle()
        wanted = bundle.version if bundle else 0
        if not self._live() or (wanted == self._wanted and self._look_at is not None and now < self._look_at):
            return 0
        self._wanted, self._look_at = wanted, now + LOOK
        try:
            self._store.note_broker(self._looked(bundle))
        except (BrokerUnavailable, BrokerRefused) as error:
            _log.warning("broker not asked for its CAs", extra={"fields": {"reason": str(error)}})
        return 0

    def _looked(self, bundle: TrustBundle | None) -> PeerReport:
        detail = ""
        if bundle is not None and self._update is not None and bundle.version != self._given:
            try:
                self._update(bundle)
                self._given = bundle.version
                _log.info("broker goes by the trust bundle", extra={"fields": {"version": bundle.version}})
            except (BrokerUnavailable, Misconfigured, OSError) as error:
                detail = str(error)
                _log.error("broker not given the trust bundle", extra={"fields": {"reason": detail}})
        seen = self._ask()
        if seen.stale and not detail:
            detail = "it can't read its CA files: its log says why"
        return PeerReport(self._name, tuple(sorted(seen.fleet | seen.infra)), self._now(), detail)
