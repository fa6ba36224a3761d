"""EST (RFC 7030, RFC 8951) as devices of this fleet speak it: paths, media types, object identifiers.

Evidence for a new key travels in the CSR as the attribute id-aa-attestation of draft-ietf-lamps-csr-attestation-20:

    AttestationBundle    ::= SEQUENCE { attestations SEQUENCE OF AttestationStatement, certs ... OPTIONAL }
    AttestationStatement ::= SEQUENCE { type OBJECT IDENTIFIER, stmt ANY DEFINED BY type }

with one statement of type tcg-attest-tpm-certify:

    TcgAttestTpmCertify  ::= SEQUENCE { tpmSAttest OCTET STRING, signature OCTET STRING, tpmTPublic OCTET STRING }

tpmSAttest is the TPMS_ATTEST, signature the TPMT_SIGNATURE and tpmTPublic the TPMT_PUBLIC of the new key, each without
a size in front.

A nonce for that evidence comes from GET .../nonce, as draft-ietf-lamps-attestation-freshness-08 §5.1 says.
"""

from dataclasses import dataclass
from typing import Final

from birthmark_wire.encoding import b64, read_json, write_json

BASE_PATH: Final = "/.well-known/est"
CACERTS: Final = "cacerts"
CSRATTRS: Final = "csrattrs"
SIMPLEENROLL: Final = "simpleenroll"
SIMPLEREENROLL: Final = "simplereenroll"
NONCE: Final = "nonce"

PKCS7_MIME: Final = "application/pkcs7-mime"
PKCS10_MIME: Final = "application/pkcs10"
CSRATTRS_MIME: Final = "application/csrattrs"
NONCE_MIME: Final = "application/est-attestation-freshness+json"

ID_AA_ATTESTATION: Final = "1.2.840.113549.1.9.16.2.59"
TCG_ATTEST_TPM_CERTIFY: Final = "2.23.133.20.1"

NONCE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class NonceAnswer:
    """A nonce for one renewal of the device that asked for it. expires_in_s: seconds from now."""

    nonce: bytes
    expires_in_s: int

    def encode(self) -> bytes:
        """Return the JSON body."""
        return write_json({"nonce": b64(self.nonce), "expiry": self.expires_in_s})

    @classmethod
    def decode(cls, data: bytes) -> "NonceAnswer":
        """Read the JSON body or raise DecodeError."""
        message = read_json(data)
        answer = cls(
            nonce=message.octets("nonce", low=NONCE_BYTES, high=NONCE_BYTES),
            expires_in_s=message.integer("expiry", low=1, high=86_400),
        )
        message.done()
        return answer
