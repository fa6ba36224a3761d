"""Trust bundles: which roots a device pins from now on, and what it says to that.

    server                                          device
    down/trust   TrustBundle, a JWS           ->    signer, version and links checked; on disk
                                              <-    up/trust   TrustAck: adopted, or refused and why

The same JWS is pulled over HTTPS (TRUST_PATH), by who can't reach its broker. It is signed as commands are, by a key
below a root that the device trusts. That key may order the roots; it can't make one: a root that the device does not
know yet counts only if one of `links` leads to it, a certificate for its name and key that a root which the device
trusts has signed (NewWithOld, RFC 4210 §4.4). Such a certificate is made where the old root's key is, offline. And the
signer must stand below the roots of the new bundle as well: whoever ordered them can still be understood afterwards.

Versions rise. A device never takes one below the one that it has, and answers that one again. None is higher than the
seconds since 1970: so nobody, with a stolen key or a false acknowledgement, can use up those to come.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from birthmark_wire import PROTOCOL
from birthmark_wire.encoding import JsonObject, b64, read_json, write_json
from birthmark_wire.errors import DecodeError
from birthmark_wire.time import read_time, write_time

TRUST_TYPE: Final = "birthmark-trust"
TRUST_PATH: Final = "/v1/trust"
TRUST_CONTENT_TYPE: Final = "application/jose"
TRUST_STALE: Final = "trust-stale"
"""The code of a TrustAck by who was sent a version that is not above its own, and is not the one that it has."""
MAX_TRUST_BYTES: Final = 65_536
"""Of the whole JWS."""

MOST_VERSION: Final = 2**53 - 1
CLOCKS_APART: Final = timedelta(days=1)
_MOST_ROOTS: Final = 4
_MOST_LINKS: Final = 12
_MOST_ISSUERS: Final = 16
_MAX_CERTIFICATE_BYTES: Final = 8192
_CODE = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)


def most_version(at: datetime) -> int:
    """Return the highest version that there can be at that moment."""
    return int(at.timestamp())


class IssuerKind(StrEnum):
    """Whose certificates a broker meets: devices' are of a Fleet CA, control identities' of an Infra CA."""

    FLEET = "fleet"
    INFRA = "infra"


@dataclass(frozen=True, slots=True)
class BundleIssuer:
    """An issuing CA that is believed. certificate: DER. Devices pass over these; brokers go by them."""

    kind: IssuerKind
    certificate: bytes


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The payload. version: 1 at least. roots, links: DER; the first root is the one that issues below itself now.

    links: cross certificates between roots, in both directions (NewWithOld, OldWithNew).
    """

    version: int
    issued_at: datetime
    roots: tuple[bytes, ...]
    links: tuple[bytes, ...] = ()
    issuers: tuple[BundleIssuer, ...] = ()

    def encode(self) -> bytes:
        """Return the JWS payload."""
        return write_json(
            {
                "protocol": PROTOCOL,
                "version": self.version,
                "issued_at": write_time(self.issued_at),
                "roots": [b64(der) for der in self.roots],
                "links": [b64(der) for der in self.links],
                "issuers": [{"kind": one.kind.value, "certificate": b64(one.certificate)} for one in self.issuers],
            }
        )

    @classmethod
    def decode(cls, payload: bytes) -> "TrustBundle":
        """Read the JWS payload or raise DecodeError."""
        message = _read(payload)
        bundle = cls(
            version=message.integer("version", low=1, high=MOST_VERSION),
            issued_at=read_time(message.text("issued_at"), field="issued_at"),
            roots=message.octets_list("roots", most=_MOST_ROOTS, high=_MAX_CERTIFICATE_BYTES),
            links=message.octets_list("links", most=_MOST_LINKS, high=_MAX_CERTIFICATE_BYTES),
            issuers=tuple(_issuer(one) for one in message.members("issuers", most=_MOST_ISSUERS)),
        )
        message.done()
        if not bundle.roots:
            raise DecodeError("want one root at least", field="roots")
        return bundle


@dataclass(frozen=True, slots=True)
class TrustAck:
    """What a device trusts: the version that it has, 0 where it has only what it was flashed with.

    code, detail: why it did not take the one that it was sent; empty where it did, or has it.
    """

    version: int
    code: str = ""
    detail: str = ""

    def encode(self) -> bytes:
        """Return the payload."""
        return write_json(
            {"protocol": PROTOCOL, "version": self.version, "code": self.code, "detail": self.detail[:512]}
        )

    @classmethod
    def decode(cls, payload: bytes) -> "TrustAck":
        """Read the payload or raise DecodeError."""
        message = _read(payload)
        code = message.text("code", max_chars=64)
        if code and not _CODE.fullmatch(code):
            raise DecodeError(f"want {_CODE.pattern}, got {code[:80]!r}", field="code")
        ack = cls(
            version=message.integer("version", low=0, high=MOST_VERSION),
            code=code,
            detail=message.text("detail", max_chars=512),
        )
        message.done()
        return ack


def _issuer(one: JsonObject) -> BundleIssuer:
    kind = one.text("kind", max_chars=64)
    if kind not in set(IssuerKind):
        raise DecodeError(f"want one of {', '.join(IssuerKind)}, got {kind!r}", field="kind")
    issuer = BundleIssuer(IssuerKind(kind), one.octets("certificate", high=_MAX_CERTIFICATE_BYTES))
    one.done()
    return issuer


def _read(payload: bytes) -> JsonObject:
    message = read_json(payload)
    seen = message.text("protocol", max_chars=64)
    if seen != PROTOCOL:
        raise DecodeError(f"want {PROTOCOL!r}, got {seen!r}", field="protocol")
    return message
