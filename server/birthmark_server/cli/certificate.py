"""`birthmark certificate`: every certificate that was issued here."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca import passphrase
from birthmark_server.ca.authority import Authority
from birthmark_server.cli.cut_off import cut_off
from birthmark_server.cli.infrastructure import ROLES, issue_infrastructure, write_pair, write_person
from birthmark_server.cli.output import Column, Json, Limit, pages, say, show
from birthmark_server.cli.workplace import now, workplace
from birthmark_server.domain import CertificateProfile, CertificateRecord, RevocationReason
from birthmark_server.store.errors import UnknownCertificate

app = typer.Typer(no_args_is_help=True, help="Certificates: every one that was issued here.")

_COLUMNS = (
    Column[CertificateRecord]("sha256", lambda record: record.sha256[:16], "dim"),
    Column[CertificateRecord]("profile", lambda record: record.profile.value),
    Column[CertificateRecord]("holder", lambda record: record.device_id or record.subject),
    Column[CertificateRecord]("serial number", lambda record: record.serial_number, "dim"),
    Column[CertificateRecord]("issued", lambda record: record.issued_at),
    Column[CertificateRecord]("until", lambda record: record.not_after),
    Column[CertificateRecord]("revoked", lambda record: record.revoked_at, "red"),
)


@app.command("list")
def list_certificates(
    context: typer.Context,
    profile: Annotated[CertificateProfile | None, typer.Option(help="Only those of this profile.")] = None,
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """List certificates, by SHA-256.

    Example:  birthmark certificate list --profile operator
    """
    with workplace(context).store() as store:
        records = list(
            pages(
                lambda after, size: store.list_certificates(
                    profile=profile.value if profile else "", after=after, limit=size
                ),
                lambda record: record.sha256,
                limit=limit,
            )
        )
    show(records, _COLUMNS, as_json=as_json, empty="no such certificates")


@app.command("show")
def show_certificate(
    context: typer.Context, sha256: Annotated[str, typer.Argument(help="SHA-256 of its DER, all 64 hex digits.")]
) -> None:
    """Print one certificate as PEM, for openssl x509 -text.

    Example:  birthmark certificate show 3fa1...77b0 | openssl x509 -noout -text
    """
    with workplace(context).store() as store:
        found = store.certificate_by_sha256(sha256.lower())
    if found is None:
        raise UnknownCertificate(f"no certificate with SHA-256 {sha256!r} was issued here")
    sys.stdout.write(x509.load_der_x509_certificate(found[0].der).public_bytes(Encoding.PEM).decode())


@app.command()
def issue(
    context: typer.Context,
    role: Annotated[CertificateProfile, typer.Argument(help=f"One of {', '.join(ROLES)}.")],
    name: Annotated[str, typer.Argument(help="Whom it names: letters, digits and '-'.")],
    folder: Annotated[Path, typer.Option(help="Where key and certificate go.")] = Path(),
    host: Annotated[
        list[str] | None, typer.Option(help="DNS name or IP address, for server and broker; may be repeated.")
    ] = None,
) -> None:
    """Make a key and have the Infra CA certify it: for another operator, a station, a replica, a new year.

    Operators get NAME.pem (for --operator) and NAME.p12 (for a browser); the others NAME.pem and NAME.key.

    Example:  birthmark certificate issue operator carol --folder /root/operators
    """
    if role not in ROLES:
        raise typer.BadParameter(f"want one of {', '.join(ROLES)}; devices get theirs by enrollment", param_hint="ROLE")
    settings = workplace(context).settings()
    secret = passphrase.read(settings.ca.passphrase) if settings.ca.passphrase else b""
    authority = Authority.load(Path(settings.ca.folder), passphrase=secret, now=now())
    with workplace(context).store() as store:
        issued = issue_infrastructure(authority, store, profile=role, name=name, hosts=host or (), now=now())
    if role is CertificateProfile.OPERATOR:
        words = write_person(issued, folder, name)
        say(f"{folder / name}.pem for the command line; {name}.p12 for a browser, its passphrase: {words}")
    else:
        write_pair(issued, folder / f"{name}.pem", folder / f"{name}.key")
        say(f"{folder / name}.pem and {name}.key")


@app.command()
def revoke(
    context: typer.Context,
    sha256: Annotated[str, typer.Argument(help="SHA-256 of its DER, all 64 hex digits.")],
    reason: Annotated[RevocationReason, typer.Option(help="Why, as RFC 5280 §5.3.1 names it.")],
) -> None:
    """Revoke one certificate. A device whose certificate it is stays active; birthmark device revoke ends it all."""
    with workplace(context).store() as store:
        record = store.revoke_certificate(sha256.lower(), reason=reason, at=now())
    say(f"revoked: {record.profile} of {record.device_id or record.subject}, serial number {record.serial_number}")
    cut_off(workplace(context).settings(), [record])
