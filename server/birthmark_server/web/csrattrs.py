"""What `csrattrs` says that a request should hold (RFC 7030 §4.5.2 as clarified by RFC 9908 §3).

    CsrAttrs ::= SEQUENCE SIZE (0..MAX) OF AttrOrOID
    AttrOrOID ::= CHOICE { oid OBJECT IDENTIFIER, attribute Attribute }

An attribute id-ecPublicKey with secp256r1: a P-256 key. An OID ecdsa-with-SHA256: how to sign the request. An OID
id-aa-attestation: TPM evidence for the key, for devices whose record says that they have a TPM. Names are not asked
for: the server writes them from its records.
"""

from typing import Final

from birthmark_server.ca.der import object_identifier, sequence, tlv
from birthmark_wire import est

_SET: Final = 0x31
_EC_PUBLIC_KEY: Final = "1.2.840.10045.2.1"
_SECP256R1: Final = "1.2.840.10045.3.1.7"
_ECDSA_WITH_SHA256: Final = "1.2.840.10045.4.3.2"


def csr_attributes() -> bytes:
    """Return the CsrAttrs, DER."""
    return sequence(
        sequence(object_identifier(_EC_PUBLIC_KEY), tlv(_SET, object_identifier(_SECP256R1))),
        object_identifier(_ECDSA_WITH_SHA256),
        object_identifier(est.ID_AA_ATTESTATION),
    )
