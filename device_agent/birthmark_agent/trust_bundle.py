"""May this trust bundle be taken? Who signed it, whether it is a later one, and whence its roots come.

A bundle counts if who signed it may command this device, by the roots that are pinned and by those of the bundle as
well; if its version is above the last one's, and no higher than a counter can be by now; and if each of its roots is
pinned already, or is the name and key of a link that a pinned root has signed. A link is for that root's own name, and
for no issuing CA: those keys are on servers. So whoever holds a server's key orders the roots that there are, makes
none, and leaves room for a later bundle (docs/protocol.md §12, docs/adr/0056). The cheap questions come first, and time
is judged as for commands (command.py).
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from birthmark_agent.clock import CheckTime
from birthmark_agent.errors import AgentError
from birthmark_agent.server_chain import ChainRefused, verify_signer_chain
from birthmark_agent.signer import SignerRefused, verify_signed
from birthmark_agent.tls import client_context
from birthmark_agent.trust import Trust, anchors_pem
from birthmark_wire import jws
from birthmark_wire.errors import DecodeError
from birthmark_wire.jws import SignedMessage
from birthmark_wire.trust import (
    CLOCKS_APART,
    MAX_TRUST_BYTES,
    TRUST_STALE,
    TRUST_TYPE,
    TrustBundle,
    most_version,
)

if TYPE_CHECKING:  # heavy: imported where it is used, which is apart
    from cryptography import x509


class TrustRefused(AgentError):
    """A trust bundle that this device must not take: it pins what it pinned before."""

    code = "trust-refused"
    advice = "nothing on the device: whoever sent it must send another; `birthmark-agent doctor` shows what is pinned"


class TrustUnsigned(TrustRefused):
    """Nobody who may command this device has signed it, by the roots that are pinned and by those of the bundle."""

    code = "trust-unsigned"


class TrustStale(TrustRefused):
    """A later bundle was taken before, or another one with this version; or its version leaves none for later."""

    code = TRUST_STALE


class TrustUnlinked(TrustRefused):
    """One of its roots is new, and no root that is pinned vouches for it; or it is no root at all."""

    code = "trust-unlinked"


@dataclass(frozen=True, slots=True)
class ArrivedBundle:
    """A bundle as it came; nothing of it is proven. digest: SHA-256 of its payload, hex."""

    bundle: TrustBundle
    message: SignedMessage
    digest: str


def read_bundle(data: bytes) -> ArrivedBundle:
    """Take a JWS apart. Raise TrustUnsigned where it is none: then nobody signed a bundle."""
    try:
        message = jws.decode(data, message_type=TRUST_TYPE, most=MAX_TRUST_BYTES)
        return ArrivedBundle(TrustBundle.decode(message.payload), message, hashlib.sha256(message.payload).hexdigest())
    except DecodeError as error:
        raise TrustUnsigned(f"it is no signed bundle: {error}") from None


def check_version(arrived: ArrivedBundle, *, pinned: Trust) -> None:
    """See that it is a later one than what is pinned. Raise TrustStale."""
    version = arrived.bundle.version
    if version < pinned.version:
        raise TrustStale(f"its version is {version}, and bundle {pinned.version} was taken")
    if version == pinned.version:
        raise TrustStale(f"bundle {version} was taken, and it was another one")


def verify_bundle(arrived: ArrivedBundle, *, pinned: Trust, at: datetime | None) -> None:
    """See who signed it, whence its roots come, and that a later one can follow. To be done apart. Raise TrustUnsigned,
    TrustUnlinked, TrustStale.

    at: the moment at which certificates must be valid; None where the clock is not set: when it was issued, as it
    claims itself, which says nothing about now.
    """
    moment = at or arrived.bundle.issued_at
    _verify_signed(arrived, roots_pem=pinned.anchors_pem, at=moment, of="the roots that are pinned")
    _prove_roots(arrived.bundle, pinned=pinned, at=moment)
    _verify_signed(arrived, roots_pem=anchors_pem(arrived.bundle), at=moment, of="the roots of the bundle")
    version, most = arrived.bundle.version, most_version(moment + CLOCKS_APART)
    if version > most:
        raise TrustStale(f"its version is {version}: none can be above {most} by now")


def _verify_signed(arrived: ArrivedBundle, *, roots_pem: str, at: datetime, of: str) -> None:
    try:
        verify_signed(arrived.message, anchors_pem=roots_pem, at=at)
    except SignerRefused as error:
        raise TrustUnsigned(f"by {of}: {error}") from None


def _prove_roots(bundle: TrustBundle, *, pinned: Trust, at: datetime) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    known = x509.load_pem_x509_certificates(pinned.anchors_pem.encode())
    pins = {root.public_bytes(Encoding.DER) for root in known}
    links = [_read(der) for der in bundle.links]
    for der in bundle.roots:
        if der in pins:
            continue
        root = _read(der)
        if not _is_ca(root) or not _issued(root, root):
            raise TrustUnlinked(f"{_title(root)} is not a CA's certificate, signed by itself")
        if not root.not_valid_before_utc <= at <= root.not_valid_after_utc:
            raise TrustUnlinked(f"{_title(root)} is not valid at {at:%Y-%m-%dT%H:%M:%SZ}")
        if not any(_leads_to(link, root) and _stands(link, known, pinned=pinned, at=at) for link in links):
            raise TrustUnlinked(f"no link by a pinned root leads to {_title(root)}, key {_key_id(root)}")


def _leads_to(link: "x509.Certificate", root: "x509.Certificate") -> bool:
    return link.subject == root.subject and _spki(link) == _spki(root)


def _stands(link: "x509.Certificate", known: list["x509.Certificate"], *, pinned: Trust, at: datetime) -> bool:
    """Return whether a pinned root itself signed this link, for its own name, as a CA's certificate that is valid at
    that moment. What it signed for another name is an issuing CA, bounded in what it may do, as no root is."""
    from cryptography.hazmat.primitives.serialization import Encoding

    if not _is_ca(link) or not any(link.subject == root.subject and _issued(link, root) for root in known):
        return False
    context = client_context(
        anchors_pem=pinned.anchors_pem, check=CheckTime(at, not_yet_valid_passes=False), self_test=False
    )
    try:
        verify_signer_chain(context, [link.public_bytes(Encoding.DER)])
    except ChainRefused:
        return False
    return True


def _read(der: bytes) -> "x509.Certificate":
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(der)
        _spki(certificate), _title(certificate), _is_ca(certificate)  # what is read lazily, too
    except Exception as error:  # noqa: BLE001 - a foreign certificate can be wrong in more ways than have a name
        raise TrustUnlinked(f"a root or link can't be read: {error}") from None
    return certificate


def _is_ca(certificate: "x509.Certificate") -> bool:
    from cryptography import x509

    try:
        extensions = certificate.extensions
        ca = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        return ca and extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return False


def _issued(certificate: "x509.Certificate", issuer: "x509.Certificate") -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _spki(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _key_id(certificate: "x509.Certificate") -> str:
    return hashlib.sha256(_spki(certificate)).hexdigest()[:16]


def _title(certificate: "x509.Certificate") -> str:
    return certificate.subject.rfc4514_string()
