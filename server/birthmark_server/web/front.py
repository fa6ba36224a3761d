"""Who the client is, as a TLS front passes it on: nginx, HAProxy, an ingress.

`Client-Cert` (RFC 9440) carries the certificate, `X-Forwarded-For` the one address that the front saw. Both are
believed only on a listener that nobody but the front can reach: a Unix socket whose mode says who. The front verifies
the chain and the proof of possession, and replaces both headers (and `Client-Cert-Chain`) in what clients send; here
the certificate is then looked up, as on every other listener.

A request without an address is refused: all strangers would be one source, whose limits any of them could spend. So is
a list of addresses, which says that the front appends to what the client claims instead of replacing it.
"""

import base64
import binascii
import ipaddress
from typing import Final

from aiohttp import web

from birthmark_server.errors import Malformed

CLIENT_CERT: Final = "Client-Cert"
FORWARDED_FOR: Final = "X-Forwarded-For"
MOST_CHARACTERS: Final = 8192


def address_from_front(request: web.BaseRequest) -> str:
    """Return the client's address, from the request's one X-Forwarded-For header. Raise Malformed."""
    values = request.headers.getall(FORWARDED_FOR, [])
    if len(values) != 1:
        raise Malformed(f"want one {FORWARDED_FOR} header, set by the front, got {len(values)}")
    return decode_forwarded_for(values[0])


def decode_forwarded_for(value: str) -> str:
    """Read one IPv4 or IPv6 address, without port, zone or brackets. Raise Malformed."""
    text = value.strip()
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise Malformed(f"{FORWARDED_FOR}: want the client's address alone, got {text[:80]!r}") from None
    if "%" in text:
        raise Malformed(f"{FORWARDED_FOR}: want an address without a zone")
    return str(address)


def certificate_from_front(request: web.BaseRequest) -> bytes | None:
    """Return the certificate (DER) in the request's Client-Cert header, None without one. Raise Malformed."""
    values = request.headers.getall(CLIENT_CERT, [])
    if not values:
        return None
    if len(values) > 1:
        raise Malformed(f"want one {CLIENT_CERT} header, got {len(values)}")
    return decode_client_cert(values[0])


def decode_client_cert(value: str) -> bytes:
    """Read an RFC 8941 byte sequence, `:base64:`, as RFC 9440 §2.2 has it. Raise Malformed."""
    text = value.strip()
    if not (2 < len(text) <= MOST_CHARACTERS and text[0] == text[-1] == ":"):
        raise Malformed(f"{CLIENT_CERT}: want a byte sequence between colons")
    try:
        return base64.b64decode(text[1:-1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"{CLIENT_CERT}: want base64: {error}") from None
