"""The schema's version: read it, and bring it to the one that this program wants. Alembic without an ini file."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from birthmark_server.store.driver import BackEnd

UPGRADE_COMMAND: Final = "birthmark database upgrade"


def wanted_version() -> str:
    """The schema version of this program."""
    with _config(None) as config:
        return ScriptDirectory.from_config(config).get_current_head() or ""


def schema_version(back_end: BackEnd) -> str:
    """The schema version of the database; empty if it has none yet."""
    with back_end.schema_connection() as connection:
        return MigrationContext.configure(connection).get_current_revision() or ""


def schema_problem(back_end: BackEnd) -> str:
    """Return one sentence that says what to do about the schema, or nothing."""
    seen, wanted = schema_version(back_end), wanted_version()
    if seen == wanted:
        return ""
    if not seen:
        return f"the database is empty: run `{UPGRADE_COMMAND}`"
    with _config(None) as config:
        known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    if seen in known:
        return f"the database has schema {seen}, this program wants {wanted}: back it up and run `{UPGRADE_COMMAND}`"
    return f"the database has schema {seen}, which this program does not know (it wants {wanted}): run a newer one"


def upgrade(back_end: BackEnd, *, version: str = "head") -> None:
    """Bring the schema to `version` (this program's own) in one transaction; two at once wait for each other."""
    with back_end.schema_connection() as connection, _config(connection) as config:
        command.upgrade(config, version)


@contextmanager
def _config(connection: Connection | None) -> Iterator[Config]:
    with as_file(files("birthmark_server.store") / "migrations") as folder:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        yield config
