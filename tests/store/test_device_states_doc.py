"""docs/operations.md draws where a device may go from where: from the table.

`python tests/store/test_device_states_doc.py` from the root of the repository draws it anew.
"""

import re
from pathlib import Path

from birthmark_server.domain import DeviceState
from birthmark_server.store.device_states import MOVES, Act

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
MARKED = re.compile("<!-- device-states -->.*?<!-- /device-states -->", re.DOTALL)


def drawn() -> str:
    lines = ["stateDiagram-v2", f"    [*] --> {DeviceState.ACTIVE}: enrolled"]
    lines += [f"    {before} --> {after}: {act}" for (before, act), after in MOVES.items() if before is not after]
    return "<!-- device-states -->\n```mermaid\n" + "\n".join(lines) + "\n```\n<!-- /device-states -->"


def test_the_diagram_is_drawn_from_the_table() -> None:
    assert MARKED.findall(DOCUMENT.read_text()) == [drawn()], "run python tests/store/test_device_states_doc.py"


def test_every_state_and_act_is_in_the_table() -> None:
    assert {state for state, _ in MOVES} == set(DeviceState)
    assert {act for _, act in MOVES} == set(Act)


def test_nothing_leads_out_of_a_denial() -> None:
    assert {after for (before, _), after in MOVES.items() if before is DeviceState.DENIED} == {DeviceState.DENIED}


if __name__ == "__main__":
    DOCUMENT.write_text(MARKED.sub(lambda _: drawn(), DOCUMENT.read_text()))
