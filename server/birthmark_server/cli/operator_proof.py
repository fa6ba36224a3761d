"""Who is acting: proven by an operator's certificate and its private key, never by a name on the command line.

The certificate must be one of the Infra CA's under its operator profile (a role is a policy, never a name), in time, on
record and not revoked; the key proves itself by a signature over fresh random bytes. Two certificates with the same
subject are the same operator: whoever renews theirs does not become a second pair of eyes.

This binds an act to a key. It does not keep out whoever may write to the database: they need no command line.
"""

import errno
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs12

from birthmark_server.ca.authority import Authority
from birthmark_server.ca.files import read_private
from birthmark_server.cli.ask import ask_passphrase
from birthmark_server.cli.output import moment
from birthmark_server.errors import Malformed, Refused
from birthmark_server.roles import ROLE_OF, Role
from birthmark_server.store.protocol import Store

_DER_SEQUENCE: Final = b"\x30"


class NotAnOperator(Refused):
    """The certificate opens other doors, or none any more."""

    code: ClassVar[str] = "not-an-operator"


class OperatorFileUnreadable(Malformed):
    """The file holds no certificate with its key, or the passphrase does not open it."""

    code: ClassVar[str] = "operator-file"


@dataclass(frozen=True, slots=True)
class OperatorCertificate:
    """A proven operator. Only `prove_operator` makes one."""

    name: str
    sha256: str
    role: Role


def prove_operator(path: Path, *, authority: Authority, store: Store, now: datetime) -> OperatorCertificate:
    """Return the operator that `path` proves, or raise NotAnOperator, or a Refused of the authority.

    authority: as the record has it, so that no CA vouches for operators that is not believed.
    """
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    _, certificate, _ = read_operator(path)
    leaf = authority.verify_leaf(certificate.public_bytes(Encoding.DER), now=now)
    if leaf.profile not in ROLE_OF:
        raise NotAnOperator(f"{path}: want an operator's certificate, got that of a {leaf.profile} named {leaf.name}")
    known = store.certificate_by_sha256(leaf.sha256)
    if known is None:
        raise NotAnOperator(f"{path}: the certificate of {leaf.name} is not on record here")
    if known[0].revoked_at is not None:
        raise NotAnOperator(f"{path}: the certificate of {leaf.name} was revoked at {moment(known[0].revoked_at)}")
    return OperatorCertificate(leaf.name, leaf.sha256, ROLE_OF[leaf.profile])


def read_operator(
    path: Path,
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate, tuple[x509.Certificate, ...]]:
    """Return the key, the certificate that it is proven to belong to, and what stands above it in the file. Raise
    OperatorFileUnreadable, NotAnOperator, or KeyUnusable."""
    data = read_private(path)
    above: tuple[x509.Certificate, ...] = ()
    try:
        if b"-----BEGIN" in data:
            certificate: x509.Certificate | None
            certificate, *others = x509.load_pem_x509_certificates(data)
            above = tuple(others)
            encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data
            key = load_pem_private_key(data, _ask_passphrase(path) if encrypted else None)
        elif not data.startswith(_DER_SEQUENCE):  # before anyone is asked for a passphrase
            raise OperatorFileUnreadable(f"{path}: want a certificate and its key, PEM or PKCS #12")
        else:
            loaded, certificate, more = pkcs12.load_key_and_certificates(data, _ask_passphrase(path))
            above = tuple(more)
            if loaded is None:
                raise OperatorFileUnreadable(f"{path}: holds no private key")
            key = loaded
    except (ValueError, TypeError) as error:
        raise OperatorFileUnreadable(f"{path}: want a certificate and its key (PEM or PKCS #12): {error}") from None
    if certificate is None or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise OperatorFileUnreadable(f"{path}: want a certificate and its elliptic curve key")
    _prove_possession(key, certificate)
    return key, certificate, above


def _ask_passphrase(path: Path) -> bytes:
    given = os.environ.get("BIRTHMARK_OPERATOR_PASSPHRASE")
    if given is not None:
        return given.encode()
    return ask_passphrase(f"Passphrase of {path}", instead="it in BIRTHMARK_OPERATOR_PASSPHRASE")


def _prove_possession(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    public = certificate.public_key()
    statement = b"birthmark operator\0" + os.urandom(32)
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise NotAnOperator("want an elliptic curve certificate")
    try:
        public.verify(key.sign(statement, ec.ECDSA(hashes.SHA256())), statement, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise NotAnOperator("the private key is not the certificate's") from None
