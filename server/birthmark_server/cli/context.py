"""`birthmark context`: the installations that you work on, from this machine."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from birthmark_server.ca import files
from birthmark_server.cli.contexts import (
    LOCAL,
    Context,
    Contexts,
    check_name,
    check_server,
    contexts_file,
    read_contexts,
    read_root,
    write_contexts,
)
from birthmark_server.cli.output import Column, Json, say, show
from birthmark_server.errors import Malformed

app = typer.Typer(no_args_is_help=True, help="Contexts: the installations that you work on, from this machine.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="What you call it; `local` is the server's own machine.")]


@dataclass(frozen=True, slots=True)
class Line:
    """One context, as it is listed."""

    name: str
    current: bool
    server: str
    certificate: str
    root_sha256: str


_COLUMNS = (
    Column[Line]("", lambda line: "*" if line.current else " "),
    Column[Line]("context", lambda line: line.name),
    Column[Line]("server", lambda line: line.server),
    Column[Line]("certificate", lambda line: line.certificate),
    Column[Line]("root", lambda line: line.root_sha256, "dim"),
)


@app.command()
def add(
    name: Name,
    server: Annotated[str, typer.Option(metavar="URL", help="As https://enroll.example:8443.")],
    certificate: Annotated[
        Path, typer.Option(metavar="FILE", help="Your certificate, PEM; with its key in it, or beside it by --key.")
    ],
    root: Annotated[Path, typer.Option(metavar="FILE", help="The installation's root certificate, PEM.")],
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Your private key, PEM.")] = None,
    root_sha256: Annotated[
        str, typer.Option(metavar="SHA256", help="What the root must be, as you were told by other means.")
    ] = "",
) -> None:
    """Add a context, and use it if it is the first one. The root is pinned: no other one is believed from then on.

    Example:  birthmark context add plant-7 --server https://enroll.example:8443 --certificate alice.pem --root root.pem
    """
    contexts = read_contexts()
    if check_name(name) in contexts.known:
        raise FileExistsError(17, f"context {name} is there already; remove it first", str(contexts_file()))
    _, digest = read_root(root)
    wanted = root_sha256.lower().replace(":", "")
    if wanted and wanted != digest:
        raise Malformed(f"{root} is another root: want SHA-256 {wanted}, got {digest}")
    private = (key or certificate).absolute()
    files.read_private(private)
    certificate.read_bytes()
    new = Context(check_server(server), str(certificate.absolute()), str(private), str(root.absolute()), digest)
    first = not contexts.known
    write_contexts(Contexts(name if first else contexts.current, {**contexts.known, name: new}))
    say(f"context {name}: {new.server}, pinned to the root with SHA-256 {digest}")
    say("birthmark status shows whether it works" if first else f"birthmark context use {name}, or --context {name}")


@app.command()
def use(name: Name) -> None:
    """Work there from now on, wherever no --context and no --config is given.

    Example:  birthmark context use plant-7
    """
    contexts = read_contexts()
    found = contexts.named(name)
    write_contexts(replace(contexts, current=name))
    say(f"from now on: {found.server if found else 'this machine'}")


@app.command("list")
def list_contexts(as_json: Json = False) -> None:
    """List the contexts; the one in use has a star.

    Example:  birthmark context list
    """
    contexts = read_contexts()
    here = Line(LOCAL, contexts.current == LOCAL, "this machine", "", "")
    there = (
        Line(name, contexts.current == name, one.server, one.certificate, one.root_sha256)
        for name, one in sorted(contexts.known.items())
    )
    show([here, *there], _COLUMNS, as_json=as_json, empty="")


@app.command()
def remove(name: Name) -> None:
    """Forget a context; its files stay. If it is in use, this machine is from then on.

    Example:  birthmark context remove plant-7
    """
    contexts = read_contexts()
    if contexts.named(name) is None:
        raise Malformed(f"{LOCAL} is always there")
    known = {other: one for other, one in contexts.known.items() if other != name}
    write_contexts(Contexts(LOCAL if contexts.current == name else contexts.current, known))
    say(f"context {name} is forgotten")
