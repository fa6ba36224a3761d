"""What happens on the root's own machine: make the root, sign the CAs' requests, publish the root's CRL.

Files go in and out by hand: a request in, a certificate and a CRL out. Nothing here needs a network. What the folder
holds is in root_folder.py; how one root certifies another, in cross_sign.py.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from birthmark_server.ca import files, keys
from birthmark_server.ca.ca_certificate import read_certificate, verify_ca
from birthmark_server.ca.errors import AuthorityBroken, CeremonyRefused, RequestRefused
from birthmark_server.ca.extensions import ca_constants, ca_extensions, expected, key_identifier
from birthmark_server.ca.layout import ROOT_FILE, Entry, Layout, crl_file, root_file, root_name
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import BACKDATED, CA_PROFILES, NEVER, CaKind
from birthmark_server.ca.root_folder import (
    CRL_LIFETIME,
    OpenRoot,
    certified_before,
    certify,
    keep_signed,
    open_root,
    publish_crl,
    seconds,
)
from birthmark_server.ca.signer import CA_CURVES, CaSigner
from birthmark_server.ca.transcript import certificate_facts, write_transcript
from birthmark_server.domain import RevocationReason


@dataclass(frozen=True, slots=True)
class RootMade:
    """What `root_init` wrote."""

    certificate: Path
    crl: Path
    transcript: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class RootSigned:
    """What `root_sign` wrote."""

    certificate: Path
    transcript: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class CrlPublished:
    """What `root_crl` wrote."""

    crl: Path
    transcript: Path
    number: int
    next_update: datetime


def root_init(
    *,
    folder: Path,
    namespace: Namespace,
    passphrase: bytes,
    now: datetime,
    label: str = "",
    token: str = "",
    random: Callable[[int], bytes] = os.urandom,
) -> RootMade:
    """Make the root: P-384, no end, self-signed; its first CRL; a transcript.

    label: of a further root for an installation that has one, in a folder of its own; it is called the very same, and
    told apart by its key, its files and its CRL's address: `root-LABEL`. token: a `pkcs11:` URI with token and
    module-path, to make the key in there; empty for an encrypted file. Running it again with the same names finishes
    what an interruption left; with other names, or once done, CeremonyRefused.
    """
    files.make_folder(folder)
    name = root_name(label)
    wanted = Layout(namespace, (Entry(name, CaKind.ROOT, keys.location(name, token=token)),))
    begin(folder / ROOT_FILE, wanted)
    if (folder / crl_file(name)).exists():
        raise CeremonyRefused(f"{folder} holds a root already")
    signer = open_or_create(folder, wanted.entries[0], curve=ec.SECP384R1(), passphrase=passphrase)
    path = folder / root_file(name)
    if not path.exists():
        files.write_new(path, _self_signed(namespace, signer, now, random).public_bytes(Encoding.PEM))
    root = OpenRoot(folder, wanted, read_certificate(path), signer)
    publish_crl(root, number=1, now=now)
    facts = certificate_facts(root.certificate)
    transcript = write_transcript(
        folder, act="root made", facts=facts, written=(folder / ROOT_FILE, path, root.crl), now=now
    )
    return RootMade(path, root.crl, transcript, root.certificate.fingerprint(hashes.SHA256()).hex())


def root_sign(
    *,
    folder: Path,
    request: Path,
    kind: CaKind,
    out: Path,
    passphrase: bytes,
    now: datetime,
    random: Callable[[int], bytes] = os.urandom,
) -> RootSigned:
    """Sign a CA's request, PEM in, PEM out. kind: what the operator says it is for; the request must say the same.

    Raises RequestRefused unless the request is signed by its own key, names this organization, has a key of an allowed
    kind, and asks for exactly the extensions of its profile under this root's names. A key is certified once: the same
    request gets the same certificate again (an interrupted ceremony is simply repeated), another role is refused.
    """
    if kind is CaKind.ROOT:
        raise RequestRefused("a root signs issuing CAs only")
    if out.exists():
        raise CeremonyRefused(f"{out} is there already; nothing was overwritten")
    root = open_root(folder, passphrase=passphrase, now=now)
    csr = _read_request(request)
    public_key = _verify_request(csr, kind=kind, root=root)
    certificate = certified_before(root, public_key) or _certify(root, csr.subject, public_key, kind, now, random)
    try:
        verify_ca(
            certificate,
            kind=kind,
            namespace=root.layout.namespace,
            root=root.certificate,
            now=now,
            root_name=root.name,
        )
    except AuthorityBroken as error:
        raise RequestRefused(f"this root certified that key before: {error}") from None
    kept = keep_signed(root, certificate)
    files.write_new(out, certificate.public_bytes(Encoding.PEM))
    facts = [("request", str(request)), ("profile", kind.value), *certificate_facts(certificate)]
    transcript = write_transcript(folder, act="request signed", facts=facts, written=(request, kept, out), now=now)
    return RootSigned(out, transcript, certificate.fingerprint(hashes.SHA256()).hex())


def root_revoke(
    *, folder: Path, certificate: Path, reason: RevocationReason, passphrase: bytes, now: datetime
) -> CrlPublished:
    """Revoke an issuing CA, or a link, that this root signed, and publish the CRL that says so."""
    revoked = read_certificate(certificate)
    name = f"{revoked.serial_number:x}"
    kept = folder / "signed" / f"{name}.pem"
    if not kept.exists() or read_certificate(kept) != revoked:
        raise RequestRefused(f"{certificate} was not signed by the root in {folder}")
    files.make_folder(folder / "revoked")
    entry = {"revoked_at": int(now.timestamp()), "reason": reason.value}
    files.write_new(folder / "revoked" / f"{name}.json", json.dumps(entry).encode())
    return root_crl(folder=folder, passphrase=passphrase, now=now)


def root_crl(*, folder: Path, passphrase: bytes, now: datetime) -> CrlPublished:
    """Publish the root's next CRL, in place of the last one."""
    root = open_root(folder, passphrase=passphrase, now=now)
    number = crl_number(root.crl) + 1
    publish_crl(root, number=number, now=now)
    next_update = seconds(now) + CRL_LIFETIME
    facts = [("number", str(number)), ("next update", next_update.isoformat())]
    transcript = write_transcript(folder, act="CRL published", facts=facts, written=(root.crl,), now=now)
    return CrlPublished(root.crl, transcript, number, next_update)


def crl_number(path: Path) -> int:
    """Return the number of a CRL in DER; raise AuthorityBroken."""
    try:
        crl = x509.load_der_x509_crl(path.read_bytes())
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise AuthorityBroken(f"{path}: {error}") from None


def begin(path: Path, wanted: Layout) -> None:
    """Write the settings file that starts a ceremony, or find that an earlier run with the same names did."""
    if not path.exists():
        wanted.write_new(path)
        return
    begun = Layout.read(path)
    if begun != wanted:
        differ = "; ".join(f"{name} {old}, now {new}" for name, old, new in _differences(begun, wanted))
        raise CeremonyRefused(f"{path} was begun with {differ}; give the same again, or another folder")


def _differences(begun: Layout, wanted: Layout) -> Iterator[tuple[str, str, str]]:
    for field in fields(Namespace):
        old, new = getattr(begun.namespace, field.name), getattr(wanted.namespace, field.name)
        if old != new:
            yield field.name.replace("_", " "), _told(old), _told(new)
    if begun.entries != wanted.entries:
        old, new = ([f"{entry.name} in {entry.key}" for entry in layout.entries] for layout in (begun, wanted))
        yield "authorities", _told(old), _told(new)
    if begun.more_roots != wanted.more_roots:
        yield "further roots", _told(begun.more_roots), _told(wanted.more_roots)
    if begun.demo != wanted.demo:
        yield "--demo", "yes" if begun.demo else "no", "yes" if wanted.demo else "no"


def _told(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return repr(text) if text else "none"


def open_or_create(folder: Path, entry: Entry, *, curve: ec.EllipticCurve, passphrase: bytes) -> CaSigner:
    """Return the signer of an authority's key, made now unless an interrupted run made it."""
    if keys.exists(folder, entry.key, passphrase=passphrase):
        return keys.open_signer(folder, entry.key, passphrase=passphrase)
    return keys.create_signer(folder, entry.key, curve=curve, passphrase=passphrase)


def _self_signed(
    namespace: Namespace, signer: CaSigner, now: datetime, random: Callable[[int], bytes]
) -> x509.Certificate:
    public_key = signer.public_key()
    extensions = ca_extensions(CaKind.ROOT, namespace, public_key=public_key, issuer_key_id=key_identifier(public_key))
    return certify(
        signer,
        issuer=namespace.root_subject(),
        subject=namespace.root_subject(),
        public_key=public_key,
        extensions=extensions,
        not_before=seconds(now) - BACKDATED,
        not_after=NEVER,
        random=random,
    )


def _read_request(path: Path) -> x509.CertificateSigningRequest:
    try:
        return x509.load_pem_x509_csr(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RequestRefused(f"{path}: want a PKCS #10 request in PEM: {error}") from None


def _verify_request(csr: x509.CertificateSigningRequest, *, kind: CaKind, root: OpenRoot) -> ec.EllipticCurvePublicKey:
    """Return the key of a request that this root may sign as `kind`; raise RequestRefused naming what is wrong."""
    names, public_key = root.layout.namespace, csr.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, CA_CURVES):
        raise RequestRefused("want a P-256 or P-384 key")
    try:
        signed = csr.is_signature_valid
        asked = list(csr.extensions)
    except (ValueError, InvalidSignature, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise RequestRefused(f"the request can't be read: {error}") from None
    if not signed:
        raise RequestRefused("the request is not signed by its own key")
    title = f"{names.organization} {CA_PROFILES[kind].title}"
    common = [str(attribute.value) for attribute in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(common) != 1 or csr.subject != names.subject(NameOID.COMMON_NAME, common[0]):
        raise RequestRefused(f"want the subject O={names.organization}, CN=..., got {csr.subject.rfc4514_string()}")
    if not common[0].startswith(title):
        raise RequestRefused(f"want a CN that begins with {title!r}, got {common[0]!r}")
    if asked != expected(ca_constants(kind, names)):
        raise RequestRefused(f"the request asks for other extensions than those of a {kind} CA under this root's names")
    return public_key


def _certify(
    root: OpenRoot,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    kind: CaKind,
    now: datetime,
    random: Callable[[int], bytes],
) -> x509.Certificate:
    lifetime = CA_PROFILES[kind].lifetime
    extensions = ca_extensions(
        kind,
        root.layout.namespace,
        public_key=public_key,
        issuer_key_id=key_identifier(root.signer.public_key()),
        root_name=root.name,
    )
    return certify(
        root.signer,
        issuer=root.certificate.subject,
        subject=subject,
        public_key=public_key,
        extensions=extensions,
        not_before=max(root.certificate.not_valid_before_utc, seconds(now) - BACKDATED),
        not_after=NEVER if lifetime is None else seconds(now) + lifetime,
        random=random,
    )
