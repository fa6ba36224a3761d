"""The brokers' part: they are given the trust bundle's CAs, and what each gate then goes by is kept on record.

One server at least must be able to write a broker's CA files: one on its machine, with `[broker] deny_file`. Any other
that is connected only asks. What a broker says is worth a minute (readiness.py). A CA that its root has revoked is
given to none: the record may still have it, and the bundle, for as long as certificates stand below it.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Final, Protocol

from cryptography import x509

from birthmark_server.authorities import PeerReport
from birthmark_server.broker.errors import BrokerRefused, BrokerUnavailable
from birthmark_server.broker.trust_files import IssuersInForce
from birthmark_server.errors import Misconfigured
from birthmark_server.store.authority_protocol import AuthorityStore
from birthmark_wire.errors import DecodeError
from birthmark_wire.trust import IssuerKind, TrustBundle

LOOK: Final = timedelta(seconds=5)
_log: Final = logging.getLogger(__name__)


class Control(Protocol):
    """The part of broker.shards.ShardedControl that this one needs."""

    @property
    def live(self) -> bool: ...

    def update_trust(
        self,
        *,
        roots: list[x509.Certificate],
        fleet: list[x509.Certificate],
        infra: list[x509.Certificate],
        links: list[x509.Certificate] = ...,
    ) -> IssuersInForce: ...

    def each_issuers(self) -> Mapping[str, IssuersInForce]: ...


class BrokerTrust:
    """See engine.Work. gives: whether this server writes the CA files. bundle: the one in force, None without one.
    revoked: the CAs of this server's folder that their root has revoked."""

    def __init__(
        self,
        *,
        store: AuthorityStore,
        bundle: Callable[[], TrustBundle | None],
        control: Control,
        gives: bool,
        now: Callable[[], datetime],
        revoked: Collection[x509.Certificate] = (),
    ) -> None:
        self._revoked = frozenset(revoked)
        self._store = store
        self._bundle = bundle
        self._control = control
        self._gives = gives
        self._now = now
        self._given = 0
        self._wanted = 0
        self._look_at: datetime | None = None

    def run(self) -> int:
        """Give the brokers what is new, and note by what they go; now and then."""
        now, bundle = self._now(), self._bundle()
        wanted = bundle.version if bundle else 0
        if not self._control.live or (wanted == self._wanted and self._look_at is not None and now < self._look_at):
            return 0
        self._wanted, self._look_at = wanted, now + LOOK
        detail = self._give(bundle) if bundle and self._gives and wanted != self._given else ""
        try:
            asked = self._control.each_issuers()
        except (BrokerUnavailable, BrokerRefused, DecodeError) as error:
            _log.warning("brokers not asked for their CAs", extra={"fields": {"reason": str(error)}})
            return 0
        for name, seen in asked.items():
            said = detail or ("it can't read its CA files: its log says why" if seen.stale else "")
            self._store.note_broker(PeerReport(name, tuple(sorted(seen.fleet | seen.infra)), self._now(), said))
        return 0

    def _give(self, bundle: TrustBundle) -> str:
        """Have the brokers go by a bundle; return why they don't, empty if all do that answered."""
        try:
            self._control.update_trust(
                roots=list(map(x509.load_der_x509_certificate, bundle.roots)),
                fleet=self._issuers(bundle, IssuerKind.FLEET),
                infra=self._issuers(bundle, IssuerKind.INFRA),
                links=list(map(x509.load_der_x509_certificate, bundle.links)),
            )
        except (BrokerUnavailable, BrokerRefused, Misconfigured, OSError) as error:
            _log.error("brokers not given the trust bundle", extra={"fields": {"reason": str(error)}})
            return str(error)
        self._given = bundle.version
        _log.info("brokers go by the trust bundle", extra={"fields": {"version": bundle.version}})
        return ""

    def _issuers(self, bundle: TrustBundle, kind: IssuerKind) -> list[x509.Certificate]:
        found = [x509.load_der_x509_certificate(one.certificate) for one in bundle.issuers if one.kind is kind]
        return [one for one in found if one not in self._revoked]
