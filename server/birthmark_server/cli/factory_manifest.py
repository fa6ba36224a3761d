"""`birthmark factory manifest` and `verify`: what left the line, signed; and whether it is what the station wrote."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509

from birthmark_server.ca import files
from birthmark_server.cli.contexts import read_root
from birthmark_server.cli.factory_run import StationFolder
from birthmark_server.cli.output import Json, counted, print_json, say
from birthmark_server.factory.out.errors import ManifestWrong, NothingMade
from birthmark_server.factory.out.manifest import BORN, leaving, write_manifest, write_signers, write_table
from birthmark_server.factory.out.proof import verify_record
from birthmark_server.factory.out.verify import verify_manifest
from birthmark_server.factory.station.badge import IS_STATION, verify_badge
from birthmark_server.factory.station.record import RECORD_FILE
from birthmark_server.factory.station.settings import STATION_FILE, load_station
from birthmark_server.factory.station.signer import StationKey

MANIFEST_SUFFIX: Final = ".manifest.json"
TABLE_SUFFIX: Final = ".manifest.csv"
SIGNERS_SUFFIX: Final = ".signers.pem"


def manifest(
    workorder: Annotated[str, typer.Option(metavar="NAME", help="The work order.")],
    station: StationFolder = Path(),
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it goes; else `manifests` in the station's folder.")
    ] = None,
) -> None:
    """Write what left the line for a work order: a signed object for each device, a table beside it, and the signer.

    NAME.STATION.manifest.json has a JWS for each device, NAME.STATION.manifest.csv the same as a table (not signed),
    NAME.STATION.signers.pem the station's certificate and its CA's. The record is verified first. Needs no server.

    Example:  birthmark factory manifest --workorder W-7 --out /srv/customers/acme
    """
    settings = load_station(station / STATION_FILE)
    key = StationKey.load(settings.certificate, settings.key)
    root = _root(settings.root)
    now = datetime.now(UTC)
    chain = [x509.load_der_x509_certificate(der) for der in key.chain]
    badge = verify_badge(chain, root=root, allowed=IS_STATION, now=now, whose=str(settings.certificate))
    record = verify_record(station, root=root)
    if record.folder.station != badge.name:
        raise NothingMade(f"the record is station {record.folder.station}'s, and {settings.certificate} {badge.name}'s")
    devices = leaving(record, workorder)
    folder = out or station / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{_file_name(workorder)}.{badge.name}"
    files.replace(folder / f"{stem}{SIGNERS_SUFFIX}", write_signers(key))
    files.replace(folder / f"{stem}{TABLE_SUFFIX}", write_table(devices).encode("utf-8"))
    path = folder / f"{stem}{MANIFEST_SUFFIX}"
    files.replace(path, "".join(write_manifest(devices, key=key, now=now)).encode("utf-8"))
    awaiting = sum(device.state != BORN for device in devices)
    waits = f", {awaiting} of them awaiting birth" if awaiting else ""
    say(f"{path}: {counted(len(devices), 'device')}{waits}, signed by station {badge.name}")


def _file_name(workorder: str) -> str:
    """A work order's name as a file's: it may have `/` and `:` in it."""
    return workorder.replace("/", "_").replace(":", "_")


def _root(path: Path) -> x509.Certificate:
    pem, _ = read_root(path)
    return x509.load_pem_x509_certificate(pem.encode("ascii"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds. what: `record` or `manifest`; last_sha256: of a record's last line."""

    path: str
    what: str
    stations: list[str]
    devices: int
    born: int
    lines: int = 0
    last_sha256: str = ""


def verify(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FOLDER|MANIFEST", help="A station's folder, or a manifest's file.")
    ],
    root: Annotated[Path, typer.Option(metavar="FILE", help="The installation's root, in PEM.")],
    signers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For a manifest: the stations' certificates; else the .signers.pem beside."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell whether records and manifests are what the stations wrote; name the first line or device that is not.

    Needs the installation's root and nothing else: no server, no network. Whether a station's certificate was revoked,
    only the server knows.

    Example:  birthmark factory verify /srv/line-2 W-7.line-2.manifest.json --root root.pem
    """
    anchor = _root(root)
    verdicts = [_record(path, anchor) if path.is_dir() else _manifest(path, signers, anchor) for path in paths]
    if as_json:
        print_json([{name: getattr(each, name) for name in Verdict.__slots__} for each in verdicts])
        return
    for each in verdicts:
        of = f", {each.lines} lines, the last one with SHA-256 {each.last_sha256}" if each.lines else ""
        whose = f"{'station' if len(each.stations) == 1 else 'stations'} {', '.join(each.stations)}"
        print(
            f"{each.path}: holds; {each.what} of {whose}{of}; {counted(each.devices, 'device')}, {each.born} born",
            file=sys.stdout,
        )


def _record(folder: Path, root: x509.Certificate) -> Verdict:
    proven = verify_record(folder, root=root)
    return Verdict(
        path=str(folder / RECORD_FILE),
        what="record",
        stations=[proven.folder.station],
        devices=len(proven.entries),
        born=proven.born,
        lines=proven.lines,
        last_sha256=proven.last_sha256,
    )


def _manifest(path: Path, signers: Path | None, root: x509.Certificate) -> Verdict:
    devices = verify_manifest(path, signers=signers or _beside(path), root=root)
    born = sum(device.state == BORN for device in devices)
    return Verdict(str(path), "manifest", sorted({device.station for device in devices}), len(devices), born)


def _beside(path: Path) -> Path:
    if not path.name.endswith(MANIFEST_SUFFIX):
        raise ManifestWrong(f"{path}: want --signers FILE, or a name that ends in {MANIFEST_SUFFIX}")
    return path.with_name(path.name.removesuffix(MANIFEST_SUFFIX) + SIGNERS_SUFFIX)
