"""What the store asks of a database driver, and of the module that fits one to it (sqlite.py, postgresql.py)."""

from contextlib import AbstractContextManager
from enum import Enum, auto
from typing import Any, Protocol

import sqlalchemy
from sqlalchemy import Dialect


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

    def executemany(self, sql: Any, parameters: Any, /) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def close(self) -> None: ...


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
    one_writer: bool
    """Whether the database writes one transaction at a time, so that ours take turns (database.py)."""

    def connect(self) -> Connection:
        """Return a new connection in autocommit mode, every setting that durability needs made and read back."""

    def schema_connection(self) -> AbstractContextManager[sqlalchemy.Connection]:
        """A SQLAlchemy connection in a transaction that holds off every other one of its kind; committed at the end."""

    def trouble(self, error: Exception) -> Trouble: ...

    def problems(self) -> list[str]:
        """What is wrong with the database itself, one sentence each."""
