"""Limits per source, judged before any work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.web import limits
from birthmark_server.web.errors import TooManyRequests
from birthmark_server.web.limits import ConnectionLimit, TokenBuckets, source_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_granted_and_then_the_rate_holds() -> None:
    clock = Clock()
    buckets = TokenBuckets(per_s=2.0, burst=3, clock=clock)
    for _ in range(3):
        buckets.take("a")
    with pytest.raises(TooManyRequests) as caught:
        buckets.take("a")
    assert caught.value.retry_after_s == 1
    clock.now += 0.5
    buckets.take("a")


def test_one_source_never_spends_anothers_tokens() -> None:
    buckets = TokenBuckets(per_s=1.0, burst=1, clock=Clock())
    buckets.take("a")
    buckets.take("b")


def test_retry_after_says_when_the_next_token_is_there() -> None:
    clock = Clock()
    buckets = TokenBuckets(per_s=0.1, burst=1, clock=clock)
    buckets.take("a")
    with pytest.raises(TooManyRequests) as caught:
        buckets.take("a")
    clock.now += caught.value.retry_after_s
    buckets.take("a")


def test_the_table_of_sources_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_SOURCES", 2)
    buckets = TokenBuckets(per_s=1.0, burst=1, clock=Clock())
    for source in "abcdef":
        buckets.take(source)
    assert len(buckets._buckets) == 2


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("local", "local"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_subscriber(address: str, source: str) -> None:
    assert source_of(address) == source


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_connections_are_counted_and_given_back(events: list[tuple[str, bool]]) -> None:
    limit = ConnectionLimit(most=4, most_per_source=2)
    opened: list[str] = []
    for source, opens in events:
        if opens:
            granted = limit.open(source)
            assert granted == (len(opened) < 4 and opened.count(source) < 2)
            if granted:
                opened.append(source)
        elif source in opened:
            opened.remove(source)
            limit.close(source)
    for source in opened:
        limit.close(source)
    assert limit._total == 0
    assert not limit._open
