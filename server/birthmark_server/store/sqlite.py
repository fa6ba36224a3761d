"""SQLite: the embedded default. One file, WAL, synchronous=FULL, writers one at a time.

Writers of this process take turns (database.py) rather than meet in SQLite's busy handler, which sleeps; those of other
processes (the command line) are waited for by busy_timeout. Uniqueness is the database's all the same.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from birthmark_server.errors import Misconfigured
from birthmark_server.store.driver import Trouble

_BUSY_TIMEOUT_S: Final = 10
_LOOK_AGAIN_S: Final = 0.01
_SETTINGS: Final = (
    # pragma, the value to set, what reading it back must say
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    ("foreign_keys", "ON", 1),
    ("trusted_schema", "OFF", 0),
    ("wal_autocheckpoint", "4000", 4000),  # 16 MB: a page that many births touch is copied back less often
)


class SqliteBackEnd:
    """See driver.BackEnd."""

    name = "sqlite"
    error: type[Exception] = sqlite3.Error
    begin = "BEGIN IMMEDIATE"
    one_writer = True
    fleet_lock = ""
    name_lock = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dialect: sqlalchemy.Dialect = SQLiteDialect_pysqlite()

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,  # we say BEGIN and COMMIT ourselves
            check_same_thread=False,  # one thread at a time is enough, and Database sees to that
            cached_statements=256,
        )
        try:
            for pragma, value, wanted in _SETTINGS:
                _set(connection, f"PRAGMA {pragma} = {value}")
                (seen,) = connection.execute(f"PRAGMA {pragma}").fetchone()
                if seen != wanted:
                    raise Misconfigured(f"{self.path}: PRAGMA {pragma} is {seen!r}, must be {wanted!r}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def schema_connection(self) -> Iterator[sqlalchemy.Connection]:
        engine = sqlalchemy.create_engine("sqlite://", creator=self.connect, poolclass=sqlalchemy.NullPool)
        try:
            with engine.connect() as connection, connection.begin():
                connection.exec_driver_sql(self.begin)
                connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")  # a table may be made anew meanwhile
                yield connection
        finally:
            engine.dispose()

    def trouble(self, error: Exception) -> Trouble:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return Trouble.BUSY if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) else Trouble.FAILED

    def problems(self) -> list[str]:
        connection = self.connect()
        try:
            told = [line for (line,) in connection.execute("PRAGMA integrity_check(10)") if line != "ok"]
            broken = connection.execute("PRAGMA foreign_key_check").fetchall()
        finally:
            connection.close()
        return [f"SQLite finds the file damaged: {line}" for line in told] + [
            f"a row of {table} points at a missing row of {parent}" for table, _, parent, _ in broken[:10]
        ]


def _set(connection: sqlite3.Connection, pragma: str) -> None:
    """Run a pragma, waiting for others. SQLite's busy handler does not: a new file is turned to WAL under an exclusive
    lock that is asked for under a shared one, and of two who do that at once SQLite refuses one outright, since each
    would wait for the other."""
    give_up = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute(pragma).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(_LOOK_AGAIN_S)
        else:
            return
