"""Cursors, health and idempotency keys, each by itself."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.domain import Assurance, Device, DeviceState
from birthmark_server.fleet import NextAction, OperationalCertificate
from birthmark_server.roles import STEERING, Role, RoleNotAllowed, require
from birthmark_server.web.api.cursor import make_cursor, read_cursor
from birthmark_server.web.api.health import outlook
from birthmark_server.web.api.operation import read_query
from birthmark_server.web.api.queries import DevicePageQuery
from birthmark_server.web.api.values import ago, ahead
from birthmark_server.web.errors import BadCursor, BadQuery

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DEVICE = Device("d", "S", "m", "", DeviceState.ACTIVE, 1, Assurance.VENDOR_CERTIFICATE, "e", (), b"", "", NOW)


@given(st.text(min_size=1).filter(lambda text: text.isprintable()), st.text())
def test_a_cursor_leads_back_to_where_it_was_made(after: str, query: str) -> None:
    cursor = make_cursor("/v1/devices", query, after)
    assert read_cursor("/v1/devices", query, cursor) == after
    with pytest.raises(BadCursor):
        read_cursor("/v1/models", query, cursor)
    with pytest.raises(BadCursor):
        read_cursor("/v1/devices", query + "x", cursor)


@given(st.text())
def test_any_text_is_a_cursor_or_is_refused(text: str) -> None:
    with pytest.raises(BadCursor):
        read_cursor("/v1/devices", "", text)


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=200))
def test_any_query_is_read_or_refused(text: str) -> None:
    try:
        read_query(DevicePageQuery, text)
    except BadQuery:
        return


def certificate(age: timedelta) -> OperationalCertificate:
    """One of 30 days, `age` old."""
    return OperationalCertificate("c", "i", "1", NOW - age, NOW - age + 30 * DAY)


@pytest.mark.parametrize(
    ("state", "age", "action", "days_left"),
    [
        (DeviceState.ACTIVE, None, NextAction.FIRST_CERTIFICATE, None),
        (DeviceState.ACTIVE, 1 * DAY, NextAction.RENEWAL, 29),
        (DeviceState.ACTIVE, 22 * DAY, NextAction.RENEWAL, 8),
        (DeviceState.ACTIVE, 23 * DAY, NextAction.RENEWAL_DUE, 7),
        (DeviceState.ACTIVE, 30 * DAY, NextAction.RENEWAL_DUE, 0),
        (DeviceState.ACTIVE, 31 * DAY, NextAction.RECOVERY, -1),
        (DeviceState.REVOKED, 1 * DAY, NextAction.READMIT, 29),
        (DeviceState.QUARANTINED, 1 * DAY, NextAction.RESTORE, 29),
        (DeviceState.DENIED, None, NextAction.NONE, None),
        (DeviceState.RETIRED, None, NextAction.NONE, None),
    ],
)
def test_what_comes_next_follows_from_state_certificate_and_time(
    state: DeviceState, age: timedelta | None, action: NextAction, days_left: int | None
) -> None:
    seen = outlook(replace(DEVICE, state=state), None if age is None else certificate(age), now=NOW)
    assert (seen.action, seen.days_left) == (action, days_left)


def test_a_span_counts_ahead_or_back_and_a_time_is_itself() -> None:
    assert ahead("7d", NOW) == NOW + 7 * DAY
    assert ago("90m", NOW) == NOW - timedelta(minutes=90)
    assert ago("2026-01-01T02:00:00+02:00", NOW) == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_role_is_required_of_operators_and_of_nobody_else() -> None:
    require(None, STEERING, "revoking devices")
    require(Role.OPERATOR, STEERING, "revoking devices")
    with pytest.raises(RoleNotAllowed, match="revoking devices is for the role operator or security-officer"):
        require(Role.FACTORY, STEERING, "revoking devices")
