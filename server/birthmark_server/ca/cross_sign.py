"""One root certifies another: the link by which whoever trusts the first comes to trust the second.

Done on the machine of the root that signs, with the other's certificate carried there by hand; for a rollover once on
each of the two machines (docs/operations.md). The link says what the other's own certificate says of its name and key,
and begins when the younger of the two roots did (RFC 4210 §4.4): the other's key is older than the link, and so may be
what it signed.
"""

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca import files
from birthmark_server.ca.ca_certificate import read_certificate, verify_link, verify_root
from birthmark_server.ca.errors import AuthorityBroken, CeremonyRefused, RequestRefused
from birthmark_server.ca.extensions import key_identifier, link_extensions
from birthmark_server.ca.profile import NEVER
from birthmark_server.ca.root_ceremony import RootSigned
from birthmark_server.ca.root_folder import OpenRoot, certified_before, certify, keep_signed, open_root
from birthmark_server.ca.transcript import certificate_facts, write_transcript


def cross_sign(
    *,
    folder: Path,
    other: Path,
    out: Path,
    passphrase: bytes,
    now: datetime,
    random: Callable[[int], bytes] = os.urandom,
) -> RootSigned:
    """Sign a link to another root of the very same names. other: its certificate, PEM.

    Raises RequestRefused unless it is a root as this one is: self-signed, of the same name, extension by extension of
    the profile, with a key of its own. A key is certified once: run again, it gives the same link. What the names below
    the other root are held to stands in its folder, not in its certificate: give both the same at `root init`; a server
    refuses CAs that were signed under others.
    """
    if out.exists():
        raise CeremonyRefused(f"{out} is there already; nothing was overwritten")
    root = open_root(folder, passphrase=passphrase, now=now)
    certificate = _read_other(other, root, now)
    public_key = certificate.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):  # verify_root saw to it
        raise RequestRefused(f"{other}: want an elliptic curve key")
    link = certified_before(root, public_key) or _sign(root, certificate, public_key, random)
    try:
        verify_link(
            link,
            subject=certificate,
            issuer=root.certificate,
            namespace=root.layout.namespace,
            issuer_name=root.name,
            now=now,
        )
    except AuthorityBroken as error:
        raise RequestRefused(f"this root certified that key before: {error}") from None
    kept = keep_signed(root, link)
    files.write_new(out, link.public_bytes(Encoding.PEM))
    certified = ("certified root", f"SHA-256 {certificate.fingerprint(hashes.SHA256()).hex()}")
    transcript = write_transcript(
        folder,
        act="another root certified",
        facts=[("by", root.name), certified, *certificate_facts(link)],
        written=(other, kept, out),
        now=now,
    )
    return RootSigned(out, transcript, link.fingerprint(hashes.SHA256()).hex())


def _read_other(path: Path, root: OpenRoot, now: datetime) -> x509.Certificate:
    try:
        certificate = read_certificate(path)
        verify_root(certificate, namespace=root.layout.namespace, now=now)
    except AuthorityBroken as error:
        raise RequestRefused(f"want another root of these names: {error}") from None
    if certificate.public_key() == root.certificate.public_key():
        raise RequestRefused(f"{path} is this root itself: want another one")
    return certificate


def _sign(
    root: OpenRoot, other: x509.Certificate, public_key: ec.EllipticCurvePublicKey, random: Callable[[int], bytes]
) -> x509.Certificate:
    extensions = link_extensions(
        root.layout.namespace,
        public_key=public_key,
        issuer_key_id=key_identifier(root.signer.public_key()),
        issuer_name=root.name,
    )
    return certify(
        root.signer,
        issuer=root.certificate.subject,
        subject=other.subject,
        public_key=public_key,
        extensions=extensions,
        not_before=max(root.certificate.not_valid_before_utc, other.not_valid_before_utc),
        not_after=NEVER,
        random=random,
    )
