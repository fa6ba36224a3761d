"""OCSP (RFC 6960): requests read, answers made. No I/O, no clock; web/ocsp.py is the responder.

One request asks for one certificate, as RFC 5019 §2.1.1 has it: an answer speaks for one issuing CA, and is signed by a
signer of that CA's (§4.2.2.2), so two certificates of two CAs could not be answered in one. Requests are read by
`cryptography`, since strangers send them; answers are written here, over der.py, for a third of its builder's time, and
a test holds them against it.

What a signature of a request's own would prove is not asked for: what we answer is public.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from hashlib import new as new_hash
from hashlib import sha1
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from birthmark_server.ca import der, oids
from birthmark_server.ca.crl import REASON_CODE
from birthmark_server.ca.errors import UNREADABLE
from birthmark_server.ca.issuer import Issuer, to_der
from birthmark_server.ca.profile import BACKDATED
from birthmark_server.ca.requests import InfraRequest
from birthmark_server.ca.signer import FileSigner, algorithm_for
from birthmark_server.domain import CertificateProfile, CertificateStatus, RevocationReason
from birthmark_server.errors import Malformed

SIGNER_NAME: Final = "srv-ocsp"
MOST_NONCE_OCTETS: Final = 128
"""RFC 9654 §2.1: a nonce has 1 to 128 octets, any other makes the request malformed."""

_HASHES: Final = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
"""How a CertID may name an issuer. It only names: SHA-1 is what nearly every client uses (RFC 5019 §2.1.1)."""
_ALGORITHM: Final = {name: der.sequence(der.object_identifier(oid), b"\x05\x00") for name, oid in _HASHES.items()}
_ENUMERATED, _NULL = 0x0A, b"\x05\x00"
_GOOD: Final = b"\x80\x00"
_REVOKED: Final = 0xA1
_CERTIFICATE_HOLD: Final = 6
_NEVER_ISSUED: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - written as it stands, in UTC
_EXTENDED_REVOKE: Final = der.extension(oids.OCSP_EXTENDED_REVOKE.dotted_string, _NULL)


class Trouble(IntEnum):
    """OCSPResponseStatus (RFC 6960 §4.2.1) but `successful`: what is said, unsigned, instead of an answer."""

    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    UNAUTHORIZED = 6
    """We are no authority for that issuer (RFC 5019 §2.2.3)."""


@dataclass(frozen=True, slots=True)
class IssuerId:
    """How a CertID names an issuing CA: a hash, and what it makes of the CA's name and key."""

    hash_name: str
    name_hash: bytes
    key_hash: bytes


@dataclass(frozen=True, slots=True)
class OcspRequest:
    """One question: is the certificate of this issuer and serial number revoked? nonce: to be repeated, or None."""

    issuer: IssuerId
    serial_number: int
    nonce: bytes | None


def read_request(request_der: bytes) -> OcspRequest:
    """Read an OCSPRequest. Raise Malformed: no DER, several certificates, an unknown hash, a bad nonce, or a
    critical extension (RFC 6960 §4.4: there is none that we know)."""
    try:
        request = ocsp.load_der_ocsp_request(request_der)
        hash_name = request.hash_algorithm.name
        issuer = IssuerId(hash_name, request.issuer_name_hash, request.issuer_key_hash)
        serial_number = request.serial_number
        nonce = None
        for extension in request.extensions:
            if isinstance(extension.value, x509.OCSPNonce):
                nonce = extension.value.nonce
            elif extension.critical:
                raise Malformed(f"unknown critical extension {extension.oid.dotted_string}")
    # `cryptography` says NotImplementedError of a request for several certificates.
    except (*UNREADABLE, NotImplementedError, UnsupportedAlgorithm) as error:
        raise Malformed(f"want an OCSPRequest for one certificate: {error}") from None
    if hash_name not in _HASHES:
        raise Malformed(f"want a CertID by {', '.join(_HASHES)}, got {hash_name}")
    if serial_number <= 0 or serial_number.bit_length() >= 8 * 20:
        raise Malformed("want a serial number of 1 to 20 octets")
    if nonce is not None and not 1 <= len(nonce) <= MOST_NONCE_OCTETS:
        raise Malformed(f"want a nonce of 1 to {MOST_NONCE_OCTETS} octets, got {len(nonce)}")
    return OcspRequest(issuer, serial_number, nonce)


def issuer_ids(certificate: x509.Certificate) -> list[IssuerId]:
    """Return every way in which a CertID may name this CA."""
    name, key = certificate.subject.public_bytes(), _key_octets(certificate)
    return [
        IssuerId(hash_name, new_hash(hash_name, name).digest(), new_hash(hash_name, key).digest())
        for hash_name in _HASHES
    ]


class OcspSigner:
    """Signs answers for one issuing CA, with a key of its own that the CA certified for that. Thread-safe."""

    def __init__(self, certificate: x509.Certificate, signer: FileSigner) -> None:
        """certificate: of the `ocsp` profile, by that CA, for the signer's key."""
        self.certificate = certificate
        self._signer = signer
        self._algorithm = algorithm_for(signer.public_key().curve)
        self._responder = der.tlv(0xA2, der.octet_string(sha1(_key_octets(certificate)).digest()))  # noqa: S324 - RFC 6960 §4.2.1
        self._certificates = der.tlv(0xA0, der.sequence(to_der(certificate)))

    @classmethod
    def create(cls, issuer: Issuer, *, now: datetime) -> "OcspSigner":
        """Make a key, in memory only, and have `issuer` certify it. Raise ProfileViolation once the CA has expired."""
        signer = FileSigner(ec.generate_private_key(ec.SECP256R1()))
        token = issuer.prepare(InfraRequest(CertificateProfile.OCSP, signer.public_key(), SIGNER_NAME), now=now)
        return cls(issuer.issue(token), signer)

    def answer(
        self, request: OcspRequest, status: CertificateStatus | None, *, now: datetime, next_update: datetime
    ) -> bytes:
        """Return an OCSPResponse, DER. status: None for a serial number that this CA never gave to a certificate.

        Such a one is answered `revoked` with the marks of RFC 6960 §2.2 (extended revoke, certificateHold, 1970): a
        certificate that bears it was not made by us. now, next_update: aware UTC, to the second. thisUpdate is
        backdated as a CRL's is.
        """
        extensions = b"" if status is not None else _EXTENDED_REVOKE
        if request.nonce is not None:
            extensions += der.extension(oids.OCSP_NONCE.dotted_string, der.octet_string(request.nonce))
        single = der.sequence(
            _cert_id(request),
            _status(status),
            der.generalized_time(max(now - BACKDATED, self.certificate.not_valid_before_utc)),
            der.tlv(0xA0, der.generalized_time(next_update)),
        )
        tbs = der.sequence(
            self._responder,
            der.generalized_time(now),
            der.sequence(single),
            der.tlv(0xA1, der.sequence(extensions)) if extensions else b"",
        )
        signature = der.bit_string(self._signer.sign(tbs))
        basic = der.sequence(tbs, self._algorithm, signature, self._certificates)
        return _response(
            0,
            der.tlv(0xA0, der.sequence(der.object_identifier(oids.OCSP_BASIC.dotted_string), der.octet_string(basic))),
        )


def trouble(status: Trouble) -> bytes:
    """Return an OCSPResponse without an answer."""
    return _response(status.value)


def _response(status: int, *answer: bytes) -> bytes:
    return der.sequence(der.tlv(_ENUMERATED, bytes((status,))), *answer)


def _cert_id(request: OcspRequest) -> bytes:
    issuer = request.issuer
    return der.sequence(
        _ALGORITHM[issuer.hash_name],
        der.octet_string(issuer.name_hash),
        der.octet_string(issuer.key_hash),
        der.integer(request.serial_number),
    )


def _status(status: CertificateStatus | None) -> bytes:
    if status is None:
        return _revoked(_NEVER_ISSUED, _CERTIFICATE_HOLD)
    if status.revoked_at is None:
        return _GOOD
    return _revoked(status.revoked_at, REASON_CODE.get(status.reason or RevocationReason.UNSPECIFIED))


def _revoked(at: datetime, code: int | None) -> bytes:
    reason = b"" if code is None else der.tlv(0xA0, der.tlv(_ENUMERATED, bytes((code,))))
    return der.tlv(_REVOKED, der.generalized_time(at), reason)


def _key_octets(certificate: x509.Certificate) -> bytes:
    """Return what a CertID hashes of a key: the subjectPublicKey without its tag, length and unused bits."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("want an elliptic curve key")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
