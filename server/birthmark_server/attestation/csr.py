"""PKCS #10 requests: the key, the proof of possession, the names, and the TPM's evidence where it travels inside.

The request is read twice: by `cryptography`, which checks the signature and the key, and by der.py for the pieces that
a TPM signed over (subject, SubjectAltName, statement), in their original bytes. Source: RFC 2986 §4; RFC 2985 §5.4.2;
birthmark_wire.est for the attribute id-aa-attestation.
"""

from dataclasses import InitVar, dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_server.attestation import der
from birthmark_server.attestation.errors import CsrEvidence, CsrMalformed, CsrSignature, WeakKey
from birthmark_server.attestation.keys import check_device_key
from birthmark_server.tpm.public import PublicKey
from birthmark_wire import est

_EXTENSION_REQUEST: Final = "1.2.840.113549.1.9.14"
_SUBJECT_ALT_NAME: Final = "2.5.29.17"
_ATTRIBUTES: Final = 0xA0
_SHA2: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)

_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class TpmCertifyStatement:
    """A TPM2_Certify about the request's key: TPMS_ATTEST, TPMT_SIGNATURE and the key's TPMT_PUBLIC. Unproven."""

    attest: bytes
    signature: bytes
    public: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCsr:
    """A request that its own key signed. Only `verify_csr` builds one. Its names are wishes.

    encoded: the request, DER. spki: its SubjectPublicKeyInfo, DER. subject: its Name, DER. subject_alt_name: the
    GeneralNames of its SubjectAltName, DER, empty without one. statement: None where it brings no evidence.
    """

    encoded: bytes
    key: PublicKey
    spki: bytes
    subject: bytes
    subject_alt_name: bytes
    statement: TpmCertifyStatement | None
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        """Refuse to be built by anyone else."""
        if seal is not _SEAL:
            raise TypeError("only verify_csr makes a VerifiedCsr")


def verify_csr(data: bytes) -> VerifiedCsr:
    """Read a request, every byte of it, and prove that its key signed it.

    Raises CsrMalformed, CsrSignature, CsrEvidence for an attestation attribute that can't be read, WeakKey, RocaKey.
    """
    key = _check_possession(data)
    try:
        information = der.members_of(der.sequence(data)[0])
        _version, subject, _spki, *optional = information
        attributes = _attributes(optional)
        subject_alt_name = _subject_alt_name(attributes.get(_EXTENSION_REQUEST))
    except ValueError as error:
        raise CsrMalformed(f"not a certification request that can be read: {error}") from None
    try:
        statement = _statement(attributes.get(est.ID_AA_ATTESTATION))
    except ValueError as error:
        raise CsrEvidence(f"want one tcg-attest-tpm-certify in an AttestationBundle: {error}") from None
    return VerifiedCsr(
        encoded=data,
        key=key,
        spki=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        subject=subject.encoded,
        subject_alt_name=subject_alt_name,
        statement=statement,
        seal=_SEAL,
    )


def _check_possession(data: bytes) -> PublicKey:
    try:
        request = x509.load_der_x509_csr(data)
        key = request.public_key()
        algorithm = request.signature_hash_algorithm
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) or not isinstance(algorithm, _SHA2):
            raise WeakKey("certification request: want an RSA or ECC key, signed with SHA-2")
        check_device_key(key, "certification request")
        if not request.is_signature_valid:
            raise CsrSignature("the request is not signed by the key that it carries")
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CsrMalformed(f"not a certification request that can be read: {error}") from None
    return key


def _attributes(optional: list[der.Element]) -> dict[str, der.Element]:
    """Return each attribute's one value by its type."""
    (wrapped,) = optional
    values: dict[str, der.Element] = {}
    for attribute in der.members_of(wrapped, _ATTRIBUTES):
        identifier, value_set = der.members_of(attribute)
        (value,) = der.members_of(value_set, der.SET)
        if values.setdefault(der.oid(identifier), value) is not value:
            raise der.DerError("an attribute stands twice")
    return values


def _subject_alt_name(extensions: der.Element | None) -> bytes:
    if extensions is None:
        return b""
    requested = [der.members_of(extension) for extension in der.members_of(extensions)]
    found = [members[-1] for members in requested if members and der.oid(members[0]) == _SUBJECT_ALT_NAME]
    values = [der.value_of(value, der.OCTET_STRING) for value in found]
    if len(values) > 1:
        raise der.DerError("SubjectAltName stands twice")
    return values[0] if values else b""


def _statement(bundle: der.Element | None) -> TpmCertifyStatement | None:
    if bundle is None:
        return None
    # `certs` may follow; the AK is on record, so certificates for it would prove nothing more.
    attestations, *_certs = der.members_of(bundle)
    (attestation,) = der.members_of(attestations)
    kind, statement = der.members_of(attestation)
    if der.oid(kind) != est.TCG_ATTEST_TPM_CERTIFY:
        raise der.DerError(f"want type {est.TCG_ATTEST_TPM_CERTIFY}, got {der.oid(kind)}")
    attest, signature, public = (der.value_of(part, der.OCTET_STRING) for part in der.members_of(statement))
    return TpmCertifyStatement(attest, signature, public)
