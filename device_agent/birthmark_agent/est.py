"""EST (RFC 7030, RFC 8951) as a client: nonce, cacerts, simpleenroll, simplereenroll.

A Simple PKI Response holds the issued certificate and nothing else (RFC 7030 §4.2.3), so the CAs above it come from
cacerts, over the same connection. Nothing that the server sends is believed because it came: the certificate must
carry the key that was asked for, and each certificate must be signed by the next, up to a root that this device pins.
"""

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from birthmark_agent.chain import verify_chain
from birthmark_agent.der import certificates_in
from birthmark_agent.errors import UnusableAnswer
from birthmark_agent.http import PROBLEM_MIME, Answer, Connection, Problem, Unavailable
from birthmark_wire import est
from birthmark_wire.broker import BrokerEndpoint
from birthmark_wire.errors import DecodeError

_OR_PROBLEM: Final = f", {PROBLEM_MIME}"


@dataclass(slots=True)
class EstClient:
    """EST over one connection. base_path: as `/.well-known/est`. broker: where the server said last that our broker is;
    None while it said nothing that can be read."""

    connection: Connection
    base_path: str = est.BASE_PATH
    broker: BrokerEndpoint | None = None

    def _note_broker(self, answer: Answer) -> None:
        with suppress(DecodeError):
            self.broker = BrokerEndpoint.of_text(answer.broker) if answer.broker else self.broker

    def nonce(self) -> bytes:
        """Return a fresh nonce for the evidence of one new key."""
        answer = self.connection.request("GET", f"{self.base_path}/{est.NONCE}", accept=est.NONCE_MIME + _OR_PROBLEM)
        self._note_broker(answer)
        try:
            return est.NonceAnswer.decode(answer.body).nonce
        except DecodeError as error:
            raise UnusableAnswer(f"nonce: {error}") from None

    def cacerts(self) -> list[x509.Certificate]:
        """Return the CAs that the server names. Not proven: a path to a pinned root proves them."""
        answer = self.connection.request("GET", f"{self.base_path}/{est.CACERTS}", accept=est.PKCS7_MIME + _OR_PROBLEM)
        return _certificates(answer)

    def enroll(
        self,
        request: bytes,
        *,
        spki: bytes,
        anchors: Sequence[x509.Certificate],
        again: bool,
        known: Sequence[bytes] = (),
    ) -> tuple[bytes, ...]:
        """Send a CSR; return the chain, leaf first, without the root, and with its links: DER (chain.verify_chain).

        again: simplereenroll instead of simpleenroll. spki: the key that the certificate must carry, DER. known: CAs
        that may be the issuer's, DER; only where they are not, cacerts is asked.
        """
        operation = est.SIMPLEREENROLL if again else est.SIMPLEENROLL
        answer = self.connection.request(
            "POST",
            f"{self.base_path}/{operation}",
            body=base64.b64encode(request),
            mime=est.PKCS10_MIME,
            accept=est.PKCS7_MIME + _OR_PROBLEM,
        )
        self._note_broker(answer)
        if answer.status == 202:  # RFC 7030 §4.2.3: come back later with the same request
            raise Unavailable(Problem(202, "", "Accepted", "the server is still deciding", "", answer.retry_after_s))
        issued = (*_certificates(answer), *(x509.load_der_x509_certificate(der) for der in known))
        try:
            return verify_chain(issued, spki=spki, anchors=anchors)
        except UnusableAnswer:
            return verify_chain((*issued, *self.cacerts()), spki=spki, anchors=anchors)


def _certificates(answer: Answer) -> list[x509.Certificate]:
    """Read a certs-only PKCS #7 in base64, with or without line breaks (RFC 8951 §3)."""
    try:
        der = base64.b64decode(b"".join(answer.body.split()), validate=True)
        return [x509.load_der_x509_certificate(certificate) for certificate in certificates_in(der)]
    except ValueError as error:  # binascii.Error and DecodeError are
        raise UnusableAnswer(f"want a certs-only PKCS #7 in base64: {error}") from None
