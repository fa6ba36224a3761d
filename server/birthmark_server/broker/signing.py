"""Who signs the deny list: a key whose certificate the Infra CA issued for that and nothing else (profile `deny-list`).

    TEXT
    signer BASE64       the certificate, DER
    signature BASE64    ECDSA (P-256, SHA-256) over all that stands before this line, DER

The gate verifies it with the Infra CAs that it was configured with (server/mosquitto_gate/signature.h), so whoever
carries a list, or could write the file, need not be trusted.
"""

import base64
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from birthmark_server.broker.errors import DenyFileMalformed
from birthmark_server.ca import oids
from birthmark_server.errors import Misconfigured

_ECDSA: Final = ec.ECDSA(hashes.SHA256())
_SIGNED: Final = re.compile(rb"(.*\n)?signer ([A-Za-z0-9+/=]{4,5460})\nsignature ([A-Za-z0-9+/=]{4,96})\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DenySigner:
    """One signer. issuer: the Infra CA that certified it; it vouches for what an earlier signer wrote, too."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    issuer: x509.Certificate

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """Read both PEM files; the certificate's holds its CA's too. Raise Misconfigured for what can't sign."""
        try:
            leaf, issuer, *_ = x509.load_pem_x509_certificates(certificate.read_bytes())
            private = load_pem_private_key(key.read_bytes(), password=None)
        except OSError as error:
            raise Misconfigured(f"can't read {error.filename}: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise Misconfigured(f"{certificate}, {key}: want a certificate, its CA's, and its key: {error}") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
            raise Misconfigured(f"{key}: want a P-256 key")
        if private.public_key() != leaf.public_key():
            raise Misconfigured(f"{key} is not the key of {certificate}")
        if not _may_sign(leaf, issuer):
            raise Misconfigured(f"{certificate} is no deny-list certificate of its CA: birthmark certificate issue")
        return cls(private, leaf, issuer)

    @property
    def not_after(self) -> datetime:
        """Until when the gate takes what this signer signs."""
        return self.certificate.not_valid_after_utc

    def sign(self, text: bytes) -> bytes:
        """Return `text` with the signer's two lines behind it. text: empty, or whole lines."""
        signed = text + b"signer " + base64.b64encode(self.certificate.public_bytes(Encoding.DER)) + b"\n"
        return signed + b"signature " + base64.b64encode(self.key.sign(signed, _ECDSA)) + b"\n"

    def open(self, data: bytes) -> bytes:
        """Return the text that was signed, by this signer or another of the same CA. Raise DenyFileMalformed.

        Does not ask whether the signer's certificate is valid: what it says is our own word, and is signed anew.
        """
        found = _SIGNED.fullmatch(data)
        if found is None:
            raise DenyFileMalformed("want 'signer BASE64' and 'signature BASE64' at its end")
        try:
            leaf = x509.load_der_x509_certificate(_decode(found[2]))
            signature = _decode(found[3])
        except ValueError:
            raise DenyFileMalformed("its signer or signature can't be read") from None
        # What our CA signed is a certificate of ours: its key can be read.
        public = leaf.public_key() if _may_sign(leaf, self.issuer) else None
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise DenyFileMalformed("signed by nobody whom our own signer's CA certified for it")
        try:
            public.verify(signature, data[: found.start(3) - len(b"signature ")], _ECDSA)
        except InvalidSignature:
            raise DenyFileMalformed("its signature does not fit: it was changed") from None
        return found[1] or b""


def _decode(text: bytes) -> bytes:
    """Decode base64 in its one canonical form, as the gate does. Raises ValueError."""
    octets = base64.b64decode(text, validate=True)
    if base64.b64encode(octets) != text:
        raise ValueError("want canonical base64")
    return octets


def _may_sign(leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return oids.KP_DENY_LIST in usage
