"""Opening the store: the one place that turns a URL into a back end and makes sure that it may be trusted."""

import logging
import os
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from birthmark_server.errors import Misconfigured
from birthmark_server.store import migrate
from birthmark_server.store.database import Database
from birthmark_server.store.driver import BackEnd
from birthmark_server.store.errors import StoreFailed
from birthmark_server.store.journal import Journal, last_lines, read_journal
from birthmark_server.store.postgresql import PostgresqlBackEnd
from birthmark_server.store.sql.store import SqlStore
from birthmark_server.store.sqlite import SqliteBackEnd

_log = logging.getLogger(__name__)


def open_store(url: str, *, journal: Path, create: bool = False) -> SqlStore:
    """Open the store at `url`, writing to this replica's own `journal`; the caller closes it.

    url: `sqlite:////path/to/file` or `postgresql+psycopg://user@host/database` (as SQLAlchemy spells them).
    create: make the SQLite file (0600) and bring the schema to this program's version; without it, a schema that
    differs is refused. If the journal knows of something that the database does not (a backup was restored, or the
    machine lost power between the two), all of it is replayed first.
    Raises Misconfigured with what to do; StoreFailed if the database cannot be reached.
    """
    back_end = _back_end(url, create=create)
    try:
        if create:
            migrate.upgrade(back_end)
        problem = migrate.schema_problem(back_end)
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", error) or error).splitlines()[0]
        raise StoreFailed(f"cannot open the database {make_url(url).render_as_string()}: {said}") from error
    if problem:
        raise Misconfigured(problem)
    database = Database(back_end, Journal(journal))
    try:
        store = SqlStore(database)
        _catch_up(store, journal)
    except BaseException:
        database.close()
        raise
    return store


def _catch_up(store: SqlStore, journal: Path) -> None:
    tail = (entry for line in last_lines(journal) for entry in line.entries)
    added = store.replay(tail)
    if added == 0:
        return
    _log.warning("the journal %s knows more than the database: replaying all of it", journal)
    added += store.replay(entry for line in read_journal(journal) for entry in line.entries)
    _log.warning("replayed %d journal entries that the database lacked", added)


def _back_end(url: str, *, create: bool) -> BackEnd:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Misconfigured(
            "the database URL cannot be read: want sqlite:////path or postgresql+psycopg://..."
        ) from error
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        return SqliteBackEnd(_sqlite_file(parsed, create=create))
    if parsed.drivername in ("postgresql", "postgresql+psycopg"):
        return PostgresqlBackEnd(parsed.set(drivername="postgresql+psycopg"))
    raise Misconfigured(f"no back end for {parsed.drivername}: want sqlite or postgresql+psycopg")


def _sqlite_file(url: URL, *, create: bool) -> Path:
    if not url.database or url.database == ":memory:" or url.query:
        raise Misconfigured("a SQLite URL names a file and nothing else: sqlite:////path/to/birthmark.db")
    path = Path(url.database)
    try:
        if create:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # -wal and -shm take its mode
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise Misconfigured(f"there is no database {path}: run `{migrate.UPGRADE_COMMAND}` to make one") from error
    except OSError as error:
        raise Misconfigured(f"cannot open the database {path}: {error.strerror}") from error
    if mode & 0o077:
        raise Misconfigured(f"the database {path} can be read or written by others: chmod 600 {path}")
    return path
