"""`birthmark image`: a device's image, and the keys that its boot file is signed with."""

import os
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from birthmark_server.cli.output import Json, print_json, say
from birthmark_server.cli.workplace import now
from birthmark_server.factory.image import build as image_build
from birthmark_server.factory.image import keys as boot_keys
from birthmark_server.factory.image.arch import ARCHS
from birthmark_server.factory.image.errors import WrongOption
from birthmark_server.factory.image.spec import read_spec

app = typer.Typer(no_args_is_help=True, help="Images: what a Linux device is flashed with.")


@app.command()
def build(
    server: Annotated[str, typer.Option(metavar="URL", help="The enrollment server, as https://enroll.example:8443.")],
    anchors: Annotated[
        Path, typer.Option(metavar="FILE", help="The root that the devices trust, PEM: the installation's root.pem.")
    ],
    model: Annotated[str, typer.Option(help="The devices' model, as in birthmark model list.")],
    arch: Annotated[str, typer.Option(help=f"The devices' processor: {' or '.join(ARCHS)}.")] = "amd64",
    version: Annotated[str, typer.Option(help="The image's version. [default: Birthmark's]", show_default=False)] = "",
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder for what is made.")] = Path("image"),
    sign: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Sign the boot file with db.key of this folder: birthmark image keys."),
    ] = None,
    kernel: Annotated[
        str,
        typer.Option(
            metavar="PACKAGE",
            help="Debian's package of the kernel; for a real board linux-image-amd64. [default: for virtual machines]",
            show_default=False,
        ),
    ] = "",
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=ADDRESS", help="A host that no name service knows, for /etc/hosts. Repeatable."),
    ] = None,
    agent_settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="More tables of the agent's settings, TOML.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where packages are kept for the next build. [default: ~/.cache/birthmark]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build an image from this machine's Debian packages: no root, no mounts; the same options give the same bytes.

    In the folder: device.img, device.bmap (its block map), device.sbom.json (CycloneDX), device.json (hashes and
    reference values for measured boot) and device.efi (the boot file, as on the disk).

    Example:  birthmark image build --server https://enroll.example:8443 --anchors root.pem --model sensor-2
    """
    spec = read_spec(
        server=server,
        anchors=anchors,
        model=model,
        arch=arch,
        version=version or installed_version("birthmark"),
        kernel=kernel,
        hosts=host or (),
        signing=boot_keys.signing(sign) if sign else None,
        agent_toml=agent_settings,
    )
    console = Console(stderr=True, highlight=False)
    with console.status(Text(f"building {spec.name}")):

        def told(step: str, did: str, took_s: float) -> None:
            console.print(Text(f"  {step:<18} {took_s:5.1f} s  {did}"), soft_wrap=True)

        built = image_build.build(spec, out.absolute(), cache=cache or _cache(), told=told, built_at=_source_date())
    if as_json:
        print_json({"folder": str(built.folder), "image_sha256": built.image_sha256, "took_s": round(built.took_s, 1)})
        return
    say(f"{out / image_build.IMAGE} is {spec.name}, sha256 {built.image_sha256}, in {built.took_s:.1f} s")


@app.command()
def keys(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where they are made; not over others.")],
    product: Annotated[str, typer.Option(help="Whose they are: stands in their names.")],
) -> None:
    """Make the keys of Secure Boot for a product: PK, KEK and db, each NAME.key (mode 0600) and NAME.pem.

    The line enrolls PK.pem, KEK.pem and db.pem in a device's firmware; db.key signs images. Keep PK.key and KEK.key
    away from the machine that builds.

    Example:  birthmark image keys boot-keys --product sensor-2
    """
    boot_keys.make(folder, product=product, now=now())
    say(f"{', '.join(boot_keys.NAMES)} are in {folder}: birthmark image build --sign {folder}")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "birthmark" / "image"


def _source_date() -> datetime | None:
    """Source: reproducible-builds.org/specs/source-date-epoch."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError):
        raise WrongOption(f"SOURCE_DATE_EPOCH: want seconds since 1970, got {text!r}") from None
