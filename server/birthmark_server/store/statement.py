"""SQLAlchemy Core statements, compiled once per back end and then handed to the driver as they are.

Executing a statement through a SQLAlchemy Connection costs 80 us of CPU here, through the driver 11 us, and an
enrollment makes about fifteen of them (ADR 0020). So Core says what to do, once; the driver does it. Values that the
driver takes and gives are plain: str, int, bytes, None (and bool); rows.py converts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import ClauseElement, ColumnElement, Dialect, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite

Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = tuple[Any, ...]
Insert: TypeAlias = sqlite.Insert | postgresql.Insert
Inserter: TypeAlias = Callable[[Table], Insert]
"""Makes an insert that knows ON CONFLICT, which is the back end's own dialect of Core."""

_INSERTERS: Final[Mapping[str, Inserter]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Statement:
    """One statement with named parameters, compiled at its first use on each back end.

    build: a Core statement, or a function that makes one with the back end's own insert. columns: the names of the
    columns that an insert without explicit values fills.
    """

    __slots__ = ("_build", "_columns", "_compiled")

    def __init__(
        self, build: ClauseElement | Callable[[Inserter], ClauseElement], *, columns: Iterable[str] | None = None
    ) -> None:
        self._build = build
        self._columns = None if columns is None else list(columns)
        self._compiled: dict[str, tuple[str, tuple[str, ...] | None, dict[str, Value]]] = {}

    def bound(self, dialect: Dialect, values: dict[str, Value]) -> tuple[str, Any]:
        """Return the SQL text, and the parameters in the shape that the dialect's driver wants."""
        try:
            sql, names, constants = self._compiled[dialect.name]
        except KeyError:
            sql, names, constants = self._compiled[dialect.name] = self._compile(dialect)
        if constants:
            values = constants | values
        return sql, values if names is None else [values[name] for name in names]

    def sql(self, dialect: Dialect) -> str:
        """The SQL text alone."""
        return self._compile(dialect)[0]

    def _compile(self, dialect: Dialect) -> tuple[str, tuple[str, ...] | None, dict[str, Value]]:
        element = self._build if isinstance(self._build, ClauseElement) else self._build(_INSERTERS[dialect.name])
        compiler: Any = element  # its stub does not know column_keys
        compiled = compiler.compile(dialect=dialect, column_keys=self._columns)
        names = compiled.positiontup  # None where the driver takes names
        constants: dict[str, Value] = {
            name: value for name, value in compiled.params.items() if isinstance(value, str | int | bytes)
        }
        return str(compiled), None if names is None else tuple(names), constants


def insert_all(table: Table) -> Statement:
    """Return a statement that inserts one row, each parameter named as its column; a duplicate inserts nothing."""
    columns = [column.name for column in table.columns if column.name != "id"]
    return Statement(lambda insert: insert(table).on_conflict_do_nothing().inline(), columns=columns)


class LookUp:
    """A statement that looks for any of some keys: made once for each number of keys.

    build: takes that number, to be used with `one_of`. In practice there are as many as a TPM shows EKs.
    """

    __slots__ = ("_build", "_statements")

    def __init__(self, build: Callable[[int], ClauseElement]) -> None:
        self._build = build
        self._statements: dict[int, Statement] = {}

    def of(self, given: Sequence[str]) -> Statement:
        """The statement for as many keys as are given; none at all is one that matches nothing."""
        number = len(given) or 1
        try:
            return self._statements[number]
        except KeyError:
            statement = self._statements[number] = Statement(self._build(number))
            return statement


def one_of(column: ColumnElement[str], number: int, *, name: str = "key") -> ColumnElement[bool]:
    """Return `column IN (:key0, :key1, ...)`."""
    return column.in_([bindparam(f"{name}{i}") for i in range(number)])


def keys(given: Sequence[str], *, name: str = "key") -> dict[str, Value]:
    """Return the parameters of `one_of`; NULL, which equals nothing, where none are given."""
    return {f"{name}{i}": value for i, value in enumerate(given or (None,))}
