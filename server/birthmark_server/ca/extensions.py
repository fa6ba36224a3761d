"""From profiles to the extensions that `cryptography` encodes, in the order in which they appear in a certificate."""

import hashlib
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CA_PROFILES, CRITICAL, LINK_PROFILE, CaKind, CaProfile, Profile

ROOT_NAME: Final = "root"
"""What an installation's first root is called where authorities have names: its CRL is ROOT_NAME.crl."""


def key_identifier(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the leftmost 160 bits of SHA-256 over the subjectPublicKey's octets (RFC 7093 §2, method 1)."""
    return hashlib.sha256(public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).digest()[:20]


def key_usage(*, ca: bool) -> x509.KeyUsage:
    """Return keyCertSign and cRLSign for a CA, digitalSignature alone for everybody else."""
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def leaf_constants(profile: Profile, *, issuer_key_id: bytes, crl_url: str) -> list[x509.ExtensionType]:
    """Return the extensions that all certificates of one profile and issuer share.

    Two more differ from one certificate to the next: the subject key identifier, and the subject alternative name
    where the profile has one.
    """
    extensions: list[x509.ExtensionType] = [
        x509.AuthorityKeyIdentifier(issuer_key_id, None, None),
        x509.BasicConstraints(ca=False, path_length=None),
        key_usage(ca=False),
    ]
    if profile.key_purposes:
        extensions.append(x509.ExtendedKeyUsage(profile.key_purposes))
    if profile.policies:
        extensions.append(_policies(profile.policies))
    if not profile.checked:
        extensions.append(x509.OCSPNoCheck())
    if crl_url and profile.located:
        extensions.append(_distribution_point(crl_url))
    return extensions


def ca_constants(kind: CaKind, namespace: Namespace, *, profile: CaProfile | None = None) -> list[x509.ExtensionType]:
    """Return what a CA's request asks for, and its certificate contains: all but the two key identifiers and the CRL
    distribution point. profile: the one of this kind, or one that held before."""
    profile = profile or CA_PROFILES[kind]
    extensions: list[x509.ExtensionType] = [
        x509.BasicConstraints(ca=True, path_length=profile.path_length),
        key_usage(ca=True),
    ]
    if profile.key_purposes:
        extensions.append(x509.ExtendedKeyUsage(profile.key_purposes))
    if profile.policies:
        extensions.append(_policies(profile.policies))
    if kind is not CaKind.ROOT:
        extensions.append(namespace.constraints(kind))
    return extensions


def ca_extensions(
    kind: CaKind,
    namespace: Namespace,
    *,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key_id: bytes,
    profile: CaProfile | None = None,
    root_name: str = ROOT_NAME,
) -> list[x509.ExtensionType]:
    """Return every extension of a CA's certificate. The root's has no distribution point: it is revoked by hand.

    root_name: of the root that signs, as in its CRL's address.
    """
    extensions: list[x509.ExtensionType] = [
        x509.AuthorityKeyIdentifier(issuer_key_id, None, None),
        x509.SubjectKeyIdentifier(key_identifier(public_key)),
        *ca_constants(kind, namespace, profile=profile),
    ]
    url = namespace.crl_url(root_name)
    if url and kind is not CaKind.ROOT:
        extensions.append(_distribution_point(url))
    return extensions


def link_extensions(
    namespace: Namespace, *, public_key: ec.EllipticCurvePublicKey, issuer_key_id: bytes, issuer_name: str
) -> list[x509.ExtensionType]:
    """Return every extension of a link. public_key: of the root that it certifies. issuer_key_id, issuer_name: of the
    root that signs it, and whose CRL can take it back."""
    extensions: list[x509.ExtensionType] = [
        x509.AuthorityKeyIdentifier(issuer_key_id, None, None),
        x509.SubjectKeyIdentifier(key_identifier(public_key)),
        x509.BasicConstraints(ca=True, path_length=LINK_PROFILE.path_length),
        key_usage(ca=True),
        _policies(LINK_PROFILE.policies),
    ]
    url = namespace.crl_url(issuer_name)
    if url:
        extensions.append(_distribution_point(url))
    return extensions


def expected(extensions: list[x509.ExtensionType]) -> list[x509.Extension[x509.ExtensionType]]:
    """Return the extensions with their criticality, as a parsed certificate must show them."""
    return [x509.Extension(extension.oid, CRITICAL[extension.oid], extension) for extension in extensions]


def _policies(policies: tuple[x509.ObjectIdentifier, ...]) -> x509.CertificatePolicies:
    return x509.CertificatePolicies([x509.PolicyInformation(policy, None) for policy in policies])


def _distribution_point(url: str) -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints([x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)])
