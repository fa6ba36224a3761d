"""A second root for an installation of tests/support/pki.py: the same names, other keys, and links in both directions.

    new = NewRoot.of(pki)
    new.certificate, new.new_with_old, new.old_with_new
    new.infra, new.fleet                      issuing CAs below it, made in the likeness of the installation's own
    new.below(leaf)                           the same leaf, issued by the new Infra or Fleet CA
    bundle(...) and sign_bundle(...)          what a server says about them

Certificates are copied from real ones: only keys, key identifiers, serial numbers and signatures differ.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from birthmark_server.ca.extensions import key_identifier
from birthmark_server.ca.issuer import to_der
from birthmark_wire import jws
from birthmark_wire.trust import TRUST_TYPE, TrustBundle
from support.pki import PASSPHRASE, Leaf, Pki

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Signed:
    """A CA's certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return to_der(self.certificate)


@dataclass(frozen=True)
class NewRoot:
    """See the module's docstring. old: the installation's first root."""

    old: Signed
    new: Signed
    new_with_old: bytes
    old_with_new: bytes
    fleet: Signed
    infra: Signed

    @classmethod
    def of(cls, pki: Pki) -> "NewRoot":
        """Make another root for `pki`."""
        authority = pki.authority
        key = load_pem_private_key((pki.folder / "root" / "root.key").read_bytes(), PASSPHRASE)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        old = Signed(authority.root.certificate, key)
        new = root_like(authority.root.certificate)
        return cls(
            old,
            new,
            new_with_old=to_der(like(new.certificate, by=old)),
            old_with_new=to_der(like(old.certificate, by=new)),
            fleet=ca_like(authority.fleet.certificate, by=new),
            infra=ca_like(authority.infra.certificate, by=new),
        )

    @property
    def pem(self) -> str:
        return self.new.certificate.public_bytes(Encoding.PEM).decode()

    def below(self, leaf: Leaf, *, linked: bool = True) -> Leaf:
        """Return a leaf of the installation as the CA of the same kind below the new root issues it.

        linked: its chain ends in NewWithOld, as a server shows it while devices pin the old root.
        """
        issuer = self.fleet if leaf.certificate.issuer == self.fleet.certificate.subject else self.infra
        certificate = like(leaf.certificate, by=issuer)
        chain = [certificate, issuer.certificate]
        if linked:
            chain.append(x509.load_der_x509_certificate(self.new_with_old))
        pem = b"".join(one.public_bytes(Encoding.PEM) for one in chain)
        return replace(leaf, certificate=certificate, der=to_der(certificate), chain_pem=pem)


def root_like(root: x509.Certificate) -> Signed:
    """Return a self-signed root of the same name."""
    key = ec.generate_private_key(ec.SECP384R1())
    return Signed(like(root, public=key.public_key(), by=Signed(root, key)), key)


def ca_like(ca: x509.Certificate, *, by: Signed) -> Signed:
    """Return a CA of the same name with another key."""
    key = ec.generate_private_key(ec.SECP384R1())
    return Signed(like(ca, public=key.public_key(), by=by), key)


def like(
    model: x509.Certificate,
    *,
    by: Signed,
    public: ec.EllipticCurvePublicKey | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    without: tuple[type, ...] = (),
) -> x509.Certificate:
    """Return a copy of `model`, signed by `by`. public: another key for the subject. without: what to leave out."""
    public = public or model.public_key()  # type: ignore[assignment]  # the CA's are EC keys
    assert isinstance(public, ec.EllipticCurvePublicKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(model.subject)
        .issuer_name(by.certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or model.not_valid_before_utc)
        .not_valid_after(not_after or model.not_valid_after_utc)
    )
    renewed: list[x509.ExtensionType] = [
        x509.SubjectKeyIdentifier(key_identifier(public)),
        x509.AuthorityKeyIdentifier(key_identifier(by.key.public_key()), None, None),
    ]
    for extension in model.extensions:
        if not isinstance(extension.value, (x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier, *without)):
            builder = builder.add_extension(extension.value, extension.critical)
    for value in renewed:
        if not isinstance(value, without):
            builder = builder.add_extension(value, critical=False)
    return builder.sign(by.key, hashes.SHA256())


def bundle(version: int, *roots: bytes, links: tuple[bytes, ...] = (), **more: Any) -> TrustBundle:
    """Return a bundle that was made just now."""
    return TrustBundle(version, datetime.now(UTC).replace(microsecond=0), roots, links, **more)


def sign_bundle(payload: TrustBundle | bytes, signer: Leaf, *, message_type: str = TRUST_TYPE) -> bytes:
    """Return the JWS, as a server with this command certificate sends it."""
    chain = tuple(to_der(one) for one in x509.load_pem_x509_certificates(signer.chain_pem))
    body = payload if isinstance(payload, bytes) else payload.encode()
    signed = jws.signing_input(body, message_type=message_type, chain=chain)
    return jws.join(signed, signer.key.sign(signed, ec.ECDSA(hashes.SHA256())))
