"""The client certificate as a TLS front passes it on (RFC 9440): nginx, HAProxy, an ingress.

Believed only on a listener that nobody but the front can reach: a Unix socket whose mode says who. The front verifies
the chain and the proof of possession, and strips `Client-Cert` and `Client-Cert-Chain` from what clients send; here
the certificate is then looked up, as on every other listener.
"""

import base64
import binascii
from typing import Final

from aiohttp import web

from birthmark_server.errors import Malformed

CLIENT_CERT: Final = "Client-Cert"
MOST_CHARACTERS: Final = 8192


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
