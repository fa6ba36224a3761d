"""What went over the wire in a TLS 1.3 handshake, overheard at the client as it happened.

`ssl.SSLContext._msg_callback` is CPython's own debugging hook (since 3.8; private, so only `trace` uses it): OpenSSL
shows every handshake message and alert in clear. Nothing here is inferred: certificates are those of the Certificate
messages, algorithms those of the CertificateVerify messages (RFC 8446 §4.4), times those of their arrival.
"""

import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Final

_HANDSHAKE: Final = 22
_ALERT: Final = 21
_APPLICATION_DATA: Final = 23
_INNER_CONTENT_TYPE: Final = 257  # SSL3_RT_INNER_CONTENT_TYPE: OpenSSL's notice of what a TLS 1.3 record really holds

CLIENT_HELLO: Final = 1
SERVER_HELLO: Final = 2
CERTIFICATE: Final = 11
CERTIFICATE_REQUEST: Final = 13
CERTIFICATE_VERIFY: Final = 15
FINISHED: Final = 20

SIGNATURE_SCHEMES: Final = {
    0x0403: "ecdsa_secp256r1_sha256",
    0x0503: "ecdsa_secp384r1_sha384",
    0x0603: "ecdsa_secp521r1_sha512",
    0x0804: "rsa_pss_rsae_sha256",
    0x0805: "rsa_pss_rsae_sha384",
    0x0806: "rsa_pss_rsae_sha512",
    0x0807: "ed25519",
    0x0808: "ed448",
    0x0809: "rsa_pss_pss_sha256",
}
"""RFC 8446 §4.2.3."""

ALERTS: Final = {
    0: "close_notify",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    80: "internal_error",
    112: "unrecognized_name",
    116: "certificate_required",
}
"""RFC 8446 §6."""


@dataclass(frozen=True, slots=True)
class Message:
    """One handshake message. sent: by us. at_s: time.perf_counter()'s. body: without its four-byte header."""

    kind: int
    sent: bool
    at_s: float
    body: bytes


@dataclass
class Tap:
    """Overhears every handshake of the context that it is put on."""

    messages: list[Message] = field(default_factory=list)
    alerts: list[tuple[bool, str]] = field(default_factory=list)
    first_data_at_s: float = 0.0

    def put_on(self, context: ssl.SSLContext) -> None:
        """Listen. A context has one listener at most."""
        context._msg_callback = self._overhear  # type: ignore[attr-defined]  # CPython's own, undocumented

    def find(self, kind: int, *, sent: bool) -> Message | None:
        """Return the first message of that kind in that direction."""
        return next((message for message in self.messages if message.kind == kind and message.sent is sent), None)

    def refusal(self) -> str:
        """Return the name of the alert that the peer sent, empty where it sent none but a goodbye."""
        return next((name for sent, name in self.alerts if not sent and name != "close_notify"), "")

    def _overhear(self, _conn: Any, direction: str, _version: Any, content: Any, _kind: Any, data: bytes) -> None:
        sent, now = direction == "write", time.perf_counter()
        if int(content) == _HANDSHAKE and len(data) >= 4:
            self.messages.append(Message(data[0], sent, now, data[4:]))
        elif int(content) == _ALERT and len(data) == 2:
            self.alerts.append((sent, ALERTS.get(data[1], f"alert {data[1]}")))
        elif int(content) == _INNER_CONTENT_TYPE and data[:1] == bytes((_APPLICATION_DATA,)) and not sent:
            self.first_data_at_s = self.first_data_at_s or now


def certificates_in(message: Message) -> tuple[bytes, ...]:
    """Return the certificates, DER, of a Certificate message (RFC 8446 §4.4.2); what is cut short is left out."""
    body = message.body
    position = 1 + body[0] + 3  # certificate_request_context, then the list's length
    found = []
    while position + 3 <= len(body):
        size = int.from_bytes(body[position : position + 3], "big")
        found.append(body[position + 3 : position + 3 + size])
        position += 3 + size
        position += 2 + int.from_bytes(body[position : position + 2], "big")  # extensions
    return tuple(found)


def signature_scheme(message: Message) -> str:
    """Return the name of the algorithm in a CertificateVerify message (RFC 8446 §4.4.3)."""
    code = int.from_bytes(message.body[:2], "big")
    return SIGNATURE_SCHEMES.get(code, f"0x{code:04x}")
