"""What proves a CA's certificate: that of a root, of an issuing CA below it, and the links between roots.

A certificate is believed for its signature and for being, extension by extension, what its profile and the
installation's names say; never for its name alone: several roots may have the very same name (docs/adr/0100).
"""

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_server.ca.errors import UNREADABLE, AuthorityBroken
from birthmark_server.ca.extensions import ROOT_NAME, ca_extensions, expected, key_identifier, link_extensions
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CA_PROFILES, EARLIER_CA_PROFILES, CaKind


def read_certificate(path: Path) -> x509.Certificate:
    """Read one PEM certificate; raise AuthorityBroken."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise AuthorityBroken(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise AuthorityBroken(f"{path}: want one certificate in PEM: {error}") from None


def verify_ca(
    certificate: x509.Certificate,
    *,
    kind: CaKind,
    namespace: Namespace,
    root: x509.Certificate,
    now: datetime,
    root_name: str = ROOT_NAME,
) -> None:
    """Raise AuthorityBroken unless `root` signed this certificate and it is, extension by extension, that of a CA of
    this kind in this installation, within its time. The root itself is trusted because it was given.

    root_name: what the root is called, as in its CRL's address.
    """
    key, root_key = _keys(certificate, root)
    forms = (
        ca_extensions(
            kind,
            namespace,
            public_key=key,
            issuer_key_id=key_identifier(root_key),
            profile=profile,
            root_name=root_name,
        )
        for profile in (CA_PROFILES[kind], *EARLIER_CA_PROFILES.get(kind, ()))
    )
    if list(certificate.extensions) not in [expected(form) for form in forms]:
        raise AuthorityBroken(f"{_subject(certificate)}: its extensions are not those of this installation's {kind} CA")
    _verify_time(certificate, now)


def verify_root(certificate: x509.Certificate, *, namespace: Namespace, now: datetime) -> None:
    """Raise AuthorityBroken unless this is a root of this installation's names, signed by itself, within its time."""
    verify_ca(certificate, kind=CaKind.ROOT, namespace=namespace, root=certificate, now=now)
    if certificate.subject != namespace.root_subject():
        wanted = namespace.root_subject().rfc4514_string()
        raise AuthorityBroken(f"{_subject(certificate)}: want a root that is called {wanted}")


def verify_link(
    link: x509.Certificate,
    *,
    subject: x509.Certificate,
    issuer: x509.Certificate,
    namespace: Namespace,
    issuer_name: str,
    now: datetime,
) -> None:
    """Raise AuthorityBroken unless `link` is what the root `issuer` certifies of the root `subject`: its name, its key,
    and the extensions of a link. issuer_name: what that root is called, as in its CRL's address."""
    key, issuer_key = _keys(link, issuer)
    if link.subject != subject.subject or key != subject.public_key():
        raise AuthorityBroken(f"{_subject(link)}: a link to another root")
    wanted = link_extensions(
        namespace, public_key=key, issuer_key_id=key_identifier(issuer_key), issuer_name=issuer_name
    )
    if list(link.extensions) != expected(wanted):
        raise AuthorityBroken(f"{_subject(link)}: its extensions are not those of a link between roots")
    _verify_time(link, now)


def authority_key_id(certificate: x509.Certificate) -> bytes:
    """Return the key identifier of whoever signed a certificate; empty where it does not say, or can't be read."""
    try:
        value = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except UNREADABLE:
        return b""
    return value.key_identifier or b""


def subject_key_id(certificate: x509.Certificate) -> bytes:
    """Return the key identifier of a CA's certificate; empty where it does not say."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except UNREADABLE:
        return b""


def _keys(
    certificate: x509.Certificate, issuer: x509.Certificate
) -> tuple[ec.EllipticCurvePublicKey, ec.EllipticCurvePublicKey]:
    """Return both keys once the one has signed the other's certificate."""
    key, issuer_key = certificate.public_key(), issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(issuer_key, ec.EllipticCurvePublicKey):
        raise AuthorityBroken(f"{_subject(certificate)}: want elliptic curve keys")
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise AuthorityBroken(
            f"{_subject(certificate)}: not signed by this root: {error or type(error).__name__}"
        ) from None
    return key, issuer_key


def _verify_time(certificate: x509.Certificate, now: datetime) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= now <= ends:
        raise AuthorityBroken(f"{_subject(certificate)}: valid from {begins} to {ends}; it is {now}")


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()
