"""Where a device stands, and what an operator may do to it, as a table. Whatever the table does not name is illegal.

Births, renewals and board swaps are not here: they ask for an active device and leave it so.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from birthmark_server.domain import DeviceState
from birthmark_server.store.errors import IllegalMove


class Act(StrEnum):
    """What an operator does to a device; each is a verb of `birthmark device`."""

    QUARANTINE = "quarantine"
    RESTORE = "restore"
    REVOKE = "revoke"
    READMIT = "readmit"
    RETIRE = "retire"
    DENY = "deny"


_ACTIVE, _QUARANTINED, _REVOKED, _RETIRED, _DENIED = (
    DeviceState.ACTIVE,
    DeviceState.QUARANTINED,
    DeviceState.REVOKED,
    DeviceState.RETIRED,
    DeviceState.DENIED,
)

MOVES: Final = MappingProxyType(
    {
        (_ACTIVE, Act.QUARANTINE): _QUARANTINED,
        (_ACTIVE, Act.REVOKE): _REVOKED,
        (_ACTIVE, Act.RETIRE): _RETIRED,
        (_ACTIVE, Act.DENY): _DENIED,
        (_QUARANTINED, Act.QUARANTINE): _QUARANTINED,
        (_QUARANTINED, Act.RESTORE): _ACTIVE,
        (_QUARANTINED, Act.REVOKE): _REVOKED,
        (_QUARANTINED, Act.RETIRE): _RETIRED,
        (_QUARANTINED, Act.DENY): _DENIED,
        (_REVOKED, Act.REVOKE): _REVOKED,
        (_REVOKED, Act.READMIT): _ACTIVE,
        (_REVOKED, Act.RETIRE): _RETIRED,
        (_REVOKED, Act.DENY): _DENIED,
        (_RETIRED, Act.RETIRE): _RETIRED,
        (_RETIRED, Act.READMIT): _ACTIVE,
        (_RETIRED, Act.REVOKE): _REVOKED,
        (_RETIRED, Act.DENY): _DENIED,
        # What is denied stays so, whatever else is said of it; that its certificates are revoked may be said again.
        (_DENIED, Act.REVOKE): _DENIED,
        (_DENIED, Act.DENY): _DENIED,
    }
)
"""What is absent is illegal. The table in docs/operations.md is drawn from this one."""


def require_legal(device_id: str, state: DeviceState, act: Act) -> DeviceState:
    """Return where the device stands after `act`; raise IllegalMove naming from where it would be one."""
    after = MOVES.get((state, act))
    if after is None:
        possible = " or ".join(before for before, each in MOVES if each is act)
        raise IllegalMove(f"device {device_id} is {state}; to {act} one, it must be {possible}")
    return after
