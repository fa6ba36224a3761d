"""The root's own folder, opened: its key, what it signed, what it revoked, and its CRL.

    root.json               the names that everything below is held to, and where the key is
    NAME.key NAME.pem NAME.crl   the root; NAME is `root`, or `root-LABEL` for a further one of the same names
    signed/SERIAL.pem       what was signed; revoked/SERIAL.json: what was revoked
    transcript-*.txt        every act

A key is certified once, in one role: `certified_before` finds what it got.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca import files, keys
from birthmark_server.ca.ca_certificate import read_certificate, verify_root
from birthmark_server.ca.crl import build_crl
from birthmark_server.ca.errors import AuthorityBroken, RequestRefused
from birthmark_server.ca.issuer import random_serial_number
from birthmark_server.ca.layout import ROOT_FILE, Layout, crl_file, root_file
from birthmark_server.ca.profile import CRITICAL, CaKind
from birthmark_server.ca.signer import BuilderKey, CaSigner, hash_for
from birthmark_server.domain import RevocationReason, RevokedEntry
from birthmark_wire.encoding import read_json

CRL_LIFETIME: Final = timedelta(days=400)
"""The root is offline: its CRL is renewed once a year, with a month to be late."""


@dataclass(frozen=True, slots=True)
class OpenRoot:
    """A root that can sign, as crl.py and the ceremonies want it."""

    folder: Path
    layout: Layout
    certificate: x509.Certificate
    signer: CaSigner
    kind: CaKind = CaKind.ROOT

    @property
    def name(self) -> str:
        return self.layout.entries[0].name

    @property
    def crl(self) -> Path:
        return self.folder / crl_file(self.name)


def open_root(folder: Path, *, passphrase: bytes, now: datetime) -> OpenRoot:
    """Open the root of a folder. Raise AuthorityBroken, KeyUnusable."""
    layout = Layout.read(folder / ROOT_FILE)
    entry = layout.entries[0]
    certificate = read_certificate(folder / root_file(entry.name))
    verify_root(certificate, namespace=layout.namespace, now=now)
    signer = keys.open_signer(folder, entry.key, passphrase=passphrase)
    if signer.public_key() != certificate.public_key():
        raise AuthorityBroken(f"{folder}: the key is not the root certificate's")
    return OpenRoot(folder, layout, certificate, signer)


def certify(
    signer: CaSigner,
    *,
    issuer: x509.Name,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    extensions: list[x509.ExtensionType],
    not_before: datetime,
    not_after: datetime,
    random: Callable[[int], bytes],
) -> x509.Certificate:
    """Return a CA's certificate as a root signs it."""
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(random_serial_number(random))
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=CRITICAL[extension.oid])
    return builder.sign(BuilderKey.over(signer), hash_for(signer.public_key().curve))


def certified_before(root: OpenRoot, public_key: ec.EllipticCurvePublicKey) -> x509.Certificate | None:
    """Return the certificate that this root gave this key, if any; raise RequestRefused if it was revoked."""
    own = root.folder / root_file(root.name)
    for path in (own, *sorted((root.folder / "signed").glob("*.pem"))):
        certificate = read_certificate(path)
        if certificate.public_key() == public_key:
            if (root.folder / "revoked" / f"{path.stem}.json").exists():
                raise RequestRefused(f"that key's certificate was revoked: {path}")
            return certificate
    return None


def keep_signed(root: OpenRoot, certificate: x509.Certificate) -> Path:
    """Keep what was signed, so that it can be revoked; return where."""
    kept = root.folder / "signed" / f"{certificate.serial_number:x}.pem"
    files.make_folder(kept.parent)
    if not kept.exists():
        files.write_new(kept, certificate.public_bytes(Encoding.PEM))
    return kept


def publish_crl(root: OpenRoot, *, number: int, now: datetime) -> None:
    """Write the root's CRL of that number, in place of the last one."""
    revoked = [_revoked(path) for path in sorted((root.folder / "revoked").glob("*.json"))]
    now = seconds(now)
    files.replace(root.crl, build_crl(root, revoked, number=number, now=now, next_update=now + CRL_LIFETIME))


def seconds(now: datetime) -> datetime:
    """Return the moment without its fraction of a second, which no certificate has."""
    return now.replace(microsecond=0)


def _revoked(path: Path) -> RevokedEntry:
    try:
        entry = read_json(path.read_bytes())
        at_us = entry.integer("revoked_at", low=0, high=2**37) * 1_000_000
        return path.stem, at_us, RevocationReason(entry.text("reason")).value
    except (OSError, ValueError) as error:
        raise AuthorityBroken(f"{path}: {error}") from None
