"""Brokers as Prometheus sees them: who answers, how late, and by which deny list they go."""

from collections.abc import Mapping
from dataclasses import replace

from birthmark_server.broker.control import BrokerHealth
from birthmark_server.broker.errors import DenyFileMalformed
from birthmark_server.meters import Meters
from birthmark_server.web.broker_metrics import BrokerGauges
from support.scraped import scraped

WELL = BrokerHealth(
    connected=40, capacity=20_000, accepted=50, refused=2, refused_topics=0, kicked=1, deny_version=7, deny_entries=3,
    deny_stale=False, lease_s=800, open=True, round_trip_ms=4.0,
)  # fmt: skip


class Watch:
    """Brokers that are as a test says."""

    waiting = 12
    dropped = 3

    def __init__(self, **brokers: BrokerHealth | None) -> None:
        self.brokers = brokers

    def each_health(self) -> Mapping[str, BrokerHealth | None]:
        return self.brokers


def seen(watch: Watch, version: int | None, *, later_s: float = 0.0) -> dict[tuple[str, ...], float]:
    clock = [100.0]
    deny_version = None if version is None else lambda: version
    gauges = BrokerGauges(watch, deny_version=deny_version, stopwatch=lambda: clock[0])
    gauges.refresh()
    clock[0] += later_s
    return scraped(Meters(), gauges)


def test_each_broker_is_shown_as_it_was_when_last_asked() -> None:
    shown = seen(Watch(one=WELL, two=None), 7, later_s=10)
    assert shown["birthmark_broker_answers", "one"] == 1
    assert shown["birthmark_broker_answers", "two"] == 0
    assert shown["birthmark_broker_round_trip_seconds", "one"] == 0.004
    assert shown["birthmark_broker_connections", "one"] == 40
    assert shown["birthmark_broker_capacity", "one"] == 20_000
    assert shown["birthmark_broker_open", "one"] == 1
    assert shown["birthmark_broker_lease_seconds", "one"] == 790
    assert shown["birthmark_broker_deny_behind", "one"] == 0
    assert ("birthmark_broker_lease_seconds", "two") not in shown
    assert shown["birthmark_messages_waiting",] == 12
    assert shown["birthmark_messages_dropped_total",] == 3


def test_a_gate_that_goes_by_an_older_list_is_behind() -> None:
    assert seen(Watch(one=WELL), 8)["birthmark_broker_deny_behind", "one"] == 1
    assert seen(Watch(one=replace(WELL, deny_stale=True)), 7)["birthmark_broker_deny_behind", "one"] == 1
    assert seen(Watch(one=replace(WELL, deny_version=9)), 8)["birthmark_broker_deny_behind", "one"] == 0


def test_without_a_deny_file_of_ours_nobody_is_behind_it() -> None:
    assert ("birthmark_broker_deny_behind", "one") not in seen(Watch(one=WELL), None)


def test_a_deny_file_that_can_not_be_read_hides_nothing_else() -> None:
    for error in (FileNotFoundError("gone"), DenyFileMalformed("damaged")):

        def version(error: Exception = error) -> int:
            raise error

        gauges = BrokerGauges(Watch(one=WELL), deny_version=version)
        gauges.refresh()
        shown = scraped(Meters(), gauges)
        assert shown["birthmark_broker_answers", "one"] == 1
        assert ("birthmark_broker_deny_behind", "one") not in shown


def test_before_anybody_was_asked_only_what_was_heard_is_shown() -> None:
    shown = scraped(Meters(), BrokerGauges(Watch(one=WELL), deny_version=None))
    assert shown["birthmark_messages_waiting",] == 12
    assert not any(name.startswith("birthmark_broker") for name, *_ in shown)
