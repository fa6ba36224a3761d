"""Connections and transactions: the one place that talks to a database driver.

`Database.write` runs a function over a `Transaction`: begin, the function, the journal, commit; any exception rolls all
of it back. The function may run again after a deadlock or a lost connection, so it must depend on its arguments only.
That also leaves room to run several such functions under one commit, should fsyncs ever be the limit.

Rules: a failed commit releases nothing (the caller gets an error); the journal is written before the commit and never
after it; driver errors leave this module as errors of the store.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum, auto
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import sqlalchemy
from sqlalchemy import Dialect

from birthmark_server.errors import BirthmarkError, Malformed
from birthmark_server.store.errors import StoreBusy, StoreFailed
from birthmark_server.store.journal import Journal
from birthmark_server.store.journal_entries import Entry
from birthmark_server.store.statement import Row, Statement, Value

P = ParamSpec("P")
T = TypeVar("T")

_ATTEMPTS: Final = 5
_BUSY_RETRY_S: Final = 2


class Trouble(Enum):
    """What a driver's error means for the transaction."""

    CONFLICT = auto()
    """Two transactions were in each other's way: this one was undone and may be run again."""
    LOST = auto()
    """The connection is gone."""
    BUSY = auto()
    """Another one holds a lock for longer than we wait."""
    TEXT = auto()
    """A value cannot be stored: NUL or a lone surrogate in a text."""
    FAILED = auto()
    """Disk full, file damaged, or a bug of ours."""


class Cursor(Protocol):
    """What we use of a DB-API cursor (PEP 249)."""

    @property
    def rowcount(self) -> int: ...

    def execute(self, sql: Any, parameters: Any = ..., /) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """What we use of a DB-API connection."""

    def cursor(self) -> Cursor: ...

    def close(self) -> None: ...


class BackEnd(Protocol):
    """What differs between databases: sqlite.py, postgresql.py."""

    name: str
    dialect: Dialect
    error: type[Exception]
    """The driver's base class of errors."""
    begin: str
    fleet_lock: str
    """A statement that waits for every transaction on devices to end and holds off new ones; empty if begin did."""
    name_lock: str
    """A statement with one parameter, a text: one transaction at a time for it; empty if begin did."""
    turn: AbstractContextManager[object]
    """Held while a transaction writes."""

    def connect(self) -> Connection:
        """Return a new connection in autocommit mode, every setting that durability needs made and read back."""

    def schema_connection(self) -> AbstractContextManager[sqlalchemy.Connection]:
        """A SQLAlchemy connection in a transaction that holds off every other one of its kind; committed at the end."""

    def trouble(self, error: Exception) -> Trouble: ...

    def problems(self) -> list[str]:
        """What is wrong with the database itself, one sentence each."""


class Transaction:
    """One transaction, or one statement outside any. Good only until the function that got it returns."""

    __slots__ = ("_back_end", "_cursor", "entries")

    def __init__(self, back_end: BackEnd, cursor: Cursor) -> None:
        self._back_end = back_end
        self._cursor = cursor
        self.entries: list[Entry] = []

    def run(self, statement: Statement, **values: Value) -> int:
        """Execute; return how many rows were written."""
        self._cursor.execute(*statement.bound(self._back_end.dialect, values))
        return self._cursor.rowcount

    def rows(self, statement: Statement, **values: Value) -> list[Row]:
        """Execute; return all rows."""
        self._cursor.execute(*statement.bound(self._back_end.dialect, values))
        return self._cursor.fetchall()  # all of them: an unread row would keep the snapshot open

    def row(self, statement: Statement, **values: Value) -> Row | None:
        """Execute; return the first row, if any."""
        found = self.rows(statement, **values)
        return found[0] if found else None

    def tell(self, *entries: Entry) -> None:
        """Have these written to the journal before the commit."""
        self.entries += entries

    def lock_fleet(self) -> None:
        """Wait for all births and issuances under way, hold off others until the end. To be called first."""
        if self._back_end.fleet_lock:
            self._cursor.execute(self._back_end.fleet_lock)

    def lock_name(self, name: str) -> None:
        """Let one transaction at a time pass that names this."""
        if self._back_end.name_lock:
            self._cursor.execute(self._back_end.name_lock, (name,))


class Database:
    """Runs work on pooled connections. Thread-safe: a connection serves one thread at a time."""

    def __init__(self, back_end: BackEnd, journal: Journal) -> None:
        self.back_end = back_end
        self._journal = journal
        self._idle: list[tuple[Connection, Cursor]] = []
        self._closed = False
        self._lock = threading.Lock()

    def read(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work`, each statement of which sees what is committed when it begins."""
        return self._repeat(lambda: self._read(lambda tx: work(tx, *args, **kwargs)))

    def write(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in one transaction, durable when this returns, undone if it raises."""
        return self._repeat(lambda: self._write(lambda tx: work(tx, *args, **kwargs)))

    def replay(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, for work that comes from a journal and so is not written to one."""
        return self._repeat(lambda: self._write(lambda tx: work(tx, *args, **kwargs), journaled=False))

    def close(self) -> None:
        """Close all connections; those in use close when their work ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()
        self._journal.close()

    def _repeat(self, attempt: Callable[[], T]) -> T:
        for _ in range(_ATTEMPTS - 1):
            try:
                return attempt()
            except _Again:
                continue
        try:
            return attempt()
        except _Again as again:
            raise again.final from again.__cause__

    def _read(self, work: Callable[[Transaction], T]) -> T:
        connection, cursor = self._take()
        try:
            result = work(Transaction(self.back_end, cursor))
        except BaseException as error:
            connection.close()
            self._translate(error, repeat=True)
            raise
        self._put(connection, cursor)
        return result

    def _write(self, work: Callable[[Transaction], T], *, journaled: bool = True) -> T:
        committing = False
        with self.back_end.turn:
            connection, cursor = self._take()
            try:
                cursor.execute(self.back_end.begin)
                transaction = Transaction(self.back_end, cursor)
                result = work(transaction)
                committing = True
                if transaction.entries and journaled:
                    self._journal.append(transaction.entries)
                cursor.execute("COMMIT")
            except BaseException as error:
                if isinstance(error, BirthmarkError) and self._undone(cursor):
                    self._put(connection, cursor)
                else:
                    connection.close()  # undoes it too, on whichever side the trouble was
                self._translate(error, repeat=not committing)
                raise
            self._put(connection, cursor)
        return result

    def _undone(self, cursor: Cursor) -> bool:
        try:
            cursor.execute("ROLLBACK")
        except self.back_end.error:
            return False
        return True

    def _take(self) -> tuple[Connection, Cursor]:
        if self._closed:
            raise StoreFailed("the store is closed")
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            connection = self.back_end.connect()
        except self.back_end.error as error:
            raise StoreFailed(f"cannot connect to the database: {_first_line(error)}") from error
        return connection, connection.cursor()

    def _put(self, connection: Connection, cursor: Cursor) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append((connection, cursor))
                return
        connection.close()

    def _translate(self, error: BaseException, *, repeat: bool) -> None:
        """Raise the store's error for a driver's; return if it is none."""
        if isinstance(error, UnicodeEncodeError):
            raise Malformed("a text holds what is no character") from error
        if not isinstance(error, self.back_end.error):
            return
        match self.back_end.trouble(error):
            case Trouble.CONFLICT:
                raise _Again(StoreBusy("the database was contended", retry_after_s=_BUSY_RETRY_S)) from error
            case Trouble.LOST:
                lost = StoreFailed(f"the database is gone: {_first_line(error)}")
                with self._lock:
                    stale, self._idle = self._idle, []
                for connection, _ in stale:
                    connection.close()
                raise (_Again(lost) if repeat else lost) from error
            case Trouble.BUSY:
                raise StoreBusy("the database was locked for too long", retry_after_s=_BUSY_RETRY_S) from error
            case Trouble.TEXT:
                raise Malformed("a text holds NUL, which the database cannot store") from error
            case Trouble.FAILED:
                raise StoreFailed(f"the database failed: {_first_line(error)}") from error


class _Again(Exception):
    """The work was undone and may be run once more; `final` is what to raise when it is not."""

    def __init__(self, final: BirthmarkError) -> None:
        super().__init__(str(final))
        self.final = final


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
