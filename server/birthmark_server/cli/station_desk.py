"""A station's desk over mutual TLS, by the station's own certificate (factory/desk.py).

Slots ask at the same time: each of their threads has a connection of its own.
"""

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from birthmark_server.cli.contexts import Context, read_root
from birthmark_server.cli.https import OperatorConnection, ServerFailed
from birthmark_server.cli.https import ServerUnreachable as NoAnswer
from birthmark_server.cli.remote_requests import segment
from birthmark_server.errors import BirthmarkError, Busy
from birthmark_server.factory.desk import FactoryRefused, ServerUnreachable, Standing
from birthmark_server.factory.entries import ENTRY_MIME, MOST_ENTRY_BYTES
from birthmark_server.factory.entry import ENTRY_TYPE, Entry
from birthmark_server.factory.station.settings import StationSettings
from birthmark_server.factory.values import SerialBlock, WorkOrder
from birthmark_server.store.errors import UnknownUnit
from birthmark_server.web.api.workorders import bodies, views
from birthmark_wire.jws import decode

TIMEOUT_S: Final = 15.0
"""A person stands at the slot: who does not answer by then is away."""
M = TypeVar("M", bound=BaseModel)


class StationDesk:
    """See factory.desk.Desk, where each method's contract is."""

    def __init__(self, connect: Callable[[], OperatorConnection]) -> None:
        self._connect = connect
        self._own = threading.local()
        self._all: list[OperatorConnection] = []

    def workorder(self, name: str) -> WorkOrder:
        found = self._ask(views.WorkOrderView, "GET", f"/v1/workorders/{segment(name)}")
        return WorkOrder(**{key: getattr(found, key) for key in WorkOrder.__dataclass_fields__})

    def take_serials(self, workorder: str, count: int, *, request: str) -> SerialBlock:
        body = bodies.SerialsWanted(count=count).model_dump_json().encode()
        path = f"/v1/workorders/{segment(workorder)}/serials"
        taken = self._ask(views.SerialBlockView, "POST", path, body, key=request)
        return SerialBlock(**taken.model_dump())

    def bring_entry(self, jws: bytes) -> str:
        entry = Entry.decode(decode(jws, message_type=ENTRY_TYPE, most=MOST_ENTRY_BYTES).payload)
        path = f"/v1/workorders/{segment(entry.workorder)}/entries"
        return self._ask(views.EntryTaken, "POST", path, jws, media_type=ENTRY_MIME, reads=True).device_id

    def device(self, serial: str) -> Standing | None:
        try:
            unit = self._ask(views.UnitView, "GET", f"/v1/units/{segment(serial)}")
        except FactoryRefused as refused:
            if refused.server_code == UnknownUnit.code:
                return None
            raise
        if unit.device_id is None or unit.state is None or unit.idevid is None:
            return None
        return Standing(unit.device_id, serial, unit.state.value, unit.last_seen_at, bytes.fromhex(unit.idevid))

    def close(self) -> None:
        for connection in self._all:
            connection.close()

    def _ask(
        self,
        answer: type[M],
        method: str,
        path: str,
        body: bytes = b"",
        *,
        key: str = "",
        media_type: str = "application/json",
        reads: bool = False,
    ) -> M:
        try:
            if not hasattr(self._own, "connection"):
                self._own.connection = self._connect()
                self._all.append(self._own.connection)
            data = self._own.connection.ask(method, path, body, key=key, media_type=media_type, reads=reads)
        except (NoAnswer, ServerFailed, Busy) as error:
            raise ServerUnreachable(str(error)) from None
        except BirthmarkError as error:
            raise FactoryRefused(str(error), server_code=error.code) from None
        try:
            return answer.model_validate_json(data)
        except ValidationError as errors:
            raise ServerUnreachable(f"the server's answer is none that this version knows: {errors}") from None


def open_desk(settings: StationSettings) -> StationDesk:
    """Return the way to the server that station.toml names. Nothing is asked yet. Raise BadContext, KeyUnusable."""
    _, root_sha256 = read_root(settings.root)
    context = Context(
        settings.server,
        str(settings.certificate),
        str(settings.key),
        str(settings.root),
        settings.root_sha256 or root_sha256,
    )
    return StationDesk(lambda: OperatorConnection(context, timeout_s=TIMEOUT_S))
