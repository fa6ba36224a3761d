"""How scripts/test shares the tests out: a file's tests stay together, and what is named there exists."""

from pathlib import Path

import pytest

from support.sharing_out import LONG_FIRST, ONE_BY_ONE, TOGETHER, unit

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("test", "belongs_to"),
    [
        ("tests/store/test_sqlite.py::test_one[a::b]", "tests/store/test_sqlite.py"),
        ("tests/gate/test_gate_changes.py::TestDenyList::test_one", "tests/gate/test_gate_changes.py"),
        ("tests/demo/test_demo.py::test_one", "tests/demo/"),
        ("tests/demo/test_demo_ended.py::test_two[0.3]", "tests/demo/"),
        (f"{ONE_BY_ONE[0]}::test_one", f"{ONE_BY_ONE[0]}::test_one"),
    ],
)
def test_a_unit_of_work_is_a_file_but_for_those_that_are_named(test: str, belongs_to: str) -> None:
    assert unit(test) == belongs_to


def test_whatever_is_named_is_there() -> None:
    named = [*ONE_BY_ONE, *TOGETHER, *(f"tests/{folder}/" for folder in LONG_FIRST)]
    assert [name for name in named if not (ROOT / name).exists()] == []
