"""EST (RFC 7030, RFC 8951) as devices of this fleet speak it: paths, media types, object identifiers.

Evidence for a new key travels in the CSR as the attribute id-aa-attestation of draft-ietf-lamps-csr-attestation-20:

    AttestationBundle    ::= SEQUENCE { attestations SEQUENCE OF AttestationStatement, certs ... OPTIONAL }
    AttestationStatement ::= SEQUENCE { type OBJECT IDENTIFIER, stmt ANY DEFINED BY type }

with one statement of type tcg-attest-tpm-certify:

    TcgAttestTpmCertify  ::= SEQUENCE { tpmSAttest OCTET STRING, signature OCTET STRING, tpmTPublic OCTET STRING }

tpmSAttest is the TPMS_ATTEST, signature the TPMT_SIGNATURE and tpmTPublic the TPMT_PUBLIC of the new key, each without
a size in front.
"""

from typing import Final

BASE_PATH: Final = "/.well-known/est"
CACERTS: Final = "cacerts"
CSRATTRS: Final = "csrattrs"
SIMPLEENROLL: Final = "simpleenroll"
SIMPLEREENROLL: Final = "simplereenroll"
NONCE: Final = "nonce"

PKCS7_MIME: Final = "application/pkcs7-mime"
PKCS10_MIME: Final = "application/pkcs10"
CSRATTRS_MIME: Final = "application/csrattrs"

ID_AA_ATTESTATION: Final = "1.2.840.113549.1.9.16.2.59"
TCG_ATTEST_TPM_CERTIFY: Final = "2.23.133.20.1"

NONCE_BYTES: Final = 32
