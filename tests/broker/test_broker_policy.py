"""The topic policy in Python passes the gate's own table."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.broker.policy import Access, Role, Verdict, judge
from birthmark_wire import topics

TABLE = Path(__file__).resolve().parents[1] / "gate" / "vectors" / "topics.txt"
LINES = [line for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("line", LINES)
def test_every_line_of_the_table_holds(line: str) -> None:
    role, identity, access, verdict, topic = line.split(" ", 4)
    assert judge(Role(role), identity, Access(access), topic) == Verdict(verdict)


def test_the_wire_contracts_own_topics_are_allowed() -> None:
    for leaf in topics.UP:
        assert judge(Role.DEVICE, "dev-1", Access.WRITE, topics.up("dev-1", leaf)) is Verdict.ALLOWED
        assert judge(Role.CONTROL, "srv-1", Access.READ, topics.up("dev-1", leaf)) is Verdict.ALLOWED
    for leaf in topics.DOWN:
        assert judge(Role.DEVICE, "dev-1", Access.READ, topics.down("dev-1", leaf)) is Verdict.ALLOWED
        assert judge(Role.CONTROL, "srv-1", Access.WRITE, topics.down("dev-1", leaf)) is Verdict.ALLOWED
    assert judge(Role.CONTROL, "srv-1", Access.SUBSCRIBE, topics.SERVER_SUBSCRIPTION) is Verdict.ALLOWED


_LEVEL = st.sampled_from(
    ["devices", "dev-1", "dev-2", "up", "down", "+", "#", "", "$share", "birthmark", "$SYS", "cmd"]
)


@given(st.lists(_LEVEL, max_size=7).map("/".join), st.sampled_from(Access))
def test_whatever_a_device_is_allowed_lies_in_its_own_branch(topic: str, access: Access) -> None:
    if judge(Role.DEVICE, "dev-1", access, topic) is Verdict.ALLOWED:
        assert topic.startswith("devices/dev-1/up/" if access is Access.WRITE else "devices/dev-1/down/")
