"""Asking the server what time it is, for a device whose clock can't be trusted (clock.py says when).

The answer counts because a server of ours signed it over our nonce. Who that is, the answer says itself: its
certificate must lead to the pinned root, name the host that we dialled, have the key purpose of enrollment servers, and
be valid, with its CAs, at the very time that it claims (docs/adr/0065). That of the TLS connection may be a front's.
"""

import hashlib
import os
import ssl
import time

from birthmark_agent.clock import CheckTime, SignedTime, TimeRefused
from birthmark_agent.http import HttpsConnection
from birthmark_agent.server_chain import ChainRefused, verify_server_chain
from birthmark_agent.settings import Server
from birthmark_agent.tls import client_context
from birthmark_wire.enrollment import JSON_MIME
from birthmark_wire.errors import DecodeError
from birthmark_wire.time import NONCE_BYTES, SERVER_PURPOSE, TIME_PATH, TimeAnswer, TimeQuestion, time_binding


def ask(server: Server, context: ssl.SSLContext, *, anchors_pem: str) -> SignedTime:
    """Return the server's time. Raise http's errors, TimeRefused."""
    nonce = os.urandom(NONCE_BYTES)
    asked_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    with HttpsConnection(server.host, server.port, context=context, timeout_s=server.timeout_s) as connection:
        body = TimeQuestion(nonce).encode()
        answer = connection.request("POST", TIME_PATH, body=body, mime=JSON_MIME, accept=JSON_MIME)
    return verify_signed_time(
        answer.body, nonce=nonce, host=server.host, anchors_pem=anchors_pem, asked_at_boot_time_s=asked_at
    )


def verify_signed_time(
    answer: bytes, *, nonce: bytes, host: str, anchors_pem: str, asked_at_boot_time_s: float
) -> SignedTime:
    """Return the server's time, or raise TimeRefused.

    answer: a birthmark_wire.time.TimeAnswer. nonce: what we asked with, 32 random bytes, used once. host: what we
    dialled. anchors_pem: the pinned roots. asked_at_boot_time_s: taken before the question was sent, so the time counts
    from a moment that is too early by at most the round trip, never too late.
    Does not prove that the time is right: only that a server of ours says so, now, and could say so by its certificate.
    """
    if len(nonce) != NONCE_BYTES:
        raise TimeRefused(f"want a nonce of {NONCE_BYTES} bytes, got {len(nonce)}")
    try:
        told = TimeAnswer.decode(answer)
    except DecodeError as error:
        raise TimeRefused(str(error)) from None
    judge = client_context(anchors_pem=anchors_pem, check=CheckTime(told.at, not_yet_valid_passes=False))
    try:
        verify_server_chain(judge, told.chain, host=host)
    except ChainRefused as error:
        raise TimeRefused(f"the signer's certificate does not stand at the time that it claims: {error}") from None
    _verify_signature(told, nonce)
    return SignedTime(told.at, asked_at_boot_time_s)


def _verify_signature(told: TimeAnswer, nonce: bytes) -> None:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    signer = x509.load_der_x509_certificate(told.chain[0])
    purposes = [use.value for use in signer.extensions if isinstance(use.value, x509.ExtendedKeyUsage)]
    if not any(x509.ObjectIdentifier(SERVER_PURPOSE) in named for named in purposes):
        raise TimeRefused("the signer's certificate is not an enrollment server's")
    key = signer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TimeRefused("want a signer with an elliptic-curve key")
    signed = time_binding(nonce=nonce, signer_sha256=hashlib.sha256(told.chain[0]).digest(), at=told.at)
    try:
        key.verify(told.signature, signed, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise TimeRefused("the signature is not by the signer's key, or not over our nonce") from None
