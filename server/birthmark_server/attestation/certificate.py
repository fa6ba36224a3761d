"""X.509 certificates of TPM vendors, read once, over their original bytes.

Every certificate of an EK's path goes through this one reader: `cryptography` refuses genuine vendor certificates
(unsorted SETs), and two readers could disagree about the same bytes. It takes apart what path validation needs and
leaves the rest alone; the key and the signature are `cryptography`'s business. Nothing is trusted here: see path.py.
Source: RFC 5280 §4; TCG EK Credential Profile 2.5 §3.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from birthmark_server.attestation import der
from birthmark_server.attestation.errors import CertificateMalformed, WeakKey
from birthmark_server.tpm.public import PublicKey

SUBJECT_ALT_NAME: Final = "2.5.29.17"
KEY_USAGE: Final = "2.5.29.15"
BASIC_CONSTRAINTS: Final = "2.5.29.19"
NAME_CONSTRAINTS: Final = "2.5.29.30"
CERTIFICATE_POLICIES: Final = "2.5.29.32"
EXTENDED_KEY_USAGE: Final = "2.5.29.37"

_V3: Final = 2
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_DIRECTORY_NAME: Final = 0xA4
_ATTRIBUTE_LABELS: Final = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
}


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension. value: the content of extnValue, DER."""

    oid: str
    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate; two are equal if their bytes are.

    tbs, issuer, subject: as they stand in the certificate, DER. key_sha256: over the key's SubjectPublicKeyInfo, hex.
    path_length: None without a constraint. key_usage: the BIT STRING's octets, None without the extension. purposes:
    extended key usages, None without the extension. directory_names: the attributes of the DirectoryNames in the
    SubjectAltName, in order.
    """

    der: bytes
    tbs: bytes = field(compare=False, repr=False)
    signature_algorithm: str = field(compare=False)
    signature: bytes = field(compare=False, repr=False)
    issuer: bytes = field(compare=False, repr=False)
    subject: bytes = field(compare=False, repr=False)
    not_before: datetime = field(compare=False)
    not_after: datetime = field(compare=False)
    key: PublicKey = field(compare=False)
    key_sha256: str = field(compare=False)
    extensions: tuple[Extension, ...] = field(compare=False, repr=False)
    is_ca: bool = field(compare=False)
    path_length: int | None = field(compare=False)
    key_usage: bytes | None = field(compare=False)
    purposes: frozenset[str] | None = field(compare=False)
    directory_names: tuple[tuple[str, str], ...] = field(compare=False)

    @property
    def title(self) -> str:
        """The subject as `CN=..., O=...` for people; never compared."""
        return describe_name(self.subject)

    def extension(self, oid: str) -> Extension | None:
        """Return the extension of that identifier, or None."""
        return next((extension for extension in self.extensions if extension.oid == oid), None)

    def may(self, usage: int) -> bool | None:
        """Tell whether the key usage bit is set (0 = digitalSignature, ..., 5 = keyCertSign); None without any."""
        if self.key_usage is None:
            return None
        return usage // 8 < len(self.key_usage) and bool(self.key_usage[usage // 8] >> 7 - usage % 8 & 1)


@lru_cache(maxsize=256)
def parse_certificate(data: bytes) -> Certificate:
    """Read one X.509 v3 certificate, DER, every byte of it.

    Raises CertificateMalformed, or WeakKey if its key is of a kind that we do not accept. Remembers what it read last:
    one enrollment comes by here several times with the same bytes.
    """
    try:
        return _parse(data)
    except ValueError as error:  # DerError, a wrong number of members, a key that is none
        raise CertificateMalformed(f"not a certificate that can be read: {error}") from None


def key_sha256(key: PublicKey) -> str:
    """Return SHA-256 over the key's SubjectPublicKeyInfo in its one canonical form, hex: one key, one hash."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def describe_name(name: bytes) -> str:
    """Return a Name as `CN=..., O=...` for people; never compared."""
    try:
        pairs = _attributes(der.sequence(name))
    except ValueError:
        return name.hex()
    return ", ".join(f"{_ATTRIBUTE_LABELS.get(oid, oid)}={value}" for oid, value in pairs)


def _parse(data: bytes) -> Certificate:
    tbs, algorithm, signature = der.sequence(data)
    version, _serial, inner_algorithm, issuer, validity, subject, spki, *optional = der.members_of(tbs)
    if der.integer(der.read_one(der.value_of(version, _VERSION), der.INTEGER)) != _V3:
        raise der.DerError("want version 3")
    if inner_algorithm.encoded != algorithm.encoded:
        raise der.DerError("want the same signature algorithm inside and outside")
    not_before, not_after = (der.time(element) for element in der.members_of(validity))
    extensions = _extensions(optional)
    values = {extension.oid: extension.value for extension in extensions}
    if len(values) != len(extensions):
        raise der.DerError("want each extension once")
    key = _load_key(spki.encoded)
    is_ca, path_length = _basic_constraints(values.get(BASIC_CONSTRAINTS))
    usage = values.get(KEY_USAGE)
    return Certificate(
        der=data,
        tbs=tbs.encoded,
        signature_algorithm=der.oid(der.members_of(algorithm)[0]),
        signature=der.bits(signature),
        issuer=issuer.encoded,
        subject=subject.encoded,
        not_before=not_before,
        not_after=not_after,
        key=key,
        key_sha256=key_sha256(key),
        extensions=extensions,
        is_ca=is_ca,
        path_length=path_length,
        key_usage=None if usage is None else der.bits(der.read_one(usage, der.BIT_STRING)),
        purposes=_purposes(values.get(EXTENDED_KEY_USAGE)),
        directory_names=_directory_names(values.get(SUBJECT_ALT_NAME)),
    )


def _load_key(spki: bytes) -> PublicKey:
    try:
        key = load_der_public_key(spki)
    except UnsupportedAlgorithm as error:
        raise WeakKey(f"want an RSA or ECC key: {error}") from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise WeakKey(f"want an RSA or ECC key, got {type(key).__name__}")
    return key


def _extensions(optional: list[der.Element]) -> tuple[Extension, ...]:
    # issuerUniqueID [1] and subjectUniqueID [2] may stand before the extensions [3].
    wrapped = [element for element in optional if element.tag == _EXTENSIONS]
    if len(wrapped) != 1 or optional[-1].tag != _EXTENSIONS or len(optional) > 3:
        raise der.DerError("want one list of extensions at the end")
    return tuple(_extension(der.members_of(element)) for element in der.sequence(wrapped[0].value))


def _extension(members: list[der.Element]) -> Extension:
    # `critical FALSE`, which DER leaves out, is spelled out by some vendors; it changes nothing.
    oid, *critical, value = members
    if len(critical) > 1:
        raise der.DerError("want an extension of two or three members")
    return Extension(der.oid(oid), any(map(der.boolean, critical)), der.value_of(value, der.OCTET_STRING))


def _basic_constraints(value: bytes | None) -> tuple[bool, int | None]:
    members = [] if value is None else der.sequence(value)
    is_ca = bool(members) and members[0].tag == der.BOOLEAN and der.boolean(members.pop(0))
    if len(members) > 1:
        raise der.DerError("want BasicConstraints of at most two members")
    path_length = der.integer(members[0]) if members else None
    if path_length is not None and path_length < 0:
        raise der.DerError("want a path length of 0 or more")
    return is_ca, path_length


def _purposes(value: bytes | None) -> frozenset[str] | None:
    return None if value is None else frozenset(map(der.oid, der.sequence(value)))


def _directory_names(value: bytes | None) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    names = [name.value for name in der.sequence(value) if name.tag == _DIRECTORY_NAME]
    return tuple(pair for name in names for pair in _attributes(der.sequence(name)))


def _attributes(rdns: list[der.Element]) -> list[tuple[str, str]]:
    """Return the (type, value) pairs of a Name; vendors put them in one RDN or in several."""
    pairs = []
    for rdn in rdns:
        for attribute in der.members_of(rdn, der.SET):
            oid, value = der.members_of(attribute)
            pairs.append((der.oid(oid), der.text(value)))
    return pairs
