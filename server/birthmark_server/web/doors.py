"""Which request goes where, and who may make it.

Every route declares its door: who is let in. A route without one can't be written down (CVE-2026-1709 was a route
that everybody could use because nobody had said otherwise). Each request is judged by itself, not by its handshake: a
connection may outlive the certificate it was opened with.
"""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final, Protocol

from birthmark_server.ca.record import common_name
from birthmark_server.domain import Caller, CertificateProfile, CertificateRecord, Device, DeviceState
from birthmark_server.errors import Misconfigured
from birthmark_server.roles import PROFILE_OF, ROLE_OF, Role, RoleNotAllowed
from birthmark_server.web.contract import Contract
from birthmark_server.web.errors import (
    CertificateMisused,
    CertificateOutOfDate,
    CertificateRequired,
    CertificateRevoked,
    CertificateUnknown,
    MethodNotAllowed,
    NoSuchResource,
    OwnerNotActive,
)

_SEGMENT: Final = "{id}"
_REST: Final = "{rest}"


@dataclass(frozen=True, slots=True)
class Door:
    """Who is let in. anonymous: without a client certificate. profiles: with a certificate of one of these roles.

    A door with `ignore_certificate` asks nobody for anything: what is behind it is public.
    """

    profiles: frozenset[CertificateProfile] = frozenset()
    anonymous: bool = False
    ignore_certificate: bool = False


PUBLIC: Final = Door(anonymous=True, ignore_certificate=True)
ENROLLMENT: Final = Door(frozenset({CertificateProfile.STATION}), anonymous=True)
BORN: Final = Door(frozenset({CertificateProfile.IDEVID}))
OPERATIONAL: Final = Door(frozenset({CertificateProfile.LDEVID, CertificateProfile.LDEVID_SOFTWARE}))
ATTESTED: Final = Door(frozenset({CertificateProfile.IDEVID, CertificateProfile.LDEVID}))


def for_roles(roles: Iterable[Role]) -> Door:
    """Return the door of operators with one of these roles."""
    wanted = frozenset(roles)
    return Door(frozenset(profile for profile, role in ROLE_OF.items() if role in wanted))


OPERATORS: Final = for_roles(Role)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read, by whoever it is.

    address: what limits go by, where nothing better is proven. certificate: the client certificate (DER) whose key the
    TLS layer saw proven and whose chain it verified up to the root; None without one. media_type: lower case, without
    parameters. argument: what stood for `{id}` or `{rest}` in the path, query: what follows its `?`; both as sent.
    """

    request_id: str
    address: str
    certificate: bytes | None = None
    body: bytes = b""
    media_type: str = ""
    argument: str = ""
    query: str = ""
    idempotency_key: str = ""
    if_none_match: str = ""
    if_modified_since: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. headers: beside Content-Type and Content-Length."""

    status: int
    body: bytes
    media_type: str
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Call, Caller], Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """One resource. path: `{id}` stands for one segment, `{rest}` at its end for one or more.

    est: errors are worded as RFC 7030 wants them.
    cheap: answered from memory, on the event loop; all others run in a worker. A cheap one is public.
    most_body_bytes: more than the settings' limit; the door is then looked at before the body is read. 0: that limit.
    alone: acts on more than the store, which must have it on its disk before: not part of a batch (workers.py).
    contract: what goes in and comes out, for who writes to it (openapi.py); None where docs/protocol.md says so.
    """

    method: str
    path: str
    door: Door
    handler: Handler
    est: bool = False
    cheap: bool = field(default=False, kw_only=True)
    most_body_bytes: int = field(default=0, kw_only=True)
    alone: bool = field(default=False, kw_only=True)
    contract: Contract | None = field(default=None, kw_only=True)


class Router:
    """Finds the route of a request. Raises Misconfigured where a route is written twice or lets nobody in."""

    __slots__ = ("_exact", "_folders", "_patterns")

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[str, str, dict[str, Route]]] = []
        self._folders: dict[str, dict[str, Route]] = {}
        for route in routes:
            if not route.door.anonymous and not route.door.profiles:
                raise Misconfigured(f"{route.method} {route.path} does not say who may use it")
            if route.cheap and not route.door.ignore_certificate:
                raise Misconfigured(f"{route.method} {route.path} looks up certificates: not on the event loop")
            methods = self._methods(route.path)
            if route.method in methods:
                raise Misconfigured(f"{route.method} {route.path} is declared twice")
            methods[route.method] = route

    def _methods(self, path: str) -> dict[str, Route]:
        if path.endswith(_REST):
            return self._folders.setdefault(path.removesuffix(_REST), {})
        head, segment, tail = path.partition(_SEGMENT)
        if not segment:
            return self._exact.setdefault(path, {})
        for known_head, known_tail, methods in self._patterns:
            if (known_head, known_tail) == (head, tail):
                return methods
        methods = {}
        self._patterns.append((head, tail, methods))
        return methods

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """Return the route and what stands for `{id}`. Raise NoSuchResource, MethodNotAllowed."""
        methods, argument = self._exact.get(path), ""
        if methods is None:
            methods, argument = self._match(path)
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            raise MethodNotAllowed(f"want {' or '.join(sorted(methods))}, got {method[:16]}")
        return route, argument

    def _match(self, path: str) -> tuple[dict[str, Route], str]:
        for head, tail, methods in self._patterns:
            middle = path[len(head) : len(path) - len(tail)]
            if path.startswith(head) and path.endswith(tail) and middle and "/" not in middle:
                return methods, middle
        for head, methods in self._folders.items():
            if path.startswith(head) and len(path) > len(head):
                return methods, path[len(head) :]
        raise NoSuchResource(f"nothing is served at {path[:200]}")


class DoorStore(Protocol):
    """What a door needs of store.protocol.Store."""

    def certificate_by_sha256(self, sha256: str) -> tuple[CertificateRecord, Device | None] | None:
        """The certificate and its device, or None: a certificate that we do not know is nobody's."""


def identify(store: DoorStore, door: Door, call: Call, *, issuers: Container[str], now: datetime) -> Caller:
    """Return who calls, or raise a NotYourDoor that says why `door` stays shut.

    issuers: SHA-256 of the CA certificates that are believed.
    """
    certificate = call.certificate
    if certificate is None or door.ignore_certificate:
        if not door.anonymous:
            raise CertificateRequired("this resource needs a client certificate, and none was sent")
        return Caller(call.request_id, call.address)
    found = store.certificate_by_sha256(sha256(certificate).hexdigest())
    if found is None:
        raise CertificateUnknown("the client certificate is not on record here")
    record, device = found
    _check_certificate(record, door, issuers=issuers, now=now)
    if device is not None and device.state is not DeviceState.ACTIVE:
        raise OwnerNotActive(f"device {device.device_id} is {device.state}")
    if record.device_id and device is None:
        raise CertificateUnknown(f"device {record.device_id} is not on record here")
    station = common_name(record.subject) if record.profile is CertificateProfile.STATION else ""
    return Caller(call.request_id, station or call.address, station=station, certificate=record, device=device)


def _check_certificate(record: CertificateRecord, door: Door, *, issuers: Container[str], now: datetime) -> None:
    if record.issuer_sha256 not in issuers:
        raise CertificateUnknown("the client certificate's issuer is not one of this server's CAs")
    if record.revoked_at is not None:
        raise CertificateRevoked(f"certificate {record.serial_number} is revoked")
    if not record.not_before <= now <= record.not_after:
        raise CertificateOutOfDate(
            f"certificate {record.serial_number} is valid from {record.not_before:%Y-%m-%dT%H:%M:%SZ} to "
            f"{record.not_after:%Y-%m-%dT%H:%M:%SZ}, and it is {now:%Y-%m-%dT%H:%M:%SZ}"
        )
    if record.profile in ROLE_OF and door.profiles & ROLE_OF.keys() and record.profile not in door.profiles:
        wanted = " or ".join(role for role, profile in PROFILE_OF.items() if profile in door.profiles)
        raise RoleNotAllowed(f"this is for the role {wanted}, and the certificate's is {ROLE_OF[record.profile]}")
    if record.profile not in door.profiles:
        wanted = " or ".join(sorted(door.profiles)) or "no certificate"
        raise CertificateMisused(f"this resource wants {wanted}, got a certificate of profile {record.profile}")
