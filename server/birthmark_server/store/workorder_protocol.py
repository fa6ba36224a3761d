"""The part of the store that work orders need; its rules are those of protocol.py, and
tests/store/contract_workorders.py is it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from birthmark_server.workorders import SerialBlock, StationEntry, UnitOnRecord, WorkOrder, WorkOrderCount

Decide = Callable[[Sequence[WorkOrder]], WorkOrder]
"""From all work orders on record to the new one: the place of its serial numbers depends on theirs. It may be asked
again, and raises what refuses it."""


class WorkOrderStore(Protocol):
    """Work orders, blocks of serial numbers, what stations signed. Errors: store/errors.py."""

    def create(self, name: str, decide: Decide) -> WorkOrder:
        """Put what `decide` returns on record, one at a time. Raise AlreadyExists (a work order or a batch of that name
        is there: both are what devices call their batch), UnknownModel."""

    def get(self, name: str) -> WorkOrder:
        """Raise UnknownWorkOrder."""

    def page(self, *, after: str = "", limit: int = 100) -> list[WorkOrder]:
        """Ordered by name; `after` is the last name of the page before."""

    def close(self, name: str, *, at: datetime, by: str) -> WorkOrder:
        """Raise UnknownWorkOrder. Closing a closed one changes nothing."""

    def count(self, name: str) -> WorkOrderCount: ...

    def take_serials(self, name: str, *, station: str, count: int, at: datetime) -> SerialBlock:
        """Give the next places to a station, fewer where fewer are left. No place is ever given twice, and never more
        than the work order's quantity. Raise UnknownWorkOrder, WorkOrderClosed, SerialsExhausted."""

    def blocks(self, name: str) -> list[SerialBlock]:
        """By first place."""

    def admit(self, entry: StationEntry) -> StationEntry:
        """Expect this device from now on: keep the entry, and put it on the manifest with the work order as its batch.
        Return the entry that stands: an earlier one if it says the same of serial, EK, MAC, model and device id.

        The work order is judged as it was when the entry was signed: units exist that a station made while it was
        alone, however late it brings them. Raise UnknownWorkOrder, ForeignModel, WorkOrderClosed (signed after its
        end), EntryOutOfTime (signed before its block was taken, or in the future), SerialNotGiven (the place is
        in no block of that station), StationRevoked, DeniedDevice, EntryWithdrawn; DuplicateSerial, DuplicateEk,
        DuplicateMac, which name the other one."""

    def unit(self, serial: str) -> UnitOnRecord:
        """What stands of this serial number. Raise UnknownUnit where no station's entry names it."""
