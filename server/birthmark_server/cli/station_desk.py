"""The station's desk over mutual TLS, by the station's own certificate (factory/desk.py has each method's contract).

Whatever keeps an answer from coming is ServerUnreachable: no connection, the server's own trouble, a limit, an answer
that this version can't read. What the server refuses is FactoryRefused under its own code. A certificate that TLS turns
away is refused too (CERTIFICATE_REFUSED): waiting will not help. Safe to use from all slots: each thread has a
connection of its own.
"""

import threading
from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from birthmark_server.cli.contexts import Context, read_root
from birthmark_server.cli.https import OperatorConnection, ServerFailed
from birthmark_server.cli.https import ServerUnreachable as NoAnswer
from birthmark_server.errors import BirthmarkError, Busy
from birthmark_server.factory.desk import Desk, FactoryRefused, ServerUnreachable, Standing
from birthmark_server.factory.entries import ENTRY_MIME
from birthmark_server.factory.entry import ENTRY_TYPE, Entry
from birthmark_server.factory.station.settings import StationSettings
from birthmark_server.factory.values import SerialBlock, WorkOrder
from birthmark_server.store.errors import UnknownUnit
from birthmark_server.web.api.workorders.bodies import SerialsWanted
from birthmark_server.web.api.workorders.views import EntryTaken, SerialBlockView, UnitView, WorkOrderView
from birthmark_server.web.errors import KeyInUse
from birthmark_wire import jws
from birthmark_wire.errors import DecodeError

TIMEOUT_S: Final = 20.0
CERTIFICATE_REFUSED: Final = "not-your-door"
_NOT_NOW: Final = (NoAnswer, ServerFailed, Busy, KeyInUse)

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


def open_desk(settings: StationSettings, *, timeout_s: float = TIMEOUT_S) -> Desk:
    """Return the desk of the station whose settings these are; nothing is asked yet. Raise BadContext for a root that
    is not the one that was pinned."""
    pinned = settings.root_sha256 or read_root(settings.root)[1]
    files = str(settings.certificate), str(settings.key), str(settings.root)
    return HttpDesk(Context(settings.server, *files, pinned), timeout_s=timeout_s)


class HttpDesk:
    """See the module's docstring."""

    def __init__(self, context: Context, *, timeout_s: float = TIMEOUT_S) -> None:
        context.root_pem()
        self._context = context
        self._timeout_s = timeout_s
        self._own = threading.local()
        self._opened: list[OperatorConnection] = []
        self._turn = threading.Lock()

    def close(self) -> None:
        """Hang up, in all threads."""
        with self._turn:
            for connection in self._opened:
                connection.close()

    def workorder(self, name: str) -> WorkOrder:
        view = _asked(lambda: _read(WorkOrderView, self._connection().ask("GET", _order(name))))
        return WorkOrder(
            name=view.name,
            model=view.model,
            quantity=view.quantity,
            serials=view.serials,
            created_by=view.created_by,
            created_at=view.created_at,
            closes_at=view.closes_at,
            closed_at=view.closed_at,
            closed_by=view.closed_by,
        )

    def take_serials(self, workorder: str, count: int, *, request: str) -> SerialBlock:
        body = SerialsWanted(count=count).model_dump_json().encode()
        path = f"{_order(workorder)}/serials"
        view = _asked(lambda: _read(SerialBlockView, self._connection().ask("POST", path, body, key=request)))
        return SerialBlock(view.workorder, view.station, view.first, view.count, view.at)

    def bring_entry(self, jws: bytes) -> str:
        path = f"{_order(_workorder_of(jws))}/entries"

        def ask() -> EntryTaken:
            return _read(EntryTaken, self._connection().ask("POST", path, jws, media_type=ENTRY_MIME, reads=True))

        return _asked(ask).device_id

    def device(self, serial: str) -> Standing | None:
        def ask() -> UnitView | None:
            try:
                return _read(UnitView, self._connection().ask("GET", f"/v1/units/{quote(serial, safe='')}"))
            except UnknownUnit:
                return None

        view = _asked(ask)
        if view is None or view.device_id is None or view.state is None:
            return None
        idevid = bytes.fromhex(view.idevid or "")
        return Standing(view.device_id, serial, view.state.value, view.last_seen_at, idevid)

    def _connection(self) -> OperatorConnection:
        connection: OperatorConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = OperatorConnection(self._context, timeout_s=self._timeout_s)
            with self._turn:
                self._opened.append(connection)
        return connection


def _order(name: str) -> str:
    return f"/v1/workorders/{quote(name, safe='')}"


def _workorder_of(data: bytes) -> str:
    try:
        return Entry.decode(jws.decode(data, message_type=ENTRY_TYPE, most=len(data)).payload).workorder
    except DecodeError as error:
        raise FactoryRefused(f"this is no entry: {error}", server_code="malformed") from None


def _asked(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except _NOT_NOW as error:
        if isinstance(error, NoAnswer) and "your certificate" in str(error):
            raise FactoryRefused(str(error), server_code=CERTIFICATE_REFUSED) from None
        raise ServerUnreachable(str(error)) from None
    except BirthmarkError as error:
        raise FactoryRefused(str(error), server_code=error.code) from None


def _read(answer: type[M], data: bytes) -> M:
    try:
        return answer.model_validate_json(data)
    except ValidationError as errors:
        place = ".".join(map(str, errors.errors(include_url=False)[0]["loc"]))
        raise ServerFailed(f"the server's answer is none that this version knows, by its {place}") from None
