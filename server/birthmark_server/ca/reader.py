"""Which role a certificate gives its holder, whoever shows it and however long ago it was issued.

Looser than lint.py on purpose: certificates outlive the software that issued them, birth certificates for ever, so a
profile may gain or lose an extension without turning away those that are in the field. What decides is what a role
stands on: the key purposes and policies of exactly one profile (one that demands all that another does, and more, hides
that other), the names, an end entity's basicConstraints and key usage, and no critical extension that we do not know.
"""

from collections.abc import Collection
from typing import TypeVar

from cryptography import x509

from birthmark_server.ca.errors import UntrustedCertificate
from birthmark_server.ca.lint import check_alt_name, read_subject
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CRITICAL, Profile
from birthmark_server.domain import CertificateProfile
from birthmark_wire.errors import DecodeError

_T = TypeVar("_T", bound=x509.ExtensionType)


def read_leaf(
    certificate: x509.Certificate, *, profiles: Collection[Profile], namespace: Namespace
) -> tuple[CertificateProfile, str]:
    """Return the profile, one of `profiles`, and the holder's name. Raise UntrustedCertificate if none fits, or two.

    Does not look at the signature, the time, or revocation.
    """
    try:
        extensions = certificate.extensions
        purposes, policies = _end_entity(extensions)
        fitting = _most_demanding(
            [
                profile
                for profile in profiles
                if purposes.issuperset(profile.key_purposes) and policies.issuperset(profile.policies)
            ]
        )
        if len(fitting) != 1:
            roles = " and ".join(profile.name for profile in fitting) or "none"
            raise DecodeError(f"want the key purposes and policies of one role, got those of {roles}")
        name = read_subject(certificate.subject, fitting[0], namespace)
        check_alt_name(_value(extensions, x509.SubjectAlternativeName), name, fitting[0], namespace)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise UntrustedCertificate(f"issued by us, but for no role that we know: {error}") from None
    return fitting[0].name, name


def _most_demanding(fitting: Collection[Profile]) -> list[Profile]:
    """Leave out each profile of which another one here demands all, and more: a role's policy stands beside what makes
    an operator."""
    wants = {profile.name: {*profile.key_purposes, *profile.policies} for profile in fitting}
    return [profile for profile in fitting if not any(wants[profile.name] < wants[other.name] for other in fitting)]


def _end_entity(
    extensions: x509.Extensions,
) -> tuple[frozenset[x509.ObjectIdentifier], frozenset[x509.ObjectIdentifier]]:
    """Return key purposes and policies of an end entity that may sign; raise DecodeError for any other."""
    for extension in extensions:
        if extension.critical and extension.oid not in CRITICAL:
            raise DecodeError(f"unknown critical extension {extension.oid.dotted_string}")
    basic, usage = _value(extensions, x509.BasicConstraints), _value(extensions, x509.KeyUsage)
    if basic is None or basic.ca or usage is None or not usage.digital_signature or usage.key_cert_sign:
        raise DecodeError("want an end entity whose key may make signatures, and no CA's")
    purposes = _value(extensions, x509.ExtendedKeyUsage)
    policies = _value(extensions, x509.CertificatePolicies)
    return (
        frozenset(purposes or ()),
        frozenset(policy.policy_identifier for policy in policies or ()),
    )


def _value(extensions: x509.Extensions, kind: type[_T]) -> _T | None:
    for extension in extensions:
        if isinstance(extension.value, kind):
            return extension.value
    return None
