"""`birthmark root`: the root of everything, on a machine of its own, without a network.

Files go in and out by hand: a request in, a certificate and a CRL out. Every act leaves a transcript in the folder.
"""

import errno
import os
from pathlib import Path
from typing import Annotated

import typer

from birthmark_server.ca import passphrase as sources
from birthmark_server.ca import root_ceremony
from birthmark_server.ca.cross_sign import cross_sign
from birthmark_server.ca.layout import ROOT_FILE, Layout, link_file
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CaKind
from birthmark_server.cli.ask import ask_passphrase
from birthmark_server.cli.output import Json, moment, plain, print_json, say
from birthmark_server.cli.workplace import now
from birthmark_server.domain import RevocationReason

app = typer.Typer(
    no_args_is_help=True,
    help="The root CA, on a machine of its own: make it, sign requests, certify its successor, publish its CRL.",
)

Folder = Annotated[Path, typer.Option("--folder", help="The root's folder.")]
Passphrase = Annotated[
    str,
    typer.Option(
        "--passphrase",
        metavar="SOURCE",
        help="Where the passphrase comes from: file:PATH, credential:NAME or command:PROGRAM... [default: ask]",
        show_default=False,
    ),
]
Token = Annotated[
    str,
    typer.Option(
        "--pkcs11",
        metavar="URI",
        help="Make the key in a PKCS#11 token instead of a file; the passphrase is its PIN.",
    ),
]
Organization = Annotated[str, typer.Option(help="The O of every subject, as Example Ltd.")]
TrustDomain = Annotated[str, typer.Option(help="The host in every device's URI, as fleet.example.com.")]
DnsDomain = Annotated[
    list[str] | None, typer.Option(help="Where server and broker may live, as example.com; may be repeated.")
]
IpNetwork = Annotated[list[str] | None, typer.Option(help="And in which networks, as 10.1.0.0/16; may be repeated.")]
CrlUrl = Annotated[str, typer.Option(help="Base of the CRLs' addresses, as http://pki.example.com; empty for none.")]


def read_passphrase(source: str, *, new: bool = False, token: str = "") -> bytes:
    """Return the passphrase from its source, or ask for it. new: of a key that will be made; token: in this one."""
    new_file = new and not token  # a token has rules of its own for PINs
    if not source:
        return ask_passphrase("Passphrase of the root's key", instead="--passphrase file:PATH", new=new_file)
    passphrase = sources.read(source)
    if new_file:
        sources.check_strength(passphrase)
    return passphrase


def namespace(
    organization: str, trust_domain: str, dns_domain: list[str] | None, ip_network: list[str] | None, crl_url: str
) -> Namespace:
    """Return the names as typed, checked."""
    return Namespace.checked(
        organization=organization,
        trust_domain=trust_domain,
        dns_domains=tuple(dns_domain or ()),
        ip_networks=tuple(ip_network or ()),
        public_url=crl_url,
    )


@app.command()
def init(
    organization: Organization,
    trust_domain: TrustDomain,
    folder: Folder = Path("root"),
    dns_domain: DnsDomain = None,
    ip_network: IpNetwork = None,
    crl_url: CrlUrl = "",
    label: Annotated[
        str, typer.Option(help="Of a further root for an installation that has one, as 2030; in a folder of its own.")
    ] = "",
    passphrase: Passphrase = "",
    pkcs11: Token = "",
) -> None:
    """Make the root: a P-384 key, its certificate without an end, its first CRL.

    The names are fixed here: every CA below is held to them by name constraints. Run it on a machine without a network,
    and keep that machine, or the folder, in a safe.

    Example:  birthmark root init --organization "Example Ltd" --trust-domain fleet.example.com --dns-domain example.com

    A root's successor has the very same names, and a label: root init ... --folder root-2030 --label 2030. The two then
    certify each other: birthmark root cross-sign --help
    """
    made = root_ceremony.root_init(
        folder=folder,
        namespace=namespace(organization, trust_domain, dns_domain, ip_network, crl_url),
        passphrase=read_passphrase(passphrase, new=True, token=pkcs11),
        now=now(),
        label=label,
        token=pkcs11,
    )
    say(f"the root is made: {made.certificate}, sha256 {made.sha256}")
    say(f"what happened is written in {made.transcript}; have it signed by those who were there")
    if label:
        say(f"carry {made.certificate.name} to the older root's machine, and the older one's here; on both:")
        say("  birthmark root cross-sign THE-OTHER.pem")
        return
    say("carry root.pem and root.crl to the server's machine; there: birthmark init --help")


@app.command()
def sign(
    request: Annotated[Path, typer.Argument(help="The request that `birthmark init` made, as birth-2026.csr.")],
    kind: Annotated[CaKind, typer.Option(help="What it is for; the request must say the same.")],
    folder: Folder = Path("root"),
    out: Annotated[
        Path | None, typer.Option(help="Where the certificate goes. [default: beside the request, .pem]")
    ] = None,
    passphrase: Passphrase = "",
) -> None:
    """Sign the request of an issuing CA, after comparing it with what its profile allows.

    Example:  birthmark root sign birth-2026.csr --kind birth
    """
    if not request.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(request))
    signed = root_ceremony.root_sign(
        folder=folder,
        request=request,
        kind=kind,
        out=out or request.with_suffix(".pem"),
        passphrase=read_passphrase(passphrase),
        now=now(),
    )
    say(f"signed: {signed.certificate}, sha256 {signed.sha256}; written down in {signed.transcript}")


@app.command("cross-sign")
def certify_root(
    other: Annotated[Path, typer.Argument(help="The other root's certificate, as root-2030.pem.")],
    folder: Folder = Path("root"),
    out: Annotated[
        Path | None, typer.Option(help="Where the link goes. [default: beside the other's, OTHER.by.THIS.pem]")
    ] = None,
    passphrase: Passphrase = "",
) -> None:
    """Certify another root of the very same names: whoever trusts this root then comes to trust that one.

    For a root's successor it is done once on each root's machine. Compare the other's fingerprint first, with those who
    were there when it was made. The link can be revoked as a CA's certificate can: birthmark root revoke.

    Example:  birthmark root cross-sign root-2030.pem --folder root
    """
    if not other.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(other))
    this = Layout.read(folder / ROOT_FILE).entries[0].name
    signed = cross_sign(
        folder=folder,
        other=other,
        out=out or other.with_name(link_file(other.stem, this)),
        passphrase=read_passphrase(passphrase),
        now=now(),
    )
    say(f"signed: {signed.certificate}, sha256 {signed.sha256}; written down in {signed.transcript}")
    say("carry it with root-LABEL.pem and root-LABEL.crl to the servers: birthmark init --add root --signed FOLDER")


@app.command()
def revoke(
    certificate: Annotated[Path, typer.Argument(help="The issuing CA's certificate, or a link to another root.")],
    reason: Annotated[RevocationReason, typer.Option(help="Why.")],
    folder: Folder = Path("root"),
    passphrase: Passphrase = "",
    as_json: Json = False,
) -> None:
    """Revoke an issuing CA, or a link to another root, and publish the CRL that says so.

    Example:  birthmark root revoke birth-2026.pem --reason keyCompromise
    """
    _published(
        root_ceremony.root_revoke(
            folder=folder,
            certificate=certificate,
            reason=reason,
            passphrase=read_passphrase(passphrase),
            now=now(),
        ),
        as_json=as_json,
    )


@app.command()
def crl(folder: Folder = Path("root"), passphrase: Passphrase = "", as_json: Json = False) -> None:
    """Publish the root's next CRL: once a year, and carry it to the servers' CA folder.

    Example:  birthmark root crl --folder root
    """
    _published(
        root_ceremony.root_crl(folder=folder, passphrase=read_passphrase(passphrase), now=now()), as_json=as_json
    )


def _published(published: root_ceremony.CrlPublished, *, as_json: bool) -> None:
    if as_json:
        print_json(plain(published))
        return
    say(f"CRL number {published.number}: {published.crl}; the next one is due before {moment(published.next_update)}")
