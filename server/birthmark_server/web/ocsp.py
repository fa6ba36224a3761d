"""The OCSP responder (RFC 6960 appendix A, RFC 5019): over plain HTTP, beside the CRLs.

Each issuing CA has a signer, certified for two days and renewed by this process from the CA's key; the signer's own key
is never on a disk. Answers are kept by what was asked, signed already, until half of their time is over; all that an
issuer's signer said is thrown away as soon as anything of that issuer is revoked, by whatever process: `refresh` looks
once a second. An answer to a nonce is made for that one request.

What is kept is bounded, and holds only serial numbers that were issued: who asks for others fills nothing.
"""

import logging
import threading
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from birthmark_server.ca.authority import Authority
from birthmark_server.ca.issuer import Issuer
from birthmark_server.ca.ocsp import IssuerId, OcspRequest, OcspSigner, Trouble, issuer_ids, read_request, trouble
from birthmark_server.ca.record import to_record
from birthmark_server.domain import Caller, CertificateProfile, CertificateRecord, CertificateStatus
from birthmark_server.errors import Busy, Malformed
from birthmark_server.store.errors import StoreFailed
from birthmark_server.web.doors import PUBLIC, Answer, Call, Route

log = logging.getLogger("birthmark.ocsp")

REQUEST_MIME: Final = "application/ocsp-request"
RESPONSE_MIME: Final = "application/ocsp-response"  # RFC 6960 appendix A, both
BY: Final = "service:ocsp"
"""Under which name a signer's certificate is recorded."""
MOST_KEPT: Final = 50_000
"""Answers kept for one issuer: some 50 MiB. Beyond that all are thrown away and made again."""
RETRY: Final = timedelta(minutes=1)
MOST_GET: Final = 1024
"""Characters of a request in a URL: thrice what any client of one certificate sends."""
MAX_AGE_S: Final = 60
"""How long a cache may keep an answer without asking: a revocation shall not wait for it."""


class OcspStore(Protocol):
    """What answers rest on: a part of store.protocol.Store, which says what each promises."""

    def certificate_status(self, issuer_sha256: str, serial_number: str) -> CertificateStatus | None: ...

    def count_revoked(self, issuer_sha256: str) -> int: ...

    def add_infrastructure_certificate(self, certificate: CertificateRecord, *, by: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Said:
    """One answer, signed. kept_until: until when it may be given again; made_at, next_update: as it says itself."""

    der: bytes
    made_at: datetime
    next_update: datetime
    kept_until: datetime


@dataclass(slots=True)
class _Desk:
    """What one issuer's signer needs, and what it said. revoked: how many were, when the last of it was thrown away."""

    issuer: Issuer
    signer: OcspSigner | None = None
    renew_at: datetime | None = None
    revoked: int = -1
    round: int = 0
    failed_at: datetime | None = None
    said: dict[bytes, Said] = field(default_factory=dict)


class OcspResponder:
    """Answers for all issuing CAs. `refresh` is to be called once a second, and once before anything is asked.

    lifetime: from an answer's making to its nextUpdate. Thread-safe.
    """

    def __init__(
        self, *, store: OcspStore, authority: Authority, lifetime: timedelta, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._lifetime = lifetime
        self._now = now
        self._folder = urlsplit(authority.namespace.public_url).path.rstrip("/")
        self._desks = [_Desk(issuer) for issuer in authority.issuers]
        self._by_id: dict[IssuerId, _Desk] = {
            name: desk for desk in self._desks for name in issuer_ids(desk.issuer.certificate)
        }
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Renew signers, and throw away what may be true no more. What fails for one CA is logged, and tried again."""
        for desk in self._desks:
            for work in (self._renew, self._look):
                try:
                    work(desk)
                except Exception as error:  # noqa: BLE001 - whatever it is, the next CA has its turn, and it is logged
                    self._failed(desk, error)

    def _look(self, desk: _Desk) -> None:
        """Throw away what was said before the last revocation."""
        revoked = self._store.count_revoked(desk.issuer.sha256)
        if revoked != desk.revoked:
            with self._lock:
                desk.revoked, desk.round, desk.said = revoked, desk.round + 1, {}

    def _failed(self, desk: _Desk, error: Exception) -> None:
        """Keep nothing that may be true no more; say so once a minute."""
        now = self._now()
        with self._lock:
            desk.revoked, desk.round, desk.said = -1, desk.round + 1, {}
        if desk.failed_at is None or not timedelta(0) <= now - desk.failed_at < RETRY:
            desk.failed_at = now
            log.error("ocsp not refreshed", exc_info=error, extra={"fields": {"issuer": desk.issuer.name}})

    def _renew(self, desk: _Desk) -> None:
        """Have the CA certify a new signer once half of the last one's time is over; the record comes first."""
        now = self._now()
        if desk.renew_at is not None and now < desk.renew_at:
            return
        desk.renew_at = now + RETRY
        signer = OcspSigner.create(desk.issuer, now=now)
        record = to_record(
            signer.certificate,
            issuer=desk.issuer,
            profile=CertificateProfile.OCSP,
            issued_at=now.replace(microsecond=0),
        )
        self._store.add_infrastructure_certificate(record, by=BY)
        with self._lock:
            desk.signer, desk.round, desk.said = signer, desk.round + 1, {}
            desk.renew_at = now + (record.not_after - now) / 2
        log.info("ocsp signer", extra={"fields": {"issuer": desk.issuer.name, "until": f"{record.not_after:%FT%TZ}"}})

    def answer(self, request_der: bytes) -> Said | Trouble:
        """Return what is said to this request. Never raises: whatever goes wrong is one of OCSP's own troubles."""
        try:
            if (kept := self._find(request_der)) is not None:  # only requests without a nonce are
                return kept
            request = read_request(request_der)
            desk = self._by_id.get(request.issuer)
            if desk is None:
                return Trouble.UNAUTHORIZED
            return self._said(desk, request, request_der) or Trouble.TRY_LATER
        except Malformed:
            return Trouble.MALFORMED_REQUEST
        except (Busy, StoreFailed) as error:
            log.warning("ocsp not answered", extra={"fields": {"detail": str(error)}})
            return Trouble.TRY_LATER
        except Exception:
            log.exception("ocsp failed")
            return Trouble.INTERNAL_ERROR

    def _said(self, desk: _Desk, request: OcspRequest, request_der: bytes) -> Said | None:
        """Return the answer, made anew; None while the CA has no signer."""
        now = self._now().replace(microsecond=0)
        with self._lock:  # a signer, and the round that its answers belong to
            signer, current = desk.signer, desk.round
        if signer is None or now >= signer.certificate.not_valid_after_utc:
            return None
        status = self._store.certificate_status(desk.issuer.sha256, f"{request.serial_number:x}")
        next_update = min(now + self._lifetime, signer.certificate.not_valid_after_utc)
        der = signer.answer(request, status, now=now, next_update=next_update)
        said = Said(der, now, next_update, now + (next_update - now) / 2)
        if request.nonce is None and status is not None:
            with self._lock:  # what was read before a revocation is not kept after it
                if desk.round == current:
                    if len(desk.said) >= MOST_KEPT:
                        desk.said.clear()
                    desk.said[request_der] = said
        return said

    def kept(self, method: str, call: Call) -> Answer | None:
        """Return what the routes below would answer, if it is kept."""
        if method == "POST":
            known = not call.argument and call.media_type == REQUEST_MIME and self._find(call.body)
            return _http(known, call, ()) if known else None
        request_der = _from_url(call.argument) if call.argument else None
        known = request_der is not None and self._find(request_der)
        return _http(known, call, _cached(known)) if known else None

    def _find(self, request_der: bytes) -> Said | None:
        """Return what was said to this very request, as long as it may be said again."""
        for desk in self._desks:
            if (kept := desk.said.get(request_der)) is not None and self._now() < kept.kept_until:
                return kept
        return None

    @property
    def folder(self) -> str:
        """Below which path the routes are."""
        return f"{self._folder}/ocsp"

    def routes(self) -> list[Route]:
        """Return the responder's address, for POST and GET."""
        return [
            Route("POST", self.folder, PUBLIC, self._post),
            Route("GET", f"{self.folder}/{{rest}}", PUBLIC, self._get),
        ]

    def _post(self, call: Call, _caller: Caller) -> Answer:
        return _http(self.answer(call.body) if call.media_type == REQUEST_MIME else Trouble.MALFORMED_REQUEST, call, ())

    def _get(self, call: Call, _caller: Caller) -> Answer:
        request_der = _from_url(call.argument)
        said = Trouble.MALFORMED_REQUEST if request_der is None else self.answer(request_der)
        return _http(said, call, () if isinstance(said, Trouble) else _cached(said))


def _from_url(text: str) -> bytes | None:
    """Return the request in a URL's end: base64, percent-encoded where the client knew that it must be."""
    if len(text) > MOST_GET:
        return None
    try:
        return b64decode(unquote(text), validate=True)
    except (Base64Error, ValueError):
        return None


def _cached(said: Said) -> tuple[tuple[str, str], ...]:
    """What RFC 5019 §6.2 tells a cache; it may keep an answer for MAX_AGE_S, a revocation waits for no nextUpdate."""
    return (
        ("Last-Modified", format_datetime(said.made_at, usegmt=True)),
        ("Expires", format_datetime(said.next_update, usegmt=True)),
        ("Cache-Control", f"max-age={MAX_AGE_S}, public, no-transform, must-revalidate"),
    )


def _http(said: Said | Trouble, call: Call, headers: tuple[tuple[str, str], ...]) -> Answer:
    """Return HTTP's 200 whatever OCSP says (RFC 6960 appendix A.2), or 304 for the very answer that a cache has."""
    if isinstance(said, Trouble):
        return Answer(200, trouble(said), RESPONSE_MIME, (("Cache-Control", "no-store"),))
    if not headers:
        return Answer(200, said.der, RESPONSE_MIME, (("Cache-Control", "no-store"),))
    etag = f'"{sha256(said.der).hexdigest()}"'
    if etag in call.if_none_match:
        return Answer(304, b"", RESPONSE_MIME, (("ETag", etag), *headers))
    return Answer(200, said.der, RESPONSE_MIME, (("ETag", etag), *headers))
