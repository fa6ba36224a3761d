"""Is this certificate exactly what its profile says? Asked before anything is signed, and of what a peer shows us.

The reader here is `cryptography`'s parser over the encoded bytes, and every value is compared with the profile, so an
extension too many, a wrong criticality, a name outside the constraints or a misencoded string is found whatever put it
there. `Template` holds what the certificates of one profile and issuer have in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

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
    """What every certificate of one profile and issuer has in common."""

    profile: Profile
    namespace: Namespace
    issuer: x509.Name
    issuer_curve: str
    issuer_key_id: bytes
    not_before: datetime
    not_after: datetime
    constants: Sequence[x509.Extension[x509.ExtensionType]]


def lint(certificate: x509.Certificate, template: Template) -> str:
    """Return the name that the certificate gives its holder: a device id, a serial number, an infrastructure name.

    Raises LintFailed naming the first thing that is not as the profile says. Does not check the signature.
    """
    profile = template.profile
    try:
        key, subject = certificate.public_key(), certificate.subject
        extensions = list(certificate.extensions)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise LintFailed(f"{profile.name}: can't be read back: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _SIGNATURE:
        raise LintFailed(f"{profile.name}: want a P-256 or P-384 key")
    _require(certificate.version is x509.Version.v3, profile, "want version 3")
    _require(certificate.serial_number > 0, profile, "want a positive serial number")
    _require(certificate.serial_number.bit_length() in _SERIAL_BITS, profile, "want 64 to 159 bits of serial number")
    _require(certificate.issuer == template.issuer, profile, "the issuer is not the issuing CA's subject")
    _require(
        certificate.signature_algorithm_oid == _SIGNATURE[template.issuer_curve], profile, "wrong signature algorithm"
    )
    _lint_validity(certificate, template)
    _lint_extensions(extensions, template, key_identifier(key))
    name = _lint_subject(subject, template)
    _lint_alt_name(extensions, template, name)
    return name


def _require(condition: bool, profile: Profile, otherwise: str) -> None:
    if not condition:
        raise LintFailed(f"{profile.name}: {otherwise}")


def _lint_validity(certificate: x509.Certificate, template: Template) -> None:
    profile = template.profile
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    _require(template.not_before <= begins < ends <= template.not_after, profile, "outlives its issuer, or ends early")
    if profile.most is None:
        _require(ends == NEVER, profile, "want notAfter 99991231235959Z")
    else:
        _require(ends - begins <= profile.most + BACKDATED, profile, f"want at most {profile.most.days} days")


def _lint_extensions(extensions: list[x509.Extension[x509.ExtensionType]], template: Template, key_id: bytes) -> None:
    profile = template.profile
    _require(key_id != template.issuer_key_id, profile, "certifies the CA's own key")
    wanted = {extension.oid: extension.value for extension in template.constants}
    wanted[ExtensionOID.SUBJECT_KEY_IDENTIFIER] = x509.SubjectKeyIdentifier(key_id)
    for extension in extensions:
        oid = extension.oid
        _require(extension.critical == CRITICAL.get(oid), profile, f"wrong criticality of {oid.dotted_string}")
        if oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME:
            _require(profile.alt_name is not AltName.ABSENT, profile, "want no subject alternative name")
            continue
        _require(wanted.pop(oid, None) == extension.value, profile, f"extension {oid.dotted_string} differs")
    _require(not wanted, profile, f"lacks {', '.join(oid.dotted_string for oid in wanted)}")


def _lint_subject(subject: x509.Name, template: Template) -> str:
    profile, namespace = template.profile, template.namespace
    attributes = list(subject)
    _require(len(attributes) == len(subject.rdns) == 2, profile, "want a subject of two attributes")
    organization, last = attributes
    _require(organization.oid == NameOID.ORGANIZATION_NAME, profile, "want O first in the subject")
    _require(organization.value == namespace.organization, profile, "the O is not this installation's")
    _require(last.oid == profile.subject, profile, f"want {profile.subject.dotted_string} last in the subject")
    name = str(last.value)
    try:
        check_name(name, profile.name)
    except DecodeError as error:
        raise LintFailed(f"{profile.name}: {error}") from None
    return name


def _lint_alt_name(extensions: list[x509.Extension[x509.ExtensionType]], template: Template, name: str) -> None:
    profile = template.profile
    if profile.alt_name is AltName.ABSENT:
        return
    found = [extension.value for extension in extensions if isinstance(extension.value, x509.SubjectAlternativeName)]
    _require(len(found) == 1, profile, "lacks a subject alternative name")
    names = list(found[0])
    match profile.alt_name:
        case AltName.DEVICE_URI:
            uri = x509.UniformResourceIdentifier(ids.device_uri(template.namespace.trust_domain, name))
            _require(names == [uri], profile, f"want exactly the URI {uri.value}")
        case AltName.HARDWARE_MODULE:
            fits = len(names) == 1 and isinstance(names[0], x509.OtherName)
            _require(fits and names[0].type_id == oids.ON_HARDWARE_MODULE_NAME, profile, "want one HardwareModuleName")
        case AltName.HOST:
            _require(bool(names), profile, "want at least one DNS name or IP address")
            for host in names:
                _require(host_permitted(host, template.namespace), profile, f"{host.value} is outside the CA's names")
