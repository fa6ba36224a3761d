"""Certificate revocation lists over plain HTTP (RFC 5280 §4.2.1.13), where the certificates say that they are.

A list is signed, so it needs no TLS, and fetching it over TLS could need the list itself. Lists are made in the
background and served from memory with ETag, Last-Modified and Cache-Control, so that caches in between do their work.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from birthmark_server.ca.authority import Authority
from birthmark_server.ca.crl import build_crl
from birthmark_server.ca.extensions import ROOT_NAME
from birthmark_server.ca.issuer import Issuer
from birthmark_server.domain import Caller
from birthmark_server.store.protocol import Store
from birthmark_server.web.doors import PUBLIC, Answer, Call, Route
from birthmark_server.web.errors import NoSuchResource

log = logging.getLogger("birthmark.crl")

CRL_MIME: Final = "application/pkix-crl"  # RFC 2585 §4.2


@dataclass(frozen=True, slots=True)
class PublishedCrl:
    """One list as it is served."""

    der: bytes
    etag: str
    made_at: datetime
    next_update: datetime | None


class CrlPublisher:
    """Makes and serves the lists of all our CAs. lifetime: from thisUpdate to nextUpdate."""

    def __init__(
        self,
        *,
        store: Store,
        authority: Authority,
        lifetime: timedelta,
        refresh: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._authority = authority
        self._lifetime = lifetime
        self._refresh = refresh
        self._now = now
        root = authority.root_crl
        self._lists = {ROOT_NAME: PublishedCrl(root, _etag(root), now().replace(microsecond=0), None)}

    @property
    def interval(self) -> timedelta:
        """How often `refresh` must be called: as configured, and at least four times within a list's lifetime."""
        return min(self._refresh, self._lifetime / 4)

    def refresh(self) -> None:
        """Make a new list for every issuer. What fails for one leaves its old list in place and is logged."""
        for issuer in self._authority.issuers:
            try:
                self._lists[issuer.name] = self._make(issuer)
            except Exception:
                log.exception("crl not made", extra={"fields": {"issuer": issuer.name}})

    def _make(self, issuer: Issuer) -> PublishedCrl:
        now = self._now().replace(microsecond=0)
        next_update = now + self._lifetime
        der = build_crl(
            issuer,
            self._store.revoked_certificates(issuer.sha256, at=now),
            number=self._store.next_crl_number(issuer.sha256),
            now=now,
            next_update=next_update,
        )
        log.info("crl made", extra={"fields": {"issuer": issuer.name, "bytes": len(der)}})
        return PublishedCrl(der, _etag(der), now, next_update)

    def routes(self) -> list[Route]:
        """Return the route under which the certificates' distribution points lead here."""
        folder = urlsplit(self._authority.namespace.public_url).path.rstrip("/")
        return [Route("GET", f"{folder}/crl/{{id}}", PUBLIC, self._serve, cheap=True)]

    def _serve(self, call: Call, _caller: Caller) -> Answer:
        published = self._lists.get(call.argument.removesuffix(".crl"))
        if published is None or not call.argument.endswith(".crl"):
            raise NoSuchResource(f"no CRL is called {call.argument[:80]}")
        headers = (
            ("ETag", published.etag),
            ("Last-Modified", format_datetime(published.made_at, usegmt=True)),
            ("Cache-Control", f"public, max-age={int(self.interval.total_seconds())}"),
        )
        if _unchanged(call, published):
            return Answer(304, b"", CRL_MIME, headers)
        return Answer(200, published.der, CRL_MIME, headers)


def _etag(der: bytes) -> str:
    return f'"{sha256(der).hexdigest()[:32]}"'


def _unchanged(call: Call, published: PublishedCrl) -> bool:
    """Return whether the client has this very list already (RFC 9110 §13.2.2: the ETag wins over the date)."""
    if call.if_none_match:
        return call.if_none_match.strip() == "*" or published.etag in (
            tag.strip().removeprefix("W/") for tag in call.if_none_match.split(",")
        )
    try:
        return bool(call.if_modified_since) and published.made_at <= parsedate_to_datetime(call.if_modified_since)
    except (ValueError, TypeError):
        return False
