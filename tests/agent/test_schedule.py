"""When a certificate is due: by a clock that somebody vouches for, and by one that nobody does."""

from datetime import UTC, datetime, timedelta

import pytest

from birthmark_agent.schedule import is_due

BORN = datetime(2026, 1, 1, tzinfo=UTC)
DUE = BORN + timedelta(days=20)
TWENTY_DAYS_S = 20 * 86_400.0


@pytest.mark.parametrize("obtained_here", [True, False])
def test_a_clock_that_is_vouched_for_decides_alone(obtained_here: bool) -> None:
    for now, due in ((DUE - timedelta(seconds=1), False), (DUE, True)):
        for held_s in (0.0, 2 * TWENTY_DAYS_S):
            told = is_due(DUE, not_before=BORN, now=now, vouched=True, held_s=held_s, obtained_here=obtained_here)
            assert told is due


def test_a_clock_that_nobody_vouches_for_makes_an_old_certificate_due_but_no_new_one() -> None:
    ahead = DUE + timedelta(days=400)
    assert is_due(DUE, not_before=BORN, now=ahead, vouched=False, held_s=1.0, obtained_here=False)
    assert not is_due(DUE, not_before=BORN, now=ahead, vouched=False, held_s=1.0, obtained_here=True)


@pytest.mark.parametrize("obtained_here", [True, False])
def test_what_was_held_for_long_enough_is_due_though_the_clock_stands_still(obtained_here: bool) -> None:
    """A clock before the floor reads as the floor, which is the certificate's own beginning: no day would ever come."""
    for held_s, due in ((TWENTY_DAYS_S - 1, False), (TWENTY_DAYS_S, True)):
        assert is_due(DUE, not_before=BORN, now=BORN, vouched=False, held_s=held_s, obtained_here=obtained_here) is due
