"""The EST door (RFC 7030 as clarified by RFC 8951), under `/.well-known/est/`.

What comes in: base64 with or without line breaks, whatever Content-Transfer-Encoding says (RFC 8951 §3.1: the header
means nothing). What goes out: one unbroken base64 line with a Content-Length, never chunked: strongSwan 5.9.8 reads
nothing else. cacerts and csrattrs are public (RFC 7030 §4.1.2, §4.5.1). Errors are plain text (§4.2.3), or a problem
document for a client that accepts those.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from birthmark_server.domain import Caller
from birthmark_server.renewal import RenewalService
from birthmark_server.web.doors import ATTESTED, BORN, OPERATIONAL, PUBLIC, Answer, Call, Door, Handler, Route
from birthmark_server.web.enroll import require_media_type
from birthmark_server.web.errors import BadTransfer
from birthmark_wire import broker, est
from birthmark_wire.broker import BrokerEndpoint

CERTS_ONLY: Final = f"{est.PKCS7_MIME}; smime-type=certs-only"
Headers = tuple[tuple[str, str], ...]
_WHITE_SPACE: Final = b" \t\r\n"


def est_routes(
    service: RenewalService,
    *,
    ca_certificates: Callable[[], tuple[x509.Certificate, ...]],
    csrattrs: bytes,
    broker_of: Callable[[str], BrokerEndpoint],
) -> list[Route]:
    """Return the five operations.

    ca_certificates: returns those that are believed now, the active root first, with the links between roots that
    RFC 7030 §4.1.3 calls OldWithNew and NewWithOld. csrattrs: CsrAttrs, DER. broker_of: where the device of an id finds
    its broker; the answers to a device say so in a header of ours.
    """
    attributes = _answer(csrattrs, est.CSRATTRS_MIME)

    @lru_cache(maxsize=1)
    def packed(certificates: tuple[x509.Certificate, ...]) -> Answer:
        return _answer(certs_only(certificates), CERTS_ONLY)

    def nonce(_: Call, caller: Caller) -> Answer:
        return Answer(200, service.nonce(caller).encode(), est.NONCE_MIME, whereabouts(caller))

    def simpleenroll(call: Call, caller: Caller) -> Answer:
        return _answer(certs_only([service.enroll(_request(call), caller)]), CERTS_ONLY, whereabouts(caller))

    def simplereenroll(call: Call, caller: Caller) -> Answer:
        return _answer(certs_only([service.reenroll(_request(call), caller)]), CERTS_ONLY, whereabouts(caller))

    def whereabouts(caller: Caller) -> Headers:
        return () if caller.device is None else ((broker.HEADER, str(broker_of(caller.device.device_id))),)

    def route(method: str, operation: str, door: Door, handler: Handler, *, cheap: bool = False) -> Route:
        return Route(method, f"{est.BASE_PATH}/{operation}", door, handler, est=True, cheap=cheap)

    return [
        route("GET", est.CACERTS, PUBLIC, lambda *_: packed(ca_certificates()), cheap=True),
        route("GET", est.CSRATTRS, PUBLIC, lambda *_: attributes, cheap=True),
        route("GET", est.NONCE, ATTESTED, nonce),
        route("POST", est.SIMPLEENROLL, BORN, simpleenroll),
        route("POST", est.SIMPLEREENROLL, OPERATIONAL, simplereenroll),
    ]


def certs_only(certificates: Sequence[x509.Certificate]) -> bytes:
    """Return a certs-only PKCS #7, DER (RFC 5272 §4.1)."""
    return pkcs7.serialize_certificates(list(certificates), Encoding.DER)


def decode_transfer(body: bytes) -> bytes:
    """Return what a base64 body holds; line breaks and white space count for nothing. Raise BadTransfer."""
    try:
        return base64.b64decode(body.translate(None, _WHITE_SPACE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadTransfer(f"want base64 (RFC 8951 §3.1): {error}") from None


def _request(call: Call) -> bytes:
    require_media_type(call, est.PKCS10_MIME)
    return decode_transfer(call.body)


def _answer(der: bytes, media_type: str, headers: Headers = ()) -> Answer:
    return Answer(200, base64.b64encode(der), media_type, (("Content-Transfer-Encoding", "base64"), *headers))
