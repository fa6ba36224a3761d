"""Who signed a message that came over MQTT or HTTPS: somebody who may command this device, or nobody.

The signer's chain leads to a pinned root at the moment that counts, its leaf has the key purpose of commands and no CA
above it excludes that purpose, and the signature is over these very bytes. Not asked: whether the certificate was
revoked (a device has no CRL); its lifetime bounds that. All of it needs `cryptography`: to be done apart.
"""

from datetime import datetime
from typing import Final

from birthmark_agent.clock import CheckTime
from birthmark_agent.errors import AgentError
from birthmark_agent.server_chain import ChainRefused, verify_signer_chain
from birthmark_agent.tls import client_context
from birthmark_wire.jws import SignedMessage
from birthmark_wire.rotation import COMMAND_PURPOSE


class SignerRefused(AgentError):
    """Nobody who may command this device has signed it, or not with a certificate that stands."""

    code = "signer-refused"
    advice = "nothing on the device: the operator's server, or whoever sent this, must send another"


def verify_signed(message: SignedMessage, *, anchors_pem: str, at: datetime) -> None:
    """See who signed it. Raise SignerRefused.

    at: the moment at which the signer's chain must be valid. Proves nothing about what the payload says.
    """
    try:
        context = client_context(anchors_pem=anchors_pem, check=CheckTime(at, not_yet_valid_passes=False))
        verify_signer_chain(context, message.chain)
        _verify_signature(message)
    except ChainRefused as error:
        raise SignerRefused(f"its signer's certificate does not stand: {error}") from None
    except ValueError as error:
        raise SignerRefused(f"its signer's certificate can't be read: {error}") from None


def _verify_signature(message: SignedMessage) -> None:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    wanted: Final = x509.ObjectIdentifier(COMMAND_PURPOSE)
    signer, *above = [x509.load_der_x509_certificate(der) for der in message.chain]

    def purposes(certificate: x509.Certificate) -> list[x509.ObjectIdentifier] | None:
        found = [use.value for use in certificate.extensions if isinstance(use.value, x509.ExtendedKeyUsage)]
        return list(found[0]) if found else None

    if wanted not in (purposes(signer) or []):
        raise SignerRefused("its signer's certificate is not one of those that command devices")
    for authority in above:
        if wanted not in (purposes(authority) or [wanted]):
            raise SignerRefused(f"{authority.subject.rfc4514_string()} may certify nobody who commands devices")
    key = signer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignerRefused("want a signer with a P-256 key")
    try:
        key.verify(message.signature, message.signed, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise SignerRefused("the signature is not its signer's, or not over this message") from None
