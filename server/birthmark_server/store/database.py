"""Connections and transactions: the one place that talks to a database driver.

`Database.write` runs a function over a `Transaction`: begin, the function, the journal, commit; any exception rolls all
of it back. The function may run again after a deadlock or a lost connection, so it must depend on its arguments only.
Where the database has one writer at a time, ours take turns, and `Database.together` gives all that one thread writes
one commit (shared_commit.py).

Rules: a failed commit releases nothing (the caller gets an error); the journal is written before the commit and never
after it; driver errors leave this module as errors of the store.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Concatenate, Final, ParamSpec, TypeVar

from birthmark_server.errors import BirthmarkError, Malformed
from birthmark_server.store.driver import BackEnd, Connection, Cursor, Trouble
from birthmark_server.store.errors import StoreBusy, StoreFailed
from birthmark_server.store.journal import Journal
from birthmark_server.store.journal_entries import Entry
from birthmark_server.store.shared_commit import SharedCommit
from birthmark_server.store.statement import Row, Statement, Value

P = ParamSpec("P")
T = TypeVar("T")

_ATTEMPTS: Final = 5
_BUSY_RETRY_S: Final = 2


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

    def run_many(self, statement: Statement, rows: Sequence[dict[str, Value]]) -> None:
        """Execute once for each of `rows`, in few round trips."""
        if rows:
            bound = [statement.bound(self._back_end.dialect, values) for values in rows]
            self._cursor.executemany(bound[0][0], [parameters for _, parameters in bound])

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

    def command(self, command: str) -> None:
        """Execute BEGIN, COMMIT, SAVEPOINT, ROLLBACK TO or RELEASE."""
        self._cursor.execute(command)

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
        self._turn: AbstractContextManager[object] = threading.Lock() if back_end.one_writer else nullcontext()
        self._thread = _Thread()

    def read(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work`, each statement of which sees what is committed when it begins."""
        if (shared := self._thread.shared) is not None:
            return self._translated(lambda: shared.read(lambda tx: work(tx, *args, **kwargs)))
        return self._repeat(lambda: self._read(lambda tx: work(tx, *args, **kwargs)))

    def write(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in one transaction, durable when this returns, undone if it raises. See together()."""
        if (shared := self._thread.shared) is not None:
            return self._translated(lambda: shared.write(lambda tx: work(tx, *args, **kwargs)))
        with self._turn:
            return self._repeat(lambda: self._write(lambda tx: work(tx, *args, **kwargs)))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Commit all that this thread writes within by one commit, at the end; what it read or wrote until then must
        not be told to anyone. Raise StoreFailed or StoreBusy if that commit fails: then nothing was written.

        Where there are many writers, each write commits by itself as ever: they would hold each other's rows.
        """
        if not self.back_end.one_writer:
            yield
            return
        connection, cursor = self._take()
        transaction = Transaction(self.back_end, cursor)
        shared = SharedCommit(transaction, back_end=self.back_end, journal=self._journal, turn=self._turn)
        self._thread.shared = shared
        try:
            yield
            self._translated(shared.commit)
        except BaseException:
            _discard(connection, cursor)  # which undoes what was not committed
            raise
        else:
            self._put(connection, cursor)
        finally:
            self._thread.shared = None
            shared.close()

    def replay(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, for work that comes from a journal and so is not written to one."""
        with self._turn:
            return self._repeat(lambda: self._write(lambda tx: work(tx, *args, **kwargs), journaled=False))

    def close(self) -> None:
        """Close all connections; those in use close when their work ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection, cursor in idle:
            _discard(connection, cursor)
        self._journal.close()

    def _translated(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except BaseException as error:
            self._translate(error, repeat=False)
            raise

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
            _discard(connection, cursor)
            self._translate(error, repeat=True)
            raise
        self._put(connection, cursor)
        return result

    def _write(self, work: Callable[[Transaction], T], *, journaled: bool = True) -> T:
        committing = False
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
            if self._undone(cursor) and isinstance(error, BirthmarkError):
                self._put(connection, cursor)
            else:
                _discard(connection, cursor)
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
        _discard(connection, cursor)

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
                for connection, cursor in stale:
                    _discard(connection, cursor)
                raise (_Again(lost) if repeat else lost) from error
            case Trouble.BUSY:
                raise StoreBusy("the database was locked for too long", retry_after_s=_BUSY_RETRY_S) from error
            case Trouble.TEXT:
                raise Malformed("a text holds NUL, which the database cannot store") from error
            case Trouble.FAILED:
                raise StoreFailed(f"the database failed: {_first_line(error)}") from error


class _Thread(threading.local):
    """What belongs to one thread: the commit that it shares among its writes, if any."""

    shared: SharedCommit | None = None


class _Again(Exception):
    """The work was undone and may be run once more; `final` is what to raise when it is not."""

    def __init__(self, final: BirthmarkError) -> None:
        super().__init__(str(final))
        self.final = final


def _discard(connection: Connection, cursor: Cursor) -> None:
    """Close both, the cursor first: SQLite keeps a connection alive for as long as a statement of it is."""
    cursor.close()
    connection.close()


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
