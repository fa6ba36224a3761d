"""What happens on the enrollment server's machine: make the issuing CAs, take in what the root signed.

`authority_init` makes keys and requests; the requests go to the root by hand; `authority_complete` takes the signed
certificates in and proves that they are what was asked for. `authority_add` asks for one more CA while the others work
on, as the next year's Birth CA. All may be run again after an interruption and finish what is missing; nothing is
overwritten but a CRL by its successor. `demo_init` plays both machines in one folder, and says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from birthmark_server.ca import files, keys
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.ca_certificate import (
    authority_key_id,
    read_certificate,
    subject_key_id,
    verify_ca,
    verify_root,
)
from birthmark_server.ca.crl import RootCrl, verify_root_crl
from birthmark_server.ca.errors import AuthorityBroken, CeremonyRefused
from birthmark_server.ca.extensions import ca_constants
from birthmark_server.ca.layout import AUTHORITY_FILE, NEXT_FILE, Entry, Layout, checked_label, crl_file, root_file
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CA_PROFILES, CRITICAL, CaKind
from birthmark_server.ca.root_ceremony import begin, open_or_create, root_init, root_sign
from birthmark_server.ca.signer import BuilderKey, CaSigner, hash_for
from birthmark_server.ca.transcript import certificate_facts, write_transcript

ISSUING: Final = (CaKind.BIRTH, CaKind.FLEET, CaKind.INFRA)

DEMO_NOTE: Final = (
    "This is a demonstration: the root's key lies beside the CAs that it signed, on a machine with a network. "
    "Whoever takes this folder and its passphrase is the certification authority."
)


@dataclass(frozen=True, slots=True)
class AuthorityMade:
    """What `authority_init` wrote. requests: one for each issuing CA, to be signed by the root."""

    folder: Path
    requests: tuple[tuple[CaKind, Path], ...]
    transcript: Path


@dataclass(frozen=True, slots=True)
class AuthorityCompleted:
    """What `authority_complete` wrote."""

    folder: Path
    certificates: tuple[Path, ...]
    transcript: Path
    root_sha256: str


def authority_init(
    *,
    folder: Path,
    namespace: Namespace,
    passphrase: bytes,
    now: datetime,
    label: str = "",
    token: str = "",
    demo: bool = False,
) -> AuthorityMade:
    """Make Birth, Fleet and Infra CA keys (P-256) and their requests.

    label: what tells these CAs from the next year's or lot's, as in `birth-2026`; empty for the year of `now`. token: a
    `pkcs11:` URI with token and module-path, to make the keys in there; empty for encrypted files. Raises
    CeremonyRefused if the folder was begun with other names.
    """
    files.make_folder(folder)
    label = label or str(now.year)
    entries = tuple(_entry(kind, label, token) for kind in ISSUING)
    begin(folder / AUTHORITY_FILE, Layout(namespace, entries, demo))
    requests = tuple((entry.kind, _request(folder, entry, namespace, label, passphrase)) for entry in entries)
    transcript = write_transcript(
        folder,
        act="issuing CAs made" + (" (demonstration)" if demo else ""),
        facts=[("organization", namespace.organization), ("trust domain", namespace.trust_domain)],
        written=[folder / AUTHORITY_FILE, *(path for _, path in requests)],
        now=now,
    )
    return AuthorityMade(folder, requests, transcript)


def authority_add(
    *, folder: Path, kind: CaKind, passphrase: bytes, now: datetime, label: str = "", token: str = ""
) -> AuthorityMade:
    """Make key and request of one more CA of this kind in a folder that is in use.

    passphrase: that of the other keys. label, token: as for `authority_init`. The folder stays in force as it is until
    `authority_complete` has the certificate. Raises CeremonyRefused if there is a CA of that name, KeyUnusable for
    another passphrase.
    """
    if kind not in ISSUING:
        raise CeremonyRefused("a root is made on a machine of its own: birthmark root init")
    Authority.load(folder, passphrase=passphrase, now=now)
    layout, label = Layout.read(folder / AUTHORITY_FILE), label or str(now.year)
    entry = _entry(kind, label, token)
    if entry.name in {known.name for known in layout.entries}:
        raise CeremonyRefused(f"{folder} has {entry.name} already: give the new one another label")
    wanted = replace(layout, entries=(*layout.entries, entry))
    begin(folder / NEXT_FILE, wanted)
    request = _request(folder, entry, layout.namespace, label, passphrase)
    facts = [("name", entry.name), ("profile", kind.value)]
    transcript = write_transcript(
        folder, act="issuing CA added", facts=facts, written=(folder / NEXT_FILE, request), now=now
    )
    return AuthorityMade(folder, ((kind, request),), transcript)


def authority_complete(
    *, folder: Path, root: Path, root_crl: Path, certificates: Sequence[Path], now: datetime
) -> AuthorityCompleted:
    """Take in a root's certificate and CRL and the certificates that it signed, in any order.

    The root is the folder's first one, or one that `root_add` took in. Each certificate must be one that
    `authority_init` or `authority_add` asked for: same key, same names, signed by this root and, unless it is here
    already, not revoked by it. Raises AuthorityBroken or CeremonyRefused naming the file; what fits is kept, so the
    rest may follow later.
    """
    following = folder / NEXT_FILE
    layout = Layout.read(following if following.exists() else folder / AUTHORITY_FILE)
    anchor = read_certificate(root)
    verify_root(anchor, namespace=layout.namespace, now=now)
    name = _name_of(folder, layout, anchor, root)
    crl = keepable_crl(root_crl, folder / crl_file(name), anchor)
    keep(folder / root_file(name), anchor.public_bytes(Encoding.PEM))
    files.replace(folder / crl_file(name), crl.der)
    for path in certificates:
        certificate = read_certificate(path)
        entry = _asked_for(folder, layout, certificate, path)
        verify_ca(certificate, kind=entry.kind, namespace=layout.namespace, root=anchor, now=now, root_name=name)
        place = folder / f"{entry.name}.pem"
        if certificate.serial_number in crl.revoked and not place.exists():
            raise AuthorityBroken(f"{path}: revoked by this root's CRL {crl.number}")
        keep(place, certificate.public_bytes(Encoding.PEM))
    missing = [entry.name for entry in layout.entries if not (folder / f"{entry.name}.pem").exists()]
    if missing:
        raise AuthorityBroken(f"still without a certificate: {', '.join(missing)}")
    if following.exists():
        files.replace(folder / AUTHORITY_FILE, layout.to_json())
        following.unlink()
    kept = tuple(folder / f"{entry.name}.pem" for entry in layout.entries)
    written = (folder / root_file(name), *kept)
    facts = [fact for path in written for fact in certificate_facts(read_certificate(path))]
    transcript = write_transcript(folder, act="certificates taken in", facts=facts, written=written, now=now)
    return AuthorityCompleted(folder, kept, transcript, anchor.fingerprint(hashes.SHA256()).hex())


def demo_init(*, folder: Path, namespace: Namespace, passphrase: bytes, now: datetime, token: str = "") -> Authority:
    """Play the root's machine and the server's in one place and return the opened authority.

    The root goes to `folder/root`. Running it again after an interruption finishes; once done it opens what is there.
    """
    root_folder = folder / "root"
    files.make_folder(folder)
    if not (root_folder / "root.crl").exists():
        root_init(folder=root_folder, namespace=namespace, passphrase=passphrase, now=now, token=token)
    keep(folder / "DEMONSTRATION.txt", f"{DEMO_NOTE}\n".encode())
    if not is_complete(folder):
        made = authority_init(
            folder=folder, namespace=namespace, passphrase=passphrase, now=now, token=token, demo=True
        )
        signed = [_sign_once(root_folder, kind, request, passphrase, now) for kind, request in made.requests]
        authority_complete(
            folder=folder,
            root=root_folder / "root.pem",
            root_crl=root_folder / "root.crl",
            certificates=signed,
            now=now,
        )
    return Authority.load(folder, passphrase=passphrase, now=now)


def take_in(*, folder: Path, signed: Path, now: datetime) -> tuple[AuthorityCompleted, ...]:
    """Take in all that lies in the folder `signed`: certificates of issuing CAs, with the certificates and CRLs of the
    roots that signed them. Raises as `authority_complete`, once for each root."""
    found = {path: read_certificate(path) for path in sorted(signed.glob("*.pem"))}
    roots = [path for path, certificate in found.items() if certificate.issuer == certificate.subject]
    issuing = {path: authority_key_id(certificate) for path, certificate in found.items() if path not in roots}
    groups = [
        (root, [path for path, signer in issuing.items() if signer == subject_key_id(found[root])])
        for root in roots
        if authority_key_id(found[root]) == subject_key_id(found[root])  # or it is a link, which root_add wants
    ]
    if not groups:
        raise CeremonyRefused(
            f"{signed} holds no root's certificate: want root.pem and root.crl beside what was signed"
        )
    strangers = set(issuing) - {path for _, certificates in groups for path in certificates}
    if strangers:
        raise AuthorityBroken(f"{min(strangers)}: not signed by a root in {signed}")
    busy = [group for group in groups if group[1]] or groups
    return tuple(
        authority_complete(
            folder=folder, root=root, root_crl=root.with_suffix(".crl"), certificates=certificates, now=now
        )
        for root, certificates in busy
    )


def is_complete(folder: Path) -> bool:
    """Return whether the folder has every certificate that its authorities asked for."""
    if not (folder / AUTHORITY_FILE).exists() or not (folder / "root.crl").exists():
        return False
    return all((folder / f"{entry.name}.pem").exists() for entry in Layout.read(folder / AUTHORITY_FILE).entries)


def _sign_once(root_folder: Path, kind: CaKind, request: Path, passphrase: bytes, now: datetime) -> Path:
    out = root_folder / f"{request.stem}.pem"
    if not out.exists():
        root_sign(folder=root_folder, request=request, kind=kind, out=out, passphrase=passphrase, now=now)
    return out


def _entry(kind: CaKind, label: str, token: str) -> Entry:
    name = f"{kind}-{checked_label(label)}"
    return Entry(name, kind, keys.location(name, token=token))


def _request(folder: Path, entry: Entry, namespace: Namespace, label: str, passphrase: bytes) -> Path:
    """Make key and request where an interrupted run did not."""
    signer = open_or_create(folder, entry, curve=ec.SECP256R1(), passphrase=passphrase)
    path = folder / f"{entry.name}.csr"
    if not path.exists():
        files.write_new(path, _csr(signer, entry.kind, namespace, label).public_bytes(Encoding.PEM))
    return path


def _csr(signer: CaSigner, kind: CaKind, namespace: Namespace, label: str) -> x509.CertificateSigningRequest:
    title = f"{namespace.organization} {CA_PROFILES[kind].title} {label}"
    if len(title) > 64:
        raise CeremonyRefused(f"organization and label are too long for a common name of 64 characters: {title!r}")
    builder = x509.CertificateSigningRequestBuilder().subject_name(namespace.subject(NameOID.COMMON_NAME, title))
    for extension in ca_constants(kind, namespace):
        builder = builder.add_extension(extension, critical=CRITICAL[extension.oid])
    return builder.sign(BuilderKey.over(signer), hash_for(signer.public_key().curve))


def _name_of(folder: Path, layout: Layout, anchor: x509.Certificate, path: Path) -> str:
    """Return what a root that signed for this folder is called in it."""
    for name in layout.root_names:
        place = folder / root_file(name)
        if not place.exists() or read_certificate(place) == anchor:
            return name
    raise CeremonyRefused(
        f"{path} is none of the roots in {folder}, and nothing was overwritten; a further one is taken in by "
        "birthmark init --add root --signed"
    )


def _asked_for(folder: Path, layout: Layout, certificate: x509.Certificate, path: Path) -> Entry:
    for entry in layout.entries:
        request = x509.load_pem_x509_csr((folder / f"{entry.name}.csr").read_bytes())
        if request.public_key() == certificate.public_key() and request.subject == certificate.subject:
            return entry
    raise AuthorityBroken(f"{path}: was not asked for by any request in {folder}")


def keepable_crl(path: Path, known: Path, root: x509.Certificate) -> RootCrl:
    """Return a root's CRL at `path`, if it is this root's and not older than the one that is kept at `known`."""
    try:
        brought = verify_root_crl(path.read_bytes(), root=root)
        kept = verify_root_crl(known.read_bytes(), root=root) if known.exists() else brought
    except (OSError, AuthorityBroken) as error:
        raise AuthorityBroken(f"{path}: {error}") from None
    if brought.number < kept.number or (brought.number == kept.number and brought.der != kept.der):
        raise CeremonyRefused(f"{path} is the root's CRL {brought.number}; {known}, number {kept.number}, is kept")
    return brought


def keep(path: Path, data: bytes) -> None:
    """Write a file, or find it there with these very contents."""
    if not path.exists():
        files.write_new(path, data)
    elif path.read_bytes() != data:
        raise CeremonyRefused(f"{path} is there already and differs; nothing was overwritten")
