"""`birthmark operator`: who may do what. Making and ending operators is a security officer's act."""

from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca import files
from birthmark_server.cli.infrastructure import Issued, write_person
from birthmark_server.cli.output import Column, Json, Limit, counted, moment, parts, print_json, say, show, who
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.domain import RevocationReason
from birthmark_server.errors import Malformed
from birthmark_server.roles import Role
from birthmark_server.web.api.bodies import NewOperator, Revocation
from birthmark_server.web.api.views import OperatorView

app = typer.Typer(no_args_is_help=True, help="Operators: who may do what, by the role in their certificate.")


def _standing(one: OperatorView) -> str:
    if one.revoked_at is not None:
        return f"revoked {moment(one.revoked_at)} by {who(one.revoked_by)}"
    return "expired" if one.not_after < now() else "valid"


_COLUMNS = (
    Column[OperatorView]("operator", lambda one: one.name),
    Column[OperatorView]("role", lambda one: one.role.value),
    Column[OperatorView]("standing", _standing, lambda one: "green" if _standing(one) == "valid" else "dim"),
    Column[OperatorView]("until", lambda one: one.not_after),
    Column[OperatorView]("made by", lambda one: who(one.issued_by)),
    Column[OperatorView]("sha256", lambda one: one.sha256[:16], "dim"),
)


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whom it names: letters, digits and '-'.")],
    role: Annotated[Role, typer.Option(help="What they may do.")],
    folder: Annotated[Path, typer.Option(help="Where key and certificate go.")] = Path(),
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Make a key here, and have the Infra CA certify it for an operator with this role.

    Writes NAME.pem (certificate and key: for contexts and --operator) and NAME.p12 (for a browser). The key leaves this
    machine in these files only.

    Example:  birthmark operator add carol --role operator --folder /root/operators
    """
    for ending in ("pem", "p12"):
        if (folder / f"{name}.{ending}").exists():
            raise FileExistsError(17, "is there already; nothing was overwritten", str(folder / f"{name}.{ending}"))
    files.make_folder(folder)  # before anything is issued that could then not be kept
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    asked = NewOperator(name=name, role=role, csr=request.public_bytes(Encoding.PEM).decode())
    with workplace(context).desk(operator) as desk:
        made = desk.add_operator(asked)
    words = write_person(_issued(made.chain, key), folder, name)
    say(f"{name} is {role}, by {made.operator.issued_by}, until {moment(made.operator.not_after)}")
    say(f"{folder / name}.pem for the command line; {name}.p12 for a browser, its passphrase: {words}")
    if as_json:
        print_json(made.operator.model_dump(mode="json"))


def _issued(chain: str, key: ec.EllipticCurvePrivateKey) -> Issued:
    """Return what was issued; raise Malformed if it is not for this key."""
    try:
        certificate, issuer, *links = x509.load_pem_x509_certificates(chain.encode())
    except ValueError as error:
        raise Malformed(f"the answer holds no certificate with its CA's: {error}") from None
    if certificate.public_key() != key.public_key():
        raise Malformed("the certificate in the answer is for another key")
    return Issued(key, certificate, (issuer, *links))


@app.command("list")
def list_operators(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List operators' certificates, by name. Several of one name are one operator.

    Example:  birthmark operator list
    """
    with workplace(context).desk() as desk:
        found = list(parts(lambda after, size: desk.operators(after=after, limit=size), limit=limit))
    show(found, _COLUMNS, as_json=as_json, empty="no operators yet; birthmark operator add NAME --role ROLE")


@app.command()
def revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The operator's name.")],
    reason: Annotated[RevocationReason, typer.Option(help="Why, as RFC 5280 §5.3.1 names it.")],
    operator: OperatorFile = None,
) -> None:
    """Revoke all certificates of an operator: from their next request on, nothing opens to them.

    Example:  birthmark operator revoke carol --reason affiliationChanged
    """
    with workplace(context).desk(operator) as desk:
        cut = desk.revoke_operator(name, Revocation(reason=reason))
    say(f"{name} is revoked by {cut.by}, with {counted(cut.certificates, 'certificate')}")
