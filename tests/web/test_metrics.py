"""What Prometheus reads: the fleet as it stood when it was last looked at, and what this server counted."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from birthmark_server.campaigns import CampaignState
from birthmark_server.domain import DeviceState
from birthmark_server.fleet import DaysLeft
from birthmark_server.meters import Meters
from birthmark_server.store.errors import StoreBusy
from birthmark_server.web.broker_metrics import BrokerGauges
from birthmark_server.web.campaign_metrics import CampaignGauges
from birthmark_server.web.crl import CrlAge
from birthmark_server.web.metrics import DAYS, CrlGauges, FleetGauges
from support.scraped import Clock, scraped
from web.test_broker_metrics import WELL, Watch
from web.test_campaign_metrics import Record, campaign


class Fleet:
    """A fleet that stands as a test says."""

    busy = False

    def count_devices(self) -> dict[DeviceState, int]:
        if self.busy:
            raise StoreBusy("held", retry_after_s=1)
        return dict.fromkeys(DeviceState, 0) | {DeviceState.ACTIVE: 7}

    def count_days_left(self, days: Sequence[int], *, at: datetime) -> DaysLeft:
        return DaysLeft(tuple(range(len(days) + 1)), without=3)


def test_the_fleet_is_shown_as_it_was_last_read_with_its_age() -> None:
    clock, fleet, connected = Clock(), Fleet(), True
    gauges = FleetGauges(fleet, live=lambda: connected, now=clock)
    gauges.refresh()
    clock.at += timedelta(seconds=40)
    shown = scraped(Meters(), gauges)
    assert shown["birthmark_fleet_age_seconds",] == 40
    assert shown["birthmark_devices", "active"] == 7
    assert shown["birthmark_devices", "revoked"] == 0
    assert [shown["birthmark_devices_days_left", str(days)] for days in DAYS] == list(range(len(DAYS)))
    assert shown["birthmark_devices_days_left", "more"] == len(DAYS)
    assert shown["birthmark_devices_days_left", "none"] == 3
    assert shown["birthmark_broker_connected",] == 1


def test_a_database_that_does_not_answer_leaves_what_was_read_before() -> None:
    clock, fleet = Clock(), Fleet()
    gauges = FleetGauges(fleet, live=None, now=clock)
    assert ("birthmark_devices", "active") not in scraped(Meters(), gauges)
    gauges.refresh()
    fleet.busy = True
    clock.at += timedelta(hours=1)
    with pytest.raises(StoreBusy):
        gauges.refresh()
    shown = scraped(Meters(), gauges)
    assert shown["birthmark_devices", "active"] == 7
    assert shown["birthmark_fleet_age_seconds",] == 3600
    assert ("birthmark_broker_connected",) not in shown


def test_what_was_counted_is_shown() -> None:
    meters = Meters()
    meters.answered("GET /healthz", 200, 0.004)
    meters.refused("enrollment", "ek-untrusted")
    meters.handshake_failed("TLSV1_ALERT_UNKNOWN_CA")
    meters.turned_away()
    shown = scraped(meters, FleetGauges(Fleet(), live=None, now=Clock()))
    assert shown["birthmark_requests_total", "GET /healthz", "200"] == 1
    assert shown["birthmark_request_seconds_bucket", "0.005", "GET /healthz"] == 1
    assert shown["birthmark_request_seconds_bucket", "0.002", "GET /healthz"] == 0
    assert shown["birthmark_refusals_total", "ek-untrusted", "enrollment"] == 1
    assert shown["birthmark_handshakes_failed_total", "TLSV1_ALERT_UNKNOWN_CA"] == 1
    assert shown["birthmark_connections_refused_total",] == 1


def test_each_issuers_list_is_shown_with_its_age_and_what_is_left() -> None:
    lists = [CrlAge("birth-2026", 30, 70), CrlAge("fleet-2026", 101, -1)]
    gauges = CrlGauges(lambda: lists)
    shown = scraped(Meters(), gauges)
    assert shown["birthmark_crl_age_seconds", "birth-2026"] == 30
    assert shown["birthmark_crl_left_seconds", "birth-2026"] == 70
    assert shown["birthmark_crl_left_seconds", "fleet-2026"] == -1
    lists.clear()
    assert ("birthmark_crl_left_seconds", "fleet-2026") not in scraped(Meters(), gauges)


def test_dashboard_alerts_and_guide_name_what_is_shown_and_nothing_else() -> None:
    meters = Meters()
    meters.answered("GET /x", 200, 0.1)
    meters.refused("x", "y")
    meters.handshake_failed("z")
    gauges = FleetGauges(Fleet(), live=lambda: True, now=Clock())
    gauges.refresh()
    crls = CrlGauges(lambda: [CrlAge("x", 1, 1)])
    campaigns = CampaignGauges(Record(campaign("x", CampaignState.RUNNING)), now=Clock())
    brokers = BrokerGauges(Watch(broker=WELL), deny_version=lambda: 7)
    for each in (campaigns, brokers):
        each.refresh()
    shown = {name for name, *_ in scraped(meters, gauges, crls, campaigns, brokers) if not name.endswith("_created")}
    docs = Path(__file__).parents[2] / "docs"
    named = set(re.findall(r"birthmark_[a-z_]+", (docs / "grafana-dashboard.json").read_text()))
    named |= set(re.findall(r"birthmark_[a-z_]+", (docs / "monitoring.md").read_text()))
    histogram = {f"birthmark_request_seconds{suffix}" for suffix in ("", "_bucket", "_count", "_sum")}
    assert named - histogram == shown - histogram
