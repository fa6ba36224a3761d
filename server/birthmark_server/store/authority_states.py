"""Where an authority stands, and what an operator may do to it, as a table. Whatever it does not name is illegal.

That another of its kind was activated makes an active one superseded: it is no act of its own. Each act has one that
undoes it; a retirement stays undoable for as long as the authority's certificate and key are there.
"""

from types import MappingProxyType
from typing import Final

from birthmark_server.authorities import AuthorityAct, AuthorityState
from birthmark_server.store.errors import IllegalMove

_NEW, _STAGED, _ACTIVE, _SUPERSEDED, _RETIRED = (
    AuthorityState.NEW,
    AuthorityState.STAGED,
    AuthorityState.ACTIVE,
    AuthorityState.SUPERSEDED,
    AuthorityState.RETIRED,
)

MOVES: Final = MappingProxyType(
    {
        (_NEW, AuthorityAct.STAGE): _STAGED,
        (_STAGED, AuthorityAct.WITHDRAW): _NEW,
        (_STAGED, AuthorityAct.ACTIVATE): _ACTIVE,
        (_SUPERSEDED, AuthorityAct.ACTIVATE): _ACTIVE,
        (_SUPERSEDED, AuthorityAct.RETIRE): _RETIRED,
        (_RETIRED, AuthorityAct.RESTORE): _SUPERSEDED,
    }
)
"""What is absent is illegal. The diagram in docs/rollover.md is drawn from this one."""


def require_legal(name: str, state: AuthorityState, act: AuthorityAct) -> AuthorityState:
    """Return where the authority stands after `act`; raise IllegalMove naming from where it would be one."""
    after = MOVES.get((state, act))
    if after is None:
        possible = " or ".join(before for before, each in MOVES if each is act)
        raise IllegalMove(f"{name} is {state}; to {act} one, it must be {possible}")
    return after
