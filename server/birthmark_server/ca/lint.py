"""Is this certificate exactly what its profile says? Asked before anything is signed.

The reader here is `cryptography`'s parser over the encoded bytes, and every value is compared with the profile, so an
extension too many, a wrong criticality, a name outside the constraints or a misencoded string is found whatever put it
there. What was issued long ago, under an older profile, is judged by reader.py instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from birthmark_server.ca import oids
from birthmark_server.ca.errors import LintFailed
from birthmark_server.ca.extensions import key_identifier
from birthmark_server.ca.names import check_name, host_permitted
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import BACKDATED, CRITICAL, NEVER, AltName, Profile
from birthmark_wire import ids
from birthmark_wire.errors import DecodeError

_SERIAL_BITS: Final = range(64, 160)
_SIGNATURE: Final = {
    "secp256r1": SignatureAlgorithmOID.ECDSA_WITH_SHA256,
    "secp384r1": SignatureAlgorithmOID.ECDSA_WITH_SHA384,
}


@dataclass(frozen=True, slots=True)
class Template:
    """What every certificate of one profile and issuer has in common. constants: the extensions, by their OID."""

    profile: Profile
    namespace: Namespace
    issuer: x509.Name
    issuer_curve: str
    issuer_key_id: bytes
    not_before: datetime
    not_after: datetime
    constants: Mapping[x509.ObjectIdentifier, x509.ExtensionType]


def lint(certificate: x509.Certificate, template: Template) -> None:
    """Raise LintFailed naming the first thing that is not as the profile says. The signature is not looked at."""
    profile = template.profile
    try:
        key, extensions = certificate.public_key(), certificate.extensions
        alt_name = _lint_extensions(extensions, template, _lint_key(key, template))
        _lint_frame(certificate, template)
        _lint_validity(certificate, template)
        name = read_subject(certificate.subject, profile, template.namespace)
        check_alt_name(alt_name, name, profile, template.namespace)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise LintFailed(f"{profile.name}: {error}") from None


def read_subject(subject: x509.Name, profile: Profile, namespace: Namespace) -> str:
    """Return the name that a subject gives: O=organization, then the profile's attribute. Raise DecodeError."""
    attributes = list(subject)
    if [attribute.oid for attribute in attributes] != [NameOID.ORGANIZATION_NAME, profile.subject]:
        raise DecodeError(f"want O, then {profile.subject.dotted_string}", field="subject")
    organization, name = (str(attribute.value) for attribute in attributes)
    if organization != namespace.organization:
        raise DecodeError(f"want O={namespace.organization}, got {organization!r}", field="subject")
    check_name(name, profile.name)
    return name


def check_alt_name(
    found: x509.SubjectAlternativeName | None, name: str, profile: Profile, namespace: Namespace
) -> None:
    """Raise DecodeError unless the subject alternative name is what the profile wants for this holder."""
    names = list(found) if found is not None else []
    match profile.alt_name:
        case AltName.ABSENT:
            fits = found is None
        case AltName.DEVICE_URI:
            fits = names == [x509.UniformResourceIdentifier(ids.device_uri(namespace.trust_domain, name))]
        case AltName.HARDWARE_MODULE:
            fits = len(names) == 1 and _is_hardware_module(names[0])
        case AltName.HOST:
            fits = bool(names) and all(host_permitted(host, namespace) for host in names)
    if not fits:
        raise DecodeError(f"want {profile.alt_name.value}, got {names}", field="subjectAltName")


def _is_hardware_module(name: x509.GeneralName) -> bool:
    return isinstance(name, x509.OtherName) and name.type_id == oids.ON_HARDWARE_MODULE_NAME


def _lint_key(key: object, template: Template) -> bytes:
    """Return the key's identifier."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _SIGNATURE:
        _refuse(template, "want a P-256 or P-384 key")
    key_id = key_identifier(key)
    if key_id == template.issuer_key_id:
        _refuse(template, "certifies the CA's own key")
    return key_id


def _lint_frame(certificate: x509.Certificate, template: Template) -> None:
    if certificate.version is not x509.Version.v3:
        _refuse(template, "want version 3")
    if certificate.serial_number <= 0 or certificate.serial_number.bit_length() not in _SERIAL_BITS:
        _refuse(template, f"want a positive serial number of {_SERIAL_BITS.start} bits or more, in 20 octets")
    if certificate.issuer != template.issuer:
        _refuse(template, f"the issuer is not {template.issuer.rfc4514_string()}")
    if certificate.signature_algorithm_oid != _SIGNATURE[template.issuer_curve]:
        _refuse(template, f"signature algorithm {certificate.signature_algorithm_oid.dotted_string}")


def _lint_validity(certificate: x509.Certificate, template: Template) -> None:
    most = template.profile.most
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not template.not_before <= begins < ends <= template.not_after:
        _refuse(
            template, f"{begins} to {ends} is not within its issuer's {template.not_before} to {template.not_after}"
        )
    if most is None and ends != NEVER:
        _refuse(template, "want notAfter 99991231235959Z")
    if most is not None and ends - begins > most + BACKDATED:
        _refuse(template, f"want at most {most}")


def _lint_extensions(
    extensions: x509.Extensions, template: Template, key_id: bytes
) -> x509.SubjectAlternativeName | None:
    """Compare all extensions but the subject alternative name, which is returned."""
    alt_name = None
    unseen = {ExtensionOID.SUBJECT_KEY_IDENTIFIER, *template.constants}
    for extension in extensions:
        oid, value = extension.oid, extension.value
        if extension.critical != CRITICAL.get(oid):
            _refuse(template, f"extension {oid.dotted_string}: unknown, or of the wrong criticality")
        if isinstance(value, x509.SubjectAlternativeName):
            alt_name = value
            continue
        own = isinstance(value, x509.SubjectKeyIdentifier) and value.digest == key_id
        if not own and template.constants.get(oid) != value:
            _refuse(template, f"extension {oid.dotted_string} differs from the profile's")
        unseen.discard(oid)
    if unseen:
        _refuse(template, f"lacks {', '.join(sorted(oid.dotted_string for oid in unseen))}")
    return alt_name


def _refuse(template: Template, reason: str) -> NoReturn:
    raise LintFailed(f"{template.profile.name}: {reason}")
