"""Contexts: the installations that this person works on, in ~/.config/birthmark/contexts.toml.

A context names a server, the operator's certificate and key, and the root that the server's certificate must lead to,
by its file and its SHA-256: whoever replaces the file does not replace the root. The file says who may do what from
here, so it is its owner's alone (0600, in a folder that others can't write to), and is refused otherwise. `local` is no
entry in it: it is the server's own machine.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca import files
from birthmark_server.errors import Malformed, Misconfigured

LOCAL: Final = "local"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}", re.ASCII)


class BadContext(Misconfigured):
    """A context can't be used: its file, or a file that it names, is not as it should be."""

    code: ClassVar[str] = "bad-context"


class NoSuchContext(BadContext):
    """No context of that name."""

    code: ClassVar[str] = "no-such-context"


@dataclass(frozen=True, slots=True)
class Context:
    """One installation. server: https://HOST[:PORT]. certificate, key: PEM, one file or two; root: PEM."""

    server: str
    certificate: str
    key: str
    root: str
    root_sha256: str

    @property
    def host(self) -> str:
        """The server's name."""
        return urlsplit(self.server).hostname or ""

    @property
    def port(self) -> int:
        """Its port."""
        return urlsplit(self.server).port or 443

    def root_pem(self) -> str:
        """Return the pinned root in PEM; raise BadContext if the file holds another one."""
        pem, digest = read_root(Path(self.root))
        if digest != self.root_sha256:
            raise BadContext(
                f"{self.root} is not the root that was pinned: want SHA-256 {self.root_sha256}, got {digest}"
            )
        return pem


@dataclass(frozen=True, slots=True)
class Contexts:
    """The whole file. current: which one is used where none is named; LOCAL, or the name of one that is there."""

    current: str = LOCAL
    known: Mapping[str, Context] = field(default_factory=dict)

    def named(self, name: str) -> Context | None:
        """Return the context of this name; None for LOCAL. Raise NoSuchContext."""
        if name == LOCAL:
            return None
        try:
            return self.known[name]
        except KeyError:
            names = ", ".join([LOCAL, *sorted(self.known)])
            raise NoSuchContext(f"no context {name!r}; want one of {names}, or: birthmark context add {name}") from None


def contexts_file() -> Path:
    """Return where the contexts are: $XDG_CONFIG_HOME/birthmark/contexts.toml, by default below ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base and Path(base).is_absolute() else Path.home() / ".config"
    return folder / "birthmark" / "contexts.toml"


def check_name(name: str) -> str:
    """Return `name` if a context can be called so; raise Malformed."""
    if name == LOCAL or not _NAME.fullmatch(name):
        raise Malformed(f"want 1 to 64 of a-z, 0-9, '.' and '-', and not {LOCAL!r}; got {name[:80]!r}")
    return name


def check_server(server: str) -> str:
    """Return a server's URL as it is kept; raise Malformed."""
    try:
        parts = urlsplit(server)
        fits = (
            parts.scheme == "https" and parts.hostname and not (parts.path.strip("/") or parts.query or parts.username)
        )
        _ = parts.port
    except ValueError:
        fits = False
    if not fits:
        raise Malformed(f"want https://HOST or https://HOST:PORT, got {server[:200]!r}")
    return server.rstrip("/")


def read_root(path: Path) -> tuple[str, str]:
    """Return the one certificate in a PEM file, and the SHA-256 of its DER. Raise BadContext."""
    try:
        (root,) = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise BadContext(f"{path}: {error.strerror}") from error
    except ValueError:
        raise BadContext(f"{path}: want one certificate, the root's, in PEM") from None
    return root.public_bytes(Encoding.PEM).decode(), sha256(root.public_bytes(Encoding.DER)).hexdigest()


def read_contexts(path: Path | None = None) -> Contexts:
    """Return what the file says; nothing where there is none. Raise BadContext."""
    path = path or contexts_file()
    if not path.exists():
        return Contexts()
    if path.parent.stat().st_mode & 0o022:
        raise BadContext(f"{path.parent} may be written to by others: chmod go-w {path.parent}")
    try:
        tables = tomllib.loads(files.read_private(path).decode())
        known = {name: _context(table) for name, table in tables.pop("contexts", {}).items()}
        current = tables.pop("current", LOCAL)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadContext(f"{path} can't be read: {error}") from None
    if tables or not isinstance(current, str) or current not in (LOCAL, *known):
        raise BadContext(f"{path}: want `current`, naming a context that is there, and [contexts.NAME] tables")
    return Contexts(current, known)


def _context(table: object) -> Context:
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise ValueError("want a table of texts for each context")
    return Context(**table)


def write_contexts(contexts: Contexts, path: Path | None = None) -> None:
    """Write the file whole, for its owner's eyes only."""
    path = path or contexts_file()
    files.make_folder(path.parent)
    lines = [f"current = {json.dumps(contexts.current)}"]
    for name, context in sorted(contexts.known.items()):
        lines += ["", f"[contexts.{json.dumps(name)}]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in asdict(context).items()]
    files.replace(path, ("\n".join(lines) + "\n").encode(), mode=0o600)
