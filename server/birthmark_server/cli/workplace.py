"""Where a command works: on the server's own machine, by the settings file that `birthmark serve` reads.

Whoever can read that file and the database is trusted with them: there is no other door here. What an operator does is
done, and kept, under the name in their certificate (operator.py), or as `local:USER` where none is shown
(docs/operations.md, "Who did it").
"""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from birthmark_server import settings as settings_file
from birthmark_server.cli.operator import OperatorCertificate, prove_operator
from birthmark_server.errors import Misconfigured
from birthmark_server.settings import Settings
from birthmark_server.store.protocol import Store

if TYPE_CHECKING:
    from birthmark_server.store.sql.store import SqlStore

SYSTEM_CONFIG: Final = Path("/etc/birthmark/birthmark.toml")
LOCAL_CONFIG: Final = Path("birthmark.toml")

OperatorFile = Annotated[
    Path | None,
    typer.Option(
        "--operator",
        metavar="FILE",
        help="Act as this operator: PEM file with certificate and private key, or PKCS #12. "
        "Without it you act as the Unix user.",
    ),
]


@dataclass(frozen=True, slots=True)
class Workplace:
    """config: as given on the command line or in BIRTHMARK_CONFIG; None means where it usually is."""

    config: Path | None

    @property
    def config_path(self) -> Path:
        """The settings file: the one given, or the machine's, or the one in this folder."""
        if self.config is not None:
            return self.config
        return SYSTEM_CONFIG if SYSTEM_CONFIG.exists() or not LOCAL_CONFIG.exists() else LOCAL_CONFIG

    def settings(self) -> Settings:
        """Read the settings file; raise Misconfigured saying what to do."""
        path = self.config_path
        if not path.exists():
            raise Misconfigured(
                f"no settings file at {path}: name one with --config, or make one with `birthmark init`"
            ) from FileNotFoundError(path)
        return settings_file.load(path)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the database that the settings name, for the length of a with block."""
        settings = self.settings()
        with open_database(settings.database.url, journal=Path(settings.database.journal)) as store:
            yield store

    @contextmanager
    def sql_store(self) -> "Iterator[SqlStore]":
        """As store(), with what only the database itself offers: jobs and campaigns."""
        settings = self.settings()
        with open_database(settings.database.url, journal=Path(settings.database.journal)) as store:
            yield store

    def actor(self, store: Store, operator: Path | None) -> str:
        """Return under which name what follows is recorded: a proven operator's, or the Unix user's."""
        if operator is None:
            return unix_user()
        return self.operator(store, operator).name

    def operator(self, store: Store, operator: Path) -> OperatorCertificate:
        """Prove that `operator` is a valid operator certificate with its key."""
        return prove_operator(operator, ca_folder=Path(self.settings().ca.folder), store=store, now=now())


@contextmanager
def open_database(url: str, *, journal: Path, create: bool = False) -> "Iterator[SqlStore]":
    """Open a database for the length of a with block. create: make it, or bring it up to this version."""
    # Only here: SQLAlchemy takes longer to load than all the rest, and help and shell completion need none of it.
    from birthmark_server.store.open import open_store

    store = open_store(url, journal=journal, create=create)
    try:
        yield store
    finally:
        store.close()


def workplace(context: typer.Context) -> Workplace:
    """Return what the main command was told."""
    return context.ensure_object(Workplace) if context.obj is None else _checked(context.obj)


def _checked(value: object) -> Workplace:
    if not isinstance(value, Workplace):
        raise TypeError("the command's context holds no Workplace")
    return value


def unix_user() -> str:
    """Return under which name is recorded what nobody proves to be an operator for."""
    return f"local:{getpass.getuser()}"


def now() -> datetime:
    """Return the time, in UTC, to the second: what is recorded is compared and shown so."""
    return datetime.now(UTC).replace(microsecond=0)
