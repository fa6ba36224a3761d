"""One commit for all that one thread writes: what happens within `Store.together`.

Each piece of work runs behind a savepoint: refused, it is undone alone, and what the others wrote stands. Nothing is on
the disk before `commit` returns, so whoever was given a result until then must not pass it on. If the database breaks
the transaction, nothing of it stands, and `commit` says so.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, TypeVar

from birthmark_server.store.driver import BackEnd
from birthmark_server.store.errors import StoreFailed
from birthmark_server.store.journal import Journal

if TYPE_CHECKING:
    from birthmark_server.store.database import Transaction

T = TypeVar("T")


class SharedCommit:
    """The open transaction of one thread. turn: held from the first write on; nobody else writes meanwhile."""

    __slots__ = ("_back_end", "_begun", "_broken", "_journal", "_stack", "_transaction", "_turn")

    def __init__(
        self,
        transaction: "Transaction",
        *,
        back_end: BackEnd,
        journal: Journal,
        turn: AbstractContextManager[object],
    ) -> None:
        self._transaction = transaction
        self._back_end = back_end
        self._journal = journal
        self._turn = turn
        self._stack = ExitStack()
        self._begun = False
        self._broken: BaseException | None = None

    def read(self, work: "Callable[[Transaction], T]") -> T:
        """Run `work`, which sees what was written here before."""
        try:
            return work(self._transaction)
        except self._back_end.error as error:
            if self._begun:  # the trouble may have undone all; a savepoint would then begin, and commit, one of its own
                self._broken = error
            raise

    def write(self, work: "Callable[[Transaction], T]") -> T:
        """Run `work` behind a savepoint; what it raises undoes it alone. Raise StoreFailed if the rest is lost."""
        self._require_whole()
        transaction = self._transaction
        if not self._begun:
            self._begin()
        told = len(transaction.entries)
        transaction.command("SAVEPOINT one")
        try:
            result = work(transaction)
            transaction.command("RELEASE one")
        except BaseException as error:
            del transaction.entries[told:]
            self._undo_one(error)
            raise
        return result

    def commit(self) -> None:
        """Have it all on the disk: the journal, then the database. Raise StoreFailed, nothing being written."""
        if not self._begun:
            return
        self._require_whole()
        if self._transaction.entries:
            self._journal.append(self._transaction.entries)
        self._transaction.command("COMMIT")

    def close(self) -> None:
        """Let others write. To be called when the transaction is committed, or its connection closed."""
        self._stack.close()

    def _begin(self) -> None:
        self._stack.enter_context(self._turn)
        try:
            self._transaction.command(self._back_end.begin)
        except BaseException as error:
            self._broken = error  # the next one would wait as long, and as much in vain
            raise
        self._begun = True

    def _undo_one(self, error: BaseException) -> None:
        try:
            self._transaction.command("ROLLBACK TO one")
            self._transaction.command("RELEASE one")
        except self._back_end.error:  # the trouble undid the whole transaction: SQLite's FULL, IOERR, NOMEM
            self._broken = error

    def _require_whole(self) -> None:
        if self._broken is not None and not self._begun:
            raise self._broken
        if self._broken is not None:
            raise StoreFailed(f"nothing was written, another's trouble undid it all: {self._broken}") from self._broken
