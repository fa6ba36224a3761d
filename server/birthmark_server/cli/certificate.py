"""`birthmark certificate`: every certificate that was issued here."""

import re
import sys
from pathlib import Path
from typing import Annotated, Final, Protocol

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca import passphrase
from birthmark_server.ca.authority import Authority
from birthmark_server.cli.cut_off import cut_off
from birthmark_server.cli.infrastructure import ROLES, issue_infrastructure, write_pair, write_person
from birthmark_server.cli.output import Column, Json, Limit, moment, pages, plain, print_json, say, show, who
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.domain import CertificateProfile, CertificateRecord, RevocationReason
from birthmark_server.errors import Malformed
from birthmark_server.store.errors import UnknownCertificate

_MOST_NAMED: Final = 5

Sha256 = Annotated[
    str,
    typer.Argument(metavar="SHA256", help="SHA-256 of its DER; as few of its first digits as name it, but 8."),
]

app = typer.Typer(no_args_is_help=True, help="Certificates: every one that was issued here.")


def _on_proof(record: CertificateRecord) -> bool:
    """A device's own proof had it issued, no operator."""
    return bool(record.device_id) and not record.issued_by


def _revoked(record: CertificateRecord) -> str:
    return f"{moment(record.revoked_at)} by {who(record.revoked_by)}" if record.revoked_at else ""


_COLUMNS = (
    Column[CertificateRecord]("sha256", lambda record: record.sha256[:16], "dim"),
    Column[CertificateRecord]("profile", lambda record: record.profile.value),
    Column[CertificateRecord]("holder", lambda record: record.device_id or record.subject),
    Column[CertificateRecord]("until", lambda record: record.not_after),
    Column[CertificateRecord]("issued by", lambda record: "-" if _on_proof(record) else who(record.issued_by)),
    Column[CertificateRecord]("revoked", lambda record: _revoked(record) or "-", "red"),
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
def show_certificate(context: typer.Context, sha256: Sha256, as_json: Json = False) -> None:
    """Print one certificate as PEM, for openssl x509 -text; and, as words, who had it issued, and who revoked it.

    --json prints every field of its record instead.

    Example:  birthmark certificate show 3fa1...77b0 | openssl x509 -noout -text
    """
    with workplace(context).store() as store:
        record = find_certificate(store, sha256)
    if as_json:
        print_json(plain(record))
        return
    issued = "on its own proof" if _on_proof(record) else f"by {who(record.issued_by)}"
    say(f"{record.profile} of {record.device_id or record.subject}, issued {issued} at {moment(record.issued_at)}")
    if record.revoked_at:
        say(f"revoked at {_revoked(record)}: {record.reason}")
    sys.stdout.write(x509.load_der_x509_certificate(record.der).public_bytes(Encoding.PEM).decode())


@app.command()
def issue(
    context: typer.Context,
    role: Annotated[CertificateProfile, typer.Argument(help=f"One of {', '.join(ROLES)}.")],
    name: Annotated[str, typer.Argument(help="Whom it names: letters, digits and '-'.")],
    folder: Annotated[Path, typer.Option(help="Where key and certificate go.")] = Path(),
    host: Annotated[
        list[str] | None, typer.Option(help="DNS name or IP address, for server and broker; may be repeated.")
    ] = None,
    operator: OperatorFile = None,
) -> None:
    """Make a key and have the Infra CA certify it: for another operator, a station, a replica, a new year.

    Operators get NAME.pem (for --operator) and NAME.p12 (for a browser); the others NAME.pem and NAME.key.

    Example:  birthmark certificate issue operator carol --folder /root/operators --operator alice.pem
    """
    if role not in ROLES:
        raise typer.BadParameter(f"want one of {', '.join(ROLES)}; devices get theirs by enrollment", param_hint="ROLE")
    settings = workplace(context).settings()
    secret = passphrase.read(settings.ca.passphrase) if settings.ca.passphrase else b""
    authority = Authority.load(Path(settings.ca.folder), passphrase=secret, now=now())
    with workplace(context).store() as store:
        actor = workplace(context).actor(store, operator)
        issued = issue_infrastructure(authority, store, profile=role, name=name, hosts=host or (), by=actor, now=now())
    if role is CertificateProfile.OPERATOR:
        words = write_person(issued, folder, name)
        say(f"{folder / name}.pem for the command line; {name}.p12 for a browser, its passphrase: {words}")
    else:
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
    with workplace(context).store() as store:
        actor = workplace(context).actor(store, operator)
        found = find_certificate(store, sha256)
        record = store.revoke_certificate(found.sha256, reason=reason, at=now(), by=actor)
    if as_json:
        print_json(plain(record))
    whose = record.device_id or record.subject
    say(f"revoked by {actor}: {record.profile} of {whose}, serial number {record.serial_number}")
    cut_off(workplace(context).settings(), [record])


class CertificateList(Protocol):
    """What a certificate is found in: a part of store.protocol.Store."""

    def list_certificates(self, *, profile: str = "", after: str = "", limit: int = 100) -> list[CertificateRecord]:
        """By pages, ordered by sha256."""


def find_certificate(store: CertificateList, prefix: str) -> CertificateRecord:
    """Return the one certificate whose SHA-256 begins so (8 to 64 hex digits, colons allowed).

    Raise UnknownCertificate if none does, Malformed naming them if several do.
    """
    digits = prefix.lower().replace(":", "")
    if not re.fullmatch("[0-9a-f]{8,64}", digits):
        raise Malformed(f"want 8 to 64 hex digits of a certificate's SHA-256, got {prefix[:80]!r}")
    # The listing begins after a hash; none is smaller than the prefix with its last digit one lower and f behind.
    below = f"{int(digits, 16) - 1:0{len(digits)}x}".ljust(64, "f") if int(digits, 16) else ""
    page = store.list_certificates(after=below, limit=_MOST_NAMED + 1)
    found = [record for record in page if record.sha256.startswith(digits)]
    if not found:
        raise UnknownCertificate(f"no certificate whose SHA-256 begins with {digits} was issued here")
    if len(found) > 1:
        named = ", ".join(f"{record.sha256} ({record.device_id or record.subject})" for record in found[:_MOST_NAMED])
        more = " and more" if len(found) > _MOST_NAMED else ""
        raise Malformed(f"{digits} is ambiguous: {named}{more}; give more digits")
    return found[0]
