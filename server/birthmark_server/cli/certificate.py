"""`birthmark certificate`: every certificate that was issued here."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.cli.broker_told import require_told
from birthmark_server.cli.infrastructure import ROLES, issue_infrastructure, write_pair
from birthmark_server.cli.output import Column, Json, Limit, moment, parts, print_json, say, show, who
from birthmark_server.cli.workplace import OperatorFile, now, open_authority, workplace
from birthmark_server.domain import CertificateProfile, RevocationReason
from birthmark_server.roles import ROLE_OF, VOUCHING
from birthmark_server.web.api.bodies import Revocation
from birthmark_server.web.api.queries import CertificateQuery
from birthmark_server.web.api.views import CertificateView

ISSUED_HERE: Final = tuple(role for role in ROLES if role not in ROLE_OF)

Sha256 = Annotated[
    str,
    typer.Argument(metavar="SHA256", help="SHA-256 of its DER; as few of its first digits as name it, but 8."),
]

app = typer.Typer(no_args_is_help=True, help="Certificates: every one that was issued here.")


def _on_proof(record: CertificateView) -> bool:
    """A device's own proof had it issued, no operator."""
    return bool(record.device_id) and not record.issued_by


def _revoked(record: CertificateView) -> str:
    return f"{moment(record.revoked_at)} by {who(record.revoked_by)}" if record.revoked_at else ""


_COLUMNS = (
    Column[CertificateView]("sha256", lambda record: record.sha256[:16], "dim"),
    Column[CertificateView]("profile", lambda record: record.profile.value),
    Column[CertificateView]("holder", lambda record: record.device_id or record.subject),
    Column[CertificateView]("until", lambda record: record.not_after),
    Column[CertificateView]("issued by", lambda record: "-" if _on_proof(record) else who(record.issued_by)),
    Column[CertificateView]("revoked", lambda record: _revoked(record) or "-", "red"),
)


@app.command("list")
def list_certificates(
    context: typer.Context,
    profile: Annotated[CertificateProfile | None, typer.Option(help="Only those of this profile.")] = None,
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """List certificates, by SHA-256: its first 16 digits, which `show` and `revoke` take. --json has every field.

    Example:  birthmark certificate list --profile operator
    """
    query = CertificateQuery(profile=profile)
    with workplace(context).desk() as desk:
        records = list(parts(lambda after, size: desk.certificates(query, after=after, limit=size), limit=limit))
    show(records, _COLUMNS, as_json=as_json, empty="no such certificates")


@app.command("show")
def show_certificate(context: typer.Context, sha256: Sha256, as_json: Json = False) -> None:
    """Print one certificate as PEM, for openssl x509 -text; and, as words, who had it issued, and who revoked it.

    --json prints every field of its record instead.

    Example:  birthmark certificate show 3fa1...77b0 | openssl x509 -noout -text
    """
    with workplace(context).desk() as desk:
        record = desk.certificate(sha256)
    if as_json:
        print_json(record.model_dump(mode="json"))
        return
    issued = "on its own proof" if _on_proof(record) else f"by {who(record.issued_by)}"
    say(f"{record.profile} of {record.device_id or record.subject}, issued {issued} at {moment(record.issued_at)}")
    if record.revoked_at:
        say(f"revoked at {_revoked(record)}: {record.reason}")
    sys.stdout.write(x509.load_der_x509_certificate(bytes.fromhex(record.der)).public_bytes(Encoding.PEM).decode())


@app.command()
def issue(
    context: typer.Context,
    role: Annotated[CertificateProfile, typer.Argument(help=f"One of {', '.join(ISSUED_HERE)}.")],
    name: Annotated[str, typer.Argument(help="Whom it names: letters, digits and '-'.")],
    folder: Annotated[Path, typer.Option(help="Where key and certificate go.")] = Path(),
    host: Annotated[
        list[str] | None, typer.Option(help="DNS name or IP address, for server and broker; may be repeated.")
    ] = None,
    operator: OperatorFile = None,
) -> None:
    """Make a key and have the Infra CA certify it: for a station, a replica, a new year; in NAME.pem and NAME.key.

    Example:  birthmark certificate issue station line-2 --folder /root/stations --operator alice.pem
    """
    if role not in ISSUED_HERE:
        raise typer.BadParameter(
            f"want one of {', '.join(ISSUED_HERE)}; operators: birthmark operator add; devices enroll",
            param_hint="ROLE",
        )
    settings = workplace(context).settings()
    with workplace(context).store() as store:
        authority = open_authority(settings, store.authorities, True)
        actor = workplace(context).actor(
            store, operator, allowed=VOUCHING, what="issuing the infrastructure's certificates"
        )
        issued = issue_infrastructure(authority, store, profile=role, name=name, hosts=host or (), by=actor, now=now())
    write_pair(issued, folder / f"{name}.pem", folder / f"{name}.key")
    say(f"{folder / name}.pem and {name}.key")


@app.command()
def revoke(
    context: typer.Context,
    sha256: Sha256,
    reason: Annotated[RevocationReason, typer.Option(help="Why, as RFC 5280 §5.3.1 names it.")],
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Revoke one certificate. A device whose certificate it is stays active; birthmark device revoke ends it all.

    Example:  birthmark certificate revoke 3fa1c0de8badf00d --reason keyCompromise --operator alice.pem
    """
    with workplace(context).desk(operator) as desk:
        done = desk.revoke_certificate(sha256, Revocation(reason=reason))
    record = done.certificate
    if as_json:
        print_json(record.model_dump(mode="json"))
    whose = record.device_id or record.subject
    say(f"revoked by {done.by}: {record.profile} of {whose}, serial number {record.serial_number}")
    require_told(done.broker)
