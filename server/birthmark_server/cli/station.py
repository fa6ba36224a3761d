"""`birthmark station`: the factory's stations, each with a certificate of its own."""

from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from birthmark_server.ca import files
from birthmark_server.cli.output import Column, Json, Limit, counted, moment, parts, say, show, who
from birthmark_server.cli.station_file import station_file
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.domain import RevocationReason
from birthmark_server.errors import Malformed
from birthmark_server.factory.station.settings import STATION_FILE
from birthmark_server.web.api.bodies import Revocation
from birthmark_server.web.api.workorders.bodies import NewStation
from birthmark_server.web.api.workorders.views import StationView

app = typer.Typer(no_args_is_help=True, help="Stations: where a factory flashes, tests and signs for devices.")

_KEY, _CERTIFICATE, _ROOT = "station.key", "station.pem", "root.pem"


def _standing(one: StationView) -> str:
    if one.revoked_at is not None:
        return f"revoked {moment(one.revoked_at)} by {who(one.revoked_by)}"
    return "expired" if one.not_after < now() else "valid"


_COLUMNS = (
    Column[StationView]("station", lambda one: one.name),
    Column[StationView]("standing", _standing, lambda one: "green" if _standing(one) == "valid" else "dim"),
    Column[StationView]("until", lambda one: one.not_after),
    Column[StationView]("made by", lambda one: who(one.issued_by)),
    Column[StationView]("sha256", lambda one: one.sha256[:16], "dim"),
)


@app.command()
def init(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The station's name: letters, digits and '-'.")],
    server: Annotated[
        str, typer.Option(metavar="URL", help="Where the station finds the server, as https://enroll.example:8443.")
    ],
    folder: Annotated[
        Path | None, typer.Option(help="The station's folder. [default: NAME]", show_default=False)
    ] = None,
    operator: OperatorFile = None,
) -> None:
    """Make a station's key here and have a security officer's word certify it; write its folder.

    At the station itself, with a context of a security officer: the key is made there and leaves it never. Then fill
    station.toml in: its slots, and what is flashed.

    Example:  birthmark station init line-2 --server https://enroll.example:8443
    """
    folder = folder or Path(name)
    if (folder / STATION_FILE).exists():
        raise FileExistsError(17, "is a station's already; nothing was overwritten", str(folder))
    files.make_folder(folder)
    key = _key(folder / _KEY)  # on the disk before anything is issued for it
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    asked = NewStation(name=name, csr=request.public_bytes(Encoding.PEM).decode())
    with workplace(context).desk(operator) as desk:
        made = desk.workorders.add_station(asked)
    if x509.load_pem_x509_certificate(made.chain.encode()).public_key() != key.public_key():
        raise Malformed("the certificate in the answer is for another key")
    files.replace(folder / _CERTIFICATE, made.chain.encode())
    files.replace(folder / _ROOT, made.root.encode())
    files.replace(folder / STATION_FILE, station_file(server, certificate=_CERTIFICATE, key=_KEY, root=_ROOT).encode())
    say(f"station {name}, by {who(made.station.issued_by)}, until {moment(made.station.not_after)}: {folder}")
    say(f"next: its slots and the image in {folder / STATION_FILE}; then birthmark factory run")


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Make a key; take the one that is there where an earlier try got no further."""
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        files.write_new(path, pem, mode=0o600)
    try:
        key = load_pem_private_key(files.read_private(path), None)
    except (ValueError, TypeError) as error:
        raise Malformed(f"{path}: want an unencrypted key in PEM: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Malformed(f"{path}: want a key on P-256")
    return key


@app.command("list")
def list_stations(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List stations' certificates, by name. Several of one name are one station.

    Example:  birthmark station list
    """
    with workplace(context).desk() as desk:
        found = list(parts(lambda after, size: desk.workorders.stations(after=after, limit=size), limit=limit))
    show(found, _COLUMNS, as_json=as_json, empty="no stations yet; birthmark station init NAME --server URL")


@app.command()
def revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The station's name.")],
    reason: Annotated[RevocationReason, typer.Option(help="Why, as RFC 5280 §5.3.1 names it.")],
    operator: OperatorFile = None,
) -> None:
    """Revoke all certificates of a station: what it signs counts for nothing from now on.

    Example:  birthmark station revoke line-2 --reason keyCompromise
    """
    with workplace(context).desk(operator) as desk:
        cut = desk.workorders.revoke_station(name, Revocation(reason=reason))
    say(f"station {name} is revoked by {cut.by}, with {counted(cut.certificates, 'certificate')}")
