"""`birthmark manifest`: the devices that are expected, by the key in their TPM."""

from pathlib import Path
from typing import Annotated

import typer

from birthmark_server.cli.manifest_csv import read_manifest
from birthmark_server.cli.output import Column, Json, Limit, pages, print_json, say, short, show
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.domain import ManifestEntry

app = typer.Typer(no_args_is_help=True, help="Manifests: the devices that are expected, by the key in their TPM.")

_COLUMNS = (
    Column[ManifestEntry]("serial", lambda entry: entry.serial),
    Column[ManifestEntry]("model", lambda entry: entry.model),
    Column[ManifestEntry]("device", lambda entry: entry.device_id),
    Column[ManifestEntry]("EK", lambda entry: short(entry.ek_sha256), "dim"),
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
        entries = read_manifest(file.read_bytes(), imported_by=actor, imported_at=now())
        new = store.import_manifest(entries)
    if as_json:
        print_json({"lines": len(entries), "new": new, "imported_by": actor})
    else:
        say(f"{file}: {len(entries)} devices, {new} of them new")


@app.command("list")
def list_manifest(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List the devices that are expected, by serial number."""
    with workplace(context).store() as store:
        entries = list(
            pages(
                lambda after, size: store.list_manifest(after=after, limit=size),
                lambda entry: entry.serial,
                limit=limit,
            )
        )
    show(entries, _COLUMNS, as_json=as_json, empty="no manifest yet; import one: birthmark manifest import FILE.csv")
