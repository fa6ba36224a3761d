"""`birthmark manifest`: the devices that are expected, by the key in their TPM."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from birthmark_server.cli.manifest_csv import Manifest, conflicts, models_missing, read_manifest, told_by_line
from birthmark_server.cli.output import Column, Json, Limit, counted, parts, print_json, say, show
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.store.errors import ManifestConflict, UnknownModel
from birthmark_server.web.api.bodies import NewEntry, NewManifest
from birthmark_server.web.api.desk import Desk
from birthmark_server.web.api.views import ManifestView

app = typer.Typer(no_args_is_help=True, help="Manifests: the devices that are expected, by the key in their TPM.")

_COLUMNS = (
    Column[ManifestView]("serial", lambda entry: entry.serial),
    Column[ManifestView]("model", lambda entry: entry.model),
    Column[ManifestView]("device", lambda entry: entry.device_id),
    Column[ManifestView]("EK", lambda entry: entry.ek_sha256, "dim"),
    Column[ManifestView]("work order", lambda entry: entry.batch or "-"),
    Column[ManifestView]("imported by", lambda entry: entry.imported_by),
    Column[ManifestView]("at", lambda entry: entry.imported_at, "dim"),
)


@app.command("import")
def import_manifest(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV with the columns serial, model, ek_sha256 [, device_id].")],
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Import a manifest: all of the file, or nothing of it.

    ek_sha256 is the hash of the SubjectPublicKeyInfo of that EK which the model's template names. From a TPM:
    openssl x509 -in EK.pem -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum.  A column ek_certificate
    (base64 DER) does instead.

    Importing the same file twice changes nothing.

    Example:  birthmark manifest import lot-14.csv --operator alice.pem
    """
    manifest = read_manifest(file.read_bytes(), source=str(file), imported_by="", imported_at=now())
    with workplace(context).desk(operator) as desk:
        try:
            done = desk.import_manifest(_to_send(manifest))
        except (UnknownModel, ManifestConflict) as error:
            raise type(error)(_by_line(desk, manifest, source=str(file)) or f"{file}: {error}") from None
    if as_json:
        print_json(done.model_dump())
    else:
        say(f"{file}: {counted(done.lines, 'device')}, {done.new} of them new")


def _to_send(manifest: Manifest) -> NewManifest:
    """Return the entries, which read_manifest has checked: not once more, there may be a million."""
    entries = tuple(
        NewEntry.model_construct(
            serial=entry.serial, model=entry.model, ek_sha256=entry.ek_sha256, device_id=entry.device_id
        )
        for entry in manifest.values()
    )
    return NewManifest.model_construct(entries=entries)


def _by_line(desk: Desk, manifest: Manifest, *, source: str) -> str:
    """Return what is not taken, line by line; empty if the reason is gone by now."""
    known = parts(lambda after, size: desk.manifest(after=after, limit=size), limit=sys.maxsize)
    models = parts(lambda after, size: desk.models(after=after, limit=size), limit=sys.maxsize)
    faults = conflicts(manifest, known) | models_missing(manifest, {model.name for model in models})
    return told_by_line(faults, source=source) if faults else ""


@app.command("list")
def list_manifest(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List the devices that are expected, by serial number.

    Example:  birthmark manifest list --limit 20
    """
    with workplace(context).desk() as desk:
        entries = list(parts(lambda after, size: desk.manifest(after=after, limit=size), limit=limit))
    show(entries, _COLUMNS, as_json=as_json, empty="no manifest yet; import one: birthmark manifest import FILE.csv")


@app.command()
def remove(
    context: typer.Context,
    serial: Annotated[str, typer.Argument(help="The serial number on the line.")],
    operator: OperatorFile = None,
) -> None:
    """Take a device off the manifest that was not born, as one whose line has the wrong EK (refused as other-ek).

    Its serial number and its EK are free again; what it has begun is ended. A line that a station signed is withdrawn.

    Example:  birthmark manifest remove SN-000042 --operator alice.pem
    """
    with workplace(context).desk(operator) as desk:
        line = desk.remove_line(serial)
    say(f"serial number {line.serial} (model {line.model}, EK {line.ek_sha256}) is no longer expected")
