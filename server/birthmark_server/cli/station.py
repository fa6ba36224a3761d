"""`birthmark station`: the factory's stations. Making and ending them is a security officer's act."""

import json
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from birthmark_server.ca import files
from birthmark_server.cli.contexts import check_server, read_root
from birthmark_server.cli.output import Column, Json, Limit, counted, moment, parts, say, show, who
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.domain import RevocationReason
from birthmark_server.errors import Malformed
from birthmark_server.factory.station.settings import STATION_FILE
from birthmark_server.web.api.bodies import Revocation
from birthmark_server.web.api.workorders.bodies import NewStation
from birthmark_server.web.api.workorders.views import IssuedStation, StationView

CERTIFICATE_FILE: Final = "station.pem"
KEY_FILE: Final = "station.key"
ROOT_FILE: Final = "root.pem"

app = typer.Typer(no_args_is_help=True, help="Stations: where devices are flashed, signed for and born.")


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
    name: Annotated[str, typer.Argument(help="What it is called: letters, digits and '-'.")],
    folder: Annotated[Path, typer.Option(help="The station's folder; made if it is not there.")] = Path(),
    server: Annotated[
        str, typer.Option(metavar="URL", help="Where the station finds the server. [default: as you do, or public_url]")
    ] = "",
    operator: OperatorFile = None,
) -> None:
    """Make a station's key here, have the Infra CA certify it, and write the station's folder.

    station.key (0600) never leaves this machine; station.pem is its certificate, root.pem what the server's must lead
    to, station.toml where the server is. Nothing that is there is overwritten. Run it at the station, as a security
    officer: by a context of theirs, or on the server's machine.

    Example:  birthmark --context officer station init line-2 --folder /srv/station
    """
    for each in (STATION_FILE, CERTIFICATE_FILE, KEY_FILE, ROOT_FILE):
        if (folder / each).exists():
            raise FileExistsError(17, "is there already; nothing was overwritten", str(folder / each))
    address = check_server(server) if server else _server_of(context)
    files.make_folder(folder)  # before anything is issued that could then not be kept
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    asked = NewStation(name=name, csr=request.public_bytes(Encoding.PEM).decode())
    with workplace(context).desk(operator) as desk:
        made = desk.workorders.add_station(asked)
    _write(folder, made, key, address)
    say(f"station {name}, by {who(made.station.issued_by)}, until {moment(made.station.not_after)}")
    say(f"{folder}: {STATION_FILE} ({address}), {CERTIFICATE_FILE}, {KEY_FILE}, {ROOT_FILE}")
    say(f"next: name its slots in {folder / STATION_FILE} (docs/factory.md), make a work order (birthmark workorder")
    say(f"create), then: birthmark factory run --station {folder} --workorder NAME --operator YOU.pem")


def _server_of(context: typer.Context) -> str:
    remote = workplace(context).remote()
    return remote.server if remote is not None else check_server(workplace(context).settings().public_url)


def _write(folder: Path, made: IssuedStation, key: ec.EllipticCurvePrivateKey, server: str) -> None:
    """Write the key first: a certificate without one is of no use. Raise Malformed if it is not for this key."""
    try:
        certificate = x509.load_pem_x509_certificate(made.chain.encode())
    except ValueError as error:
        raise Malformed(f"the answer holds no certificate: {error}") from None
    if certificate.public_key() != key.public_key():
        raise Malformed("the certificate in the answer is for another key")
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files.write_new(folder / KEY_FILE, private, mode=0o600)
    files.write_new(folder / CERTIFICATE_FILE, made.chain.encode())
    files.write_new(folder / ROOT_FILE, made.root.encode())
    _, root_sha256 = read_root(folder / ROOT_FILE)
    files.write_new(folder / STATION_FILE, _settings(made.station.name, server, root_sha256).encode())


def _settings(name: str, server: str, root_sha256: str) -> str:
    values = {
        "name": name,
        "server": server,
        "certificate": CERTIFICATE_FILE,
        "key": KEY_FILE,
        "root": ROOT_FILE,
        "root_sha256": root_sha256,
    }
    lines = [f"{field} = {json.dumps(value)}" for field, value in values.items()]
    slots = [
        '# image = "device.img"     what is flashed; or --image',
        "",
        "# [[slot]]                  one for each place where a device is put in (docs/factory.md)",
        '# target = "disk:/dev/disk/by-path/..."',
        '# console = "/dev/ttyUSB0"',
    ]
    return "\n".join([*lines, "", *slots, ""])


@app.command("list")
def list_stations(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List stations' certificates, by name. Several of one name are one station.

    Example:  birthmark station list
    """
    with workplace(context).desk() as desk:
        found = list(parts(lambda after, size: desk.workorders.stations(after=after, limit=size), limit=limit))
    show(found, _COLUMNS, as_json=as_json, empty="no stations yet; at the station: birthmark station init NAME")


@app.command()
def revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The station's name.")],
    reason: Annotated[RevocationReason, typer.Option(help="Why, as RFC 5280 §5.3.1 names it.")],
    operator: OperatorFile = None,
) -> None:
    """Revoke all certificates of a station: nothing opens to it any more, and nothing that it signed is taken any more.

    Devices that are expected by what it signed stay so: birthmark manifest remove SERIAL.

    Example:  birthmark station revoke line-2 --reason keyCompromise
    """
    with workplace(context).desk(operator) as desk:
        cut = desk.workorders.revoke_station(name, Revocation(reason=reason))
    say(f"station {name} is revoked by {cut.by}, with {counted(cut.certificates, 'certificate')}")
