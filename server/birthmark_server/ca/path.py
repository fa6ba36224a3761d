"""Certificate policies along a path (RFC 5280 §6.1), for verifiers that check everything but those.

`ssl` and `cryptography` build and verify paths but know nothing of policies; `openssl verify -explicit_policy` does,
and the tests compare the two. Our CAs map no policies, and anyPolicy is asserted by the links between roots alone,
which stand where a trust anchor would and bound nothing: so the policy tree is a plain intersection of the others. Any
other certificate that does either is refused rather than half understood.
"""

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from birthmark_server.ca import oids
from birthmark_server.ca.errors import PolicyMissing, UntrustedCertificate

_UNSUPPORTED: Final = (
    ExtensionOID.POLICY_MAPPINGS,
    ExtensionOID.POLICY_CONSTRAINTS,
    ExtensionOID.INHIBIT_ANY_POLICY,
)


def verify_policy(
    path: Sequence[x509.Certificate], *, required: x509.ObjectIdentifier
) -> frozenset[x509.ObjectIdentifier]:
    """Return the policies under which an already verified path is valid, `required` being one of them.

    path: the leaf first, without the trust anchor. An explicit policy is required of every certificate. Raises
    PolicyMissing, or UntrustedCertificate for policy extensions that we do not process. Proves no signature.
    """
    valid = valid_policies(path)
    if required not in valid:
        have = ", ".join(sorted(policy.dotted_string for policy in valid)) or "none"
        raise PolicyMissing(f"want a path valid under {required.dotted_string}, got {have}")
    return valid


def valid_policies(path: Sequence[x509.Certificate]) -> frozenset[x509.ObjectIdentifier]:
    """Return the policies that every certificate of the path asserts, links between roots left out; none for a path
    without others."""
    asserted = [_asserted(certificate) for certificate in path if not _is_link(certificate)]
    return frozenset.intersection(*asserted) if asserted else frozenset()


def _is_link(certificate: x509.Certificate) -> bool:
    """Return whether this is a self-issued CA certificate under anyPolicy alone."""
    if certificate.subject != certificate.issuer:
        return False
    values = [extension.value for extension in certificate.extensions if extension.oid not in _UNSUPPORTED]
    asserted = [
        policy.policy_identifier for each in values if isinstance(each, x509.CertificatePolicies) for policy in each
    ]
    authority = any(isinstance(each, x509.BasicConstraints) and each.ca for each in values)
    return authority and asserted == [oids.ANY_POLICY] and len(values) == len(certificate.extensions)


def _asserted(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier]:
    policies: frozenset[x509.ObjectIdentifier] = frozenset()
    for extension in certificate.extensions:
        if extension.oid in _UNSUPPORTED:
            raise UntrustedCertificate(f"{extension.oid.dotted_string} in {certificate.subject.rfc4514_string()}")
        if isinstance(extension.value, x509.CertificatePolicies):
            policies = frozenset(policy.policy_identifier for policy in extension.value)
    if oids.ANY_POLICY in policies:
        raise UntrustedCertificate(f"anyPolicy in {certificate.subject.rfc4514_string()}")
    return policies
