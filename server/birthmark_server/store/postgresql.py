"""PostgreSQL through psycopg 3: many server replicas on one database.

Row locks (UPDATE, SELECT ... FOR UPDATE) order what concerns one device. Two rules look at many rows at once and take
a wider lock: the deny list against births (the fleet lock: EXCLUSIVE on `devices`, which everybody else takes in a
weaker mode by touching a row), and the count of open challenges (an advisory lock per EK and source).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import sqlalchemy
from psycopg import errors
from sqlalchemy import URL, Dialect

from birthmark_server.store.driver import Trouble

_CONNECT_TIMEOUT_S: Final = 10
_SETTINGS: Final = (
    "SET synchronous_commit = on",
    "SET default_transaction_isolation = 'read committed'",
    "SET lock_timeout = '10s'",
    "SET idle_in_transaction_session_timeout = '60s'",
    "SET timezone = 'UTC'",
)
_SCHEMA_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('birthmark schema', 0))"
_MUST_BE_ON: Final = ("fsync", "full_page_writes", "synchronous_commit")


class PostgresqlBackEnd:
    """See driver.BackEnd."""

    name = "postgresql"
    error: type[Exception] = psycopg.Error
    begin = "BEGIN"
    one_writer = False
    fleet_lock = "LOCK TABLE devices IN EXCLUSIVE MODE"
    name_lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"

    def __init__(self, url: URL) -> None:
        self.dialect: Dialect = url.get_dialect()()
        self._url = url
        self._parameters = dict(self.dialect.create_connect_args(url)[1])

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        connection = psycopg.connect(**{"connect_timeout": _CONNECT_TIMEOUT_S, **self._parameters}, autocommit=True)
        try:
            connection.execute(";".join(_SETTINGS))
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def schema_connection(self) -> Iterator[sqlalchemy.Connection]:
        engine = sqlalchemy.create_engine(self._url, poolclass=sqlalchemy.NullPool)
        try:
            with engine.connect() as connection, connection.begin():
                connection.exec_driver_sql(_SCHEMA_LOCK)
                yield connection
        finally:
            engine.dispose()

    def trouble(self, error: Exception) -> Trouble:
        match error:
            case errors.DeadlockDetected() | errors.SerializationFailure():
                return Trouble.CONFLICT
            case errors.LockNotAvailable() | errors.QueryCanceled():
                return Trouble.BUSY
            case errors.AdminShutdown() | errors.CrashShutdown() | errors.CannotConnectNow():
                return Trouble.LOST
            case psycopg.DataError():
                return Trouble.TEXT
            case psycopg.OperationalError() if error.sqlstate is None:
                return Trouble.LOST  # the driver's own: it never reached the server
            case _:
                return Trouble.FAILED

    def problems(self) -> list[str]:
        connection = self.connect()
        try:
            told = []
            for setting in _MUST_BE_ON:
                row = connection.execute("SELECT current_setting(%s)", (setting,)).fetchone()
                if row is None or row[0] != "on":
                    told.append(f"PostgreSQL has {setting} = {row and row[0]}: what it confirms may be lost in a crash")
            return told
        finally:
            connection.close()
