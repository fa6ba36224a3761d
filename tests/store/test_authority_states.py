"""Where an authority may be moved from and to. docs/rollover.md draws it from the table.

`python tests/store/test_authority_states.py` from the root of the repository draws it anew.
"""

import re
from itertools import product
from pathlib import Path

import pytest

from birthmark_server.authorities import AuthorityAct, AuthorityState
from birthmark_server.store.authority_states import MOVES, require_legal
from birthmark_server.store.errors import IllegalMove

DOCUMENT = Path(__file__).parents[2] / "docs" / "rollover.md"
MARKED = re.compile("<!-- authority-states -->.*?<!-- /authority-states -->", re.DOTALL)


def drawn() -> str:
    lines = ["stateDiagram-v2", f"    [*] --> {AuthorityState.NEW}: birthmark init --add"]
    lines += [f"    {before} --> {after}: {act}" for (before, act), after in MOVES.items()]
    lines.append(f"    {AuthorityState.ACTIVE} --> {AuthorityState.SUPERSEDED}: another one is activated")
    return "<!-- authority-states -->\n```mermaid\n" + "\n".join(lines) + "\n```\n<!-- /authority-states -->"


def test_the_diagram_is_drawn_from_the_table() -> None:
    assert MARKED.findall(DOCUMENT.read_text()) == [drawn()], "run python tests/store/test_authority_states.py"


@pytest.mark.parametrize(("state", "act"), list(product(AuthorityState, AuthorityAct)))
def test_an_authority_moves_as_the_table_says_and_no_other_way(state: AuthorityState, act: AuthorityAct) -> None:
    if (state, act) in MOVES:
        assert require_legal("x", state, act) is MOVES[state, act]
    else:
        with pytest.raises(IllegalMove, match=f"x is {state}"):
            require_legal("x", state, act)


def test_every_state_but_that_of_issuing_can_be_left_by_an_act_and_come_back_to() -> None:
    ways = {(before, after) for (before, _), after in MOVES.items()}
    ways.add((AuthorityState.ACTIVE, AuthorityState.SUPERSEDED))  # by the activation of another
    for start in set(AuthorityState) - {AuthorityState.NEW, AuthorityState.STAGED}:
        reached = {start}
        while len(further := reached | {after for before, after in ways if before in reached}) > len(reached):
            reached = further
        assert {AuthorityState.ACTIVE, AuthorityState.SUPERSEDED, AuthorityState.RETIRED} <= reached


if __name__ == "__main__":
    DOCUMENT.write_text(MARKED.sub(lambda _: drawn(), DOCUMENT.read_text()))
