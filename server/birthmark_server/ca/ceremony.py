"""What happens on the enrollment server's machine: make the issuing CAs, take in what the root signed.

`authority_init` makes keys and requests; the requests go to the root by hand; `authority_complete` takes the signed
certificates in and proves that they are what was asked for. Both may be run again after an interruption and finish what
is missing; nothing is ever overwritten. `demo_init` plays both machines in one folder, and says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from birthmark_server.ca import files, keys
from birthmark_server.ca.authority import Authority, read_certificate, verify_ca
from birthmark_server.ca.errors import AuthorityBroken, CeremonyRefused
from birthmark_server.ca.extensions import ca_constants
from birthmark_server.ca.layout import AUTHORITY_FILE, Entry, Layout
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CA_PROFILES, CRITICAL, CaKind
from birthmark_server.ca.root_ceremony import begin, crl_number, open_or_create, root_init, root_sign
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


def authority_complete(
    *, folder: Path, root: Path, root_crl: Path, certificates: Sequence[Path], now: datetime
) -> AuthorityCompleted:
    """Take in the root's certificate and CRL and the certificates that it signed, in any order.

    Each must be one that `authority_init` asked for: same key, same names, signed by this root. Raises AuthorityBroken
    or CeremonyRefused naming the file; what fits is kept, so the rest may follow later.
    """
    layout = Layout.read(folder / AUTHORITY_FILE)
    anchor = read_certificate(root)
    verify_ca(anchor, kind=CaKind.ROOT, namespace=layout.namespace, root=anchor, now=now)
    crl_number(root_crl)
    _keep(folder / "root.pem", anchor.public_bytes(Encoding.PEM))
    _keep(folder / "root.crl", root_crl.read_bytes())
    for path in certificates:
        certificate = read_certificate(path)
        entry = _asked_for(folder, layout, certificate, path)
        verify_ca(certificate, kind=entry.kind, namespace=layout.namespace, root=anchor, now=now)
        _keep(folder / f"{entry.name}.pem", certificate.public_bytes(Encoding.PEM))
    missing = [entry.name for entry in layout.entries if not (folder / f"{entry.name}.pem").exists()]
    if missing:
        raise AuthorityBroken(f"still without a certificate: {', '.join(missing)}")
    kept = tuple(folder / f"{entry.name}.pem" for entry in layout.entries)
    facts = [fact for path in (folder / "root.pem", *kept) for fact in certificate_facts(read_certificate(path))]
    transcript = write_transcript(
        folder, act="certificates taken in", facts=facts, written=(folder / "root.pem", *kept), now=now
    )
    return AuthorityCompleted(folder, kept, transcript, anchor.fingerprint(hashes.SHA256()).hex())


def demo_init(*, folder: Path, namespace: Namespace, passphrase: bytes, now: datetime, token: str = "") -> Authority:
    """Play the root's machine and the server's in one place and return the opened authority.

    The root goes to `folder/root`. Running it again after an interruption finishes; once done it opens what is there.
    """
    root_folder = folder / "root"
    files.make_folder(folder)
    if not (root_folder / "root.crl").exists():
        root_init(folder=root_folder, namespace=namespace, passphrase=passphrase, now=now, token=token)
    _keep(folder / "DEMONSTRATION.txt", f"{DEMO_NOTE}\n".encode())
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
    name = f"{kind}-{label}"
    if not label.isascii() or not label.replace("-", "").isalnum() or label != label.lower() or len(label) > 32:
        raise CeremonyRefused(f"want a label of at most 32 of a-z, 0-9 and '-', got {label!r}")
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


def _asked_for(folder: Path, layout: Layout, certificate: x509.Certificate, path: Path) -> Entry:
    for entry in layout.entries:
        request = x509.load_pem_x509_csr((folder / f"{entry.name}.csr").read_bytes())
        if request.public_key() == certificate.public_key() and request.subject == certificate.subject:
            return entry
    raise AuthorityBroken(f"{path}: was not asked for by any request in {folder}")


def _keep(path: Path, data: bytes) -> None:
    """Write a file, or find it there with these very contents."""
    if not path.exists():
        files.write_new(path, data)
    elif path.read_bytes() != data:
        raise CeremonyRefused(f"{path} is there already and differs; nothing was overwritten")
