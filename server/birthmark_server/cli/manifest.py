"""`birthmark manifest`: the devices that are expected, by the key in their TPM."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from birthmark_server.cli.manifest_csv import Manifest, conflicts, models_missing, read_manifest, told_by_line
from birthmark_server.cli.output import Column, Json, Limit, pages, print_json, say, show
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.domain import ManifestEntry
from birthmark_server.store.errors import ManifestConflict, UnknownModel
from birthmark_server.store.protocol import Store

app = typer.Typer(no_args_is_help=True, help="Manifests: the devices that are expected, by the key in their TPM.")

_COLUMNS = (
    Column[ManifestEntry]("serial", lambda entry: entry.serial),
    Column[ManifestEntry]("model", lambda entry: entry.model),
    Column[ManifestEntry]("device", lambda entry: entry.device_id),
    Column[ManifestEntry]("EK", lambda entry: entry.ek_sha256, "dim"),
    Column[ManifestEntry]("imported by", lambda entry: entry.imported_by),
    Column[ManifestEntry]("at", lambda entry: entry.imported_at, "dim"),
)


@app.command("import")
def import_manifest(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV with the columns serial, model, ek_sha256 [, device_id].")],
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Import a manifest: all of the file, or nothing of it.

    ek_sha256 is the hash of the EK's SubjectPublicKeyInfo. From a TPM:  openssl x509 -in EK.pem -pubkey -noout |
    openssl pkey -pubin -outform DER | sha256sum.  A column ek_certificate (base64 DER) does instead.

    Importing the same file twice changes nothing.

    Example:  birthmark manifest import lot-14.csv --operator alice.pem
    """
    with workplace(context).store() as store:
        actor = workplace(context).actor(store, operator)
        manifest = read_manifest(file.read_bytes(), source=str(file), imported_by=actor, imported_at=now())
        try:
            new = store.import_manifest(list(manifest.values()))
        except (UnknownModel, ManifestConflict) as error:
            raise type(error)(_by_line(store, manifest, source=str(file)) or f"{file}: {error}") from None
    if as_json:
        print_json({"lines": len(manifest), "new": new, "imported_by": actor})
    else:
        say(f"{file}: {len(manifest)} devices, {new} of them new")


def _by_line(store: Store, manifest: Manifest, *, source: str) -> str:
    """Return what the store does not take, line by line; empty if it is gone by now."""
    known = pages(
        lambda after, size: store.list_manifest(after=after, limit=size), lambda entry: entry.serial, limit=sys.maxsize
    )
    faults = conflicts(manifest, known) | models_missing(manifest, {model.name for model in store.list_models()})
    return told_by_line(faults, source=source) if faults else ""


@app.command("list")
def list_manifest(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List the devices that are expected, by serial number.

    Example:  birthmark manifest list --limit 20
    """
    with workplace(context).store() as store:
        entries = list(
            pages(
                lambda after, size: store.list_manifest(after=after, limit=size),
                lambda entry: entry.serial,
                limit=limit,
            )
        )
    show(entries, _COLUMNS, as_json=as_json, empty="no manifest yet; import one: birthmark manifest import FILE.csv")
