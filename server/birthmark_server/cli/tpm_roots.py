"""`birthmark tpm-roots`: which TPM manufacturers are believed."""

from pathlib import Path
from typing import Annotated

import typer

from birthmark_server.attestation import roots
from birthmark_server.attestation.vendor import Vendor, manufacturer_id
from birthmark_server.cli.output import Column, Json, plain, print_json, say, show
from birthmark_server.cli.workplace import now, workplace
from birthmark_server.errors import Malformed, Misconfigured

app = typer.Typer(no_args_is_help=True, help="TPM vendor roots: which manufacturers are believed.")

_COLUMNS = (
    Column[roots.RootEntry]("kind", lambda entry: entry.kind),
    Column[roots.RootEntry]("subject", lambda entry: entry.subject),
    Column[roots.RootEntry]("until", lambda entry: entry.not_after),
    Column[roots.RootEntry]("sha256", lambda entry: entry.sha256, "dim"),
)

_NEXT_START = "a server that runs has read the folder at its start: systemctl restart birthmark"


@app.command()
def add(
    context: typer.Context,
    vendor: Annotated[str, typer.Argument(help="The vendor's folder in the trust store, as infineon.")],
    certificate: Annotated[Path, typer.Argument(help="The vendor's CA certificate, PEM or DER.")],
    name: Annotated[str, typer.Option(help="A new vendor's full name.")] = "",
    manufacturer: Annotated[
        list[str] | None,
        typer.Option(metavar="id:XXXXXXXX", help="A new vendor's TPM manufacturer ids, as in its EK certificates."),
    ] = None,
    trust: Annotated[
        bool | None,
        typer.Option(
            "--trust/--intermediate",
            help="Trust a CA that another one issued as if it were a root, or keep it for building paths only. "
            "[default: a self-signed one is a root, any other an intermediate]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Add a TPM vendor's CA certificate. A root vouches only for TPMs of the manufacturer ids that its vendor is given.

    Take roots from the manufacturer's own site and compare the fingerprint by another way. The running server reads the
    folder at its next start.

    Example:  birthmark tpm-roots add infineon optiga-rsa-root.pem --name "Infineon" --manufacturer id:49465800
    """
    folder = Path(workplace(context).settings().tpm.roots)
    before = roots.read_folder(folder) if folder.is_dir() else {}
    entry = roots.add(
        folder,
        vendor_folder=vendor,
        vendor=_new_vendor(vendor, name, manufacturer or []),
        certificate=_readable(certificate),
        now=now(),
        trust=trust,
    )
    if entry.path in before:
        say(f"{entry.vendor} has this {entry.kind} already: {entry.subject}, sha256 {entry.sha256}; nothing changed")
        return
    say(f"{entry.kind} added for {entry.vendor}: {entry.subject}, sha256 {entry.sha256}")
    say(_NEXT_START)


@app.command("list")
def list_roots(context: typer.Context, as_json: Json = False) -> None:
    """List the trust store: whose CA, for TPMs of which manufacturer ids, and its version, a hash over all its files,
    which every decision's evidence names.

    Example:  birthmark tpm-roots list
    """
    store = roots.TrustStore.load(Path(workplace(context).settings().tpm.roots))
    if as_json:
        print_json([{**plain(entry), **_vendor(store, entry)} for entry in store.entries])
        return
    vendors = (
        Column[roots.RootEntry]("vendor", lambda entry: f"{store.vendors[entry.vendor].name} ({entry.vendor})"),
        Column[roots.RootEntry]("manufacturers", lambda entry: _vendor(store, entry)["manufacturers"]),
    )
    show(
        store.entries,
        (*vendors, *_COLUMNS),
        as_json=False,
        empty="no roots: no TPM can prove itself; see add --help",
    )
    if store.entries:
        say(f"version {store.version}")


def _readable(path: Path) -> bytes:
    data = path.read_bytes()
    try:
        roots.read_certificate(data, source=str(path))
    except Misconfigured as error:
        raise Malformed(str(error)) from None  # the file that was named is not what it should be, no setting
    return data


def _vendor(store: roots.TrustStore, entry: roots.RootEntry) -> dict[str, object]:
    vendor = store.vendors[entry.vendor]
    return {"vendor_name": vendor.name, "manufacturers": sorted(vendor.manufacturers)}


def _new_vendor(folder: str, name: str, manufacturers: list[str]) -> Vendor | None:
    if not name and not manufacturers:
        return None
    if not manufacturers:
        raise typer.BadParameter("a new vendor needs at least one", param_hint="--manufacturer")
    ids = frozenset(manufacturer_id(item, source="--manufacturer") for item in manufacturers)
    return Vendor(name=name or folder, manufacturers=ids)
