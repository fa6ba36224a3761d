"""Asking the server what time it is, for a device whose clock can't be trusted (clock.py says when).

The answer counts because the server signed it over our nonce with the key of the certificate that it showed in this
very connection; the chain and the name of that certificate were verified by the handshake.
"""

import os
import ssl
import time

from birthmark_agent.clock import SignedTime, TimeRefused, verify_signed_time
from birthmark_agent.http import HttpsConnection
from birthmark_agent.settings import Server
from birthmark_wire.encoding import b64, read_json, write_json
from birthmark_wire.enrollment import JSON_MIME
from birthmark_wire.errors import DecodeError
from birthmark_wire.time import NONCE_BYTES, TIME_PATH


def ask(server: Server, context: ssl.SSLContext) -> SignedTime:
    """Return the server's time. Raise http's errors, TimeRefused."""
    nonce = os.urandom(NONCE_BYTES)
    asked_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    with HttpsConnection(server.host, server.port, context=context, timeout_s=server.timeout_s) as connection:
        body = write_json({"nonce": b64(nonce)})
        answer = connection.request("POST", TIME_PATH, body=body, mime=JSON_MIME, accept=JSON_MIME)
        certificate = connection.peer_certificate()
    try:
        message = read_json(answer.body)
        text, signature = message.text("time"), message.octets("signature", high=256)
        message.done()
    except DecodeError as error:
        raise TimeRefused(str(error)) from None
    return verify_signed_time(text, signature, nonce=nonce, certificate=certificate, asked_at_boot_time_s=asked_at)
