"""`/v1/time`: what time it is, signed, for devices that have no clock (birthmark_wire.time).

The signature is by the key of the certificate that the listener shows, over the device's own nonce: the answer is good
for this question and this server alone. Public: a device that does not know the time can't judge anything else yet.
Behind a TLS front the front's key is another one, and the device refuses the answer: it then waits for NTP.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from birthmark_server.domain import Caller
from birthmark_server.errors import Misconfigured
from birthmark_server.web.doors import PUBLIC, Answer, Call, Route
from birthmark_server.web.enroll import require_media_type
from birthmark_wire.encoding import b64, read_json, write_json
from birthmark_wire.enrollment import JSON_MIME
from birthmark_wire.time import NONCE_BYTES, TIME_PATH, time_binding, write_time


def time_routes(key_file: Path, passphrase: bytes | None, *, now: Callable[[], datetime]) -> list[Route]:
    """Return the route; none where the server's key is not an elliptic-curve key. Raise Misconfigured."""
    try:
        key = load_pem_private_key(key_file.read_bytes(), passphrase)
    except (OSError, ValueError, TypeError) as error:
        raise Misconfigured(f"can't use the server's key {key_file}: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return []

    def tell(call: Call, _caller: Caller) -> Answer:
        require_media_type(call, JSON_MIME)
        message = read_json(call.body)
        nonce = message.octets("nonce", low=NONCE_BYTES, high=NONCE_BYTES)
        message.done()
        at = write_time(now())
        signature = key.sign(time_binding(nonce=nonce, at=at), ec.ECDSA(SHA256()))
        return Answer(200, write_json({"time": at, "signature": b64(signature)}), JSON_MIME)

    return [Route("POST", TIME_PATH, PUBLIC, tell)]
