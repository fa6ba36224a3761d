"""Campaigns from start to end: in one process with a clock of our own, and over a real Mosquitto by real servers."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from birthmark_server.campaigns import (
    BadCampaign,
    CampaignState,
    Candidate,
    Count,
    DeviceState,
    Hold,
    NotNow,
    Strategy,
    TooManyPlans,
)
from birthmark_server.fleet import DeviceFilter
from birthmark_server.rotation.campaigning import MOST_PLANS, CampaignService
from birthmark_server.rotation.outside_check import OutsideChecks
from birthmark_server.rotation.runner import CampaignRunner
from birthmark_server.store.campaign_protocol import CampaignStore
from birthmark_server.store.errors import AlreadyExists
from birthmark_server.store.sql.store import SqlStore
from birthmark_wire.rotation import Ack, AckState
from rotation.world import Broker, a_round, device, hear, tell
from support.core import Core
from support.ports import free_port
from support.postgres import fresh_database, postgres_server
from support.rotating import RotatingDevice
from support.rotating_live import LiveDevice, born, broker_of, connected
from support.server import Installation, now

ALL = ()


def service(core: Core, outside: OutsideChecks | None = None) -> CampaignService:
    return CampaignService(campaigns=core.services.campaigns, now=core.clock, seed=lambda: 1, outside=outside)


class Fleet:
    """Devices in this process, the broker that they are on, and one server's work."""

    def __init__(self, core: Core, number: int, outside: OutsideChecks | None = None) -> None:
        self.core, self.broker = core, Broker()
        self.devices = {one.device_id: one for one in (device(core) for _ in range(number))}
        self.runner = CampaignRunner(campaigns=core.services.campaigns, now=core.clock, outside=outside)
        self.most_under_way = 0
        for one in self.devices.values():
            self.broker.show(one)

    def go_on(self, *, seconds: int = 3) -> None:
        """One look at all campaigns, one round; then the devices do what they are told."""
        self.core.clock.forward(seconds=seconds)
        self.runner.run()
        a_round(self.core, self.broker).run()
        self.most_under_way = max(
            self.most_under_way,
            *(sum(c.running for c in view.counts) for view in service(self.core).views()),
        )
        carried, self.broker.carried = self.broker.carried, []
        for topic, payload in carried:
            of = self.devices[topic.split("/")[1]]
            said = of.take("cmd", payload)
            while said:
                said = hear(of, tell(self.core, of, said))
            if of.spare:
                tell(self.core, of, of.switch())
                self.broker.show(of)

    def until(self, condition: Callable[[], bool], *, looks: int = 60) -> bool:
        """Go on until it holds."""
        for _ in range(looks):
            if condition():
                return True
            self.go_on()
        return condition()


def refuses(of: RotatingDevice) -> None:
    of.answer = lambda command: Ack(command.job_id, AckState.REFUSED, code="tpm-lockout")


def test_a_campaign_goes_through_its_stages_and_ends(core: Core) -> None:
    fleet, campaigns = Fleet(core, 9), service(core)
    campaigns.start("summer", ALL, Strategy(canaries=2, stages=(50, 100), most_at_once=3), by="alice")
    assert fleet.until(lambda: campaigns.view("summer").campaign.state is CampaignState.DONE)
    view = campaigns.view("summer")
    assert view.counts == (Count(done=2), Count(done=4), Count(done=3))
    assert view.total == Count(done=9)
    assert fleet.most_under_way == 3
    assert {len(core.services.jobs.device_jobs(one)) for one in fleet.devices} == {1}


def test_too_many_failures_abort_it_for_good(core: Core) -> None:
    fleet, campaigns = Fleet(core, 8), service(core)
    for one in list(fleet.devices.values())[:6]:
        refuses(one)
    campaigns.start("bad", ALL, Strategy(most_at_once=2, abort_percent=50, abort_sample=4), by="alice")
    assert fleet.until(lambda: campaigns.view("bad").campaign.state is CampaignState.ABORTED)
    view = campaigns.view("bad")
    assert "failed" in view.campaign.reason
    assert view.total.running == view.total.queued == 0
    assert view.total.skipped > 0
    with pytest.raises(NotNow):
        campaigns.resume("bad", by="alice")
    reasons = {one.code for one in campaigns.members("bad", state=DeviceState.FAILED)}
    assert reasons == {"tpm-lockout"}


def test_a_canary_that_fails_pauses_it_and_a_retry_goes_on(core: Core) -> None:
    fleet, campaigns = Fleet(core, 4), service(core)
    for one in fleet.devices.values():
        refuses(one)
    campaigns.start("careful", ALL, Strategy(canaries=1), by="alice")
    assert fleet.until(lambda: campaigns.view("careful").campaign.state is CampaignState.PAUSED)
    assert campaigns.view("careful").counts[1].queued == 3
    for one in fleet.devices.values():
        one.answer = lambda command: Ack(command.job_id, AckState.ACCEPTED)
    campaigns.retry("careful", by="bob", reason="TPMs reset")
    assert fleet.until(lambda: campaigns.view("careful").campaign.state is CampaignState.DONE)
    assert campaigns.view("careful").total == Count(done=4)
    assert [str(one.event) for one in campaigns.happenings("careful")] == [
        "started",
        "paused",
        "retried",
        "finished",
    ]


def test_it_holds_for_an_approval_and_can_be_paused(core: Core) -> None:
    fleet, campaigns = Fleet(core, 3), service(core)
    campaigns.start("held", ALL, Strategy(canaries=1, hold=Hold.APPROVAL), by="alice")
    assert fleet.until(lambda: campaigns.view("held").campaign.state is CampaignState.HOLDING)
    assert not fleet.until(lambda: campaigns.view("held").total.done > 1, looks=5)
    campaigns.pause("held", by="bob")
    campaigns.resume("held", by="bob")
    assert fleet.until(lambda: campaigns.view("held").campaign.state is CampaignState.HOLDING)
    campaigns.approve("held", by="bob")
    assert fleet.until(lambda: campaigns.view("held").campaign.state is CampaignState.DONE)


@contextmanager
def check_server(answers: Iterator[int | None]) -> Iterator[tuple[str, list[str]]]:
    """An outside check: a status for each request, None to hang. Yields its URL, and what it was asked."""
    asked: list[str] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status = next(answers)
            if status is None:
                over.wait(20)
            else:
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/ready?x=1", asked
    finally:
        over.set()
        server.shutdown()
        server.server_close()


@pytest.mark.alone
def test_an_outside_check_that_hangs_or_says_no_holds_it_and_nothing_else(
    core: Core,
) -> None:
    with check_server(iter([None, 503, *itertools.repeat(204, 9)])) as (url, asked):
        outside = OutsideChecks([url.partition("/ready")[0]], timeout_s=1)
        fleet, campaigns = Fleet(core, 4, outside), service(core, outside)
        first, *others = fleet.devices
        strategy = Strategy(canaries=1, hold=Hold.CHECK, check_url=url)
        campaigns.start("checked", (DeviceFilter(device_ids=tuple(others)),), strategy, by="alice")
        campaigns.start("beside", (DeviceFilter(device_ids=(first,)),), Strategy(), by="alice")
        assert fleet.until(lambda: len(asked) == 1)
        began = time.monotonic()
        assert fleet.until(lambda: campaigns.view("beside").campaign.state is CampaignState.DONE)
        assert time.monotonic() - began < 1, "the check that hangs held the others up"
        for number in (2, 3):
            core.clock.forward(seconds=31)
            give_up = time.monotonic() + 10
            while len(asked) < number and time.monotonic() < give_up:
                fleet.go_on(seconds=0)
                time.sleep(0.05)
        give_up = time.monotonic() + 10
        while campaigns.view("checked").campaign.state is CampaignState.HOLDING and time.monotonic() < give_up:
            time.sleep(0.05)
        assert asked == ["/ready?x=1&campaign=checked&stage=2"] * 3
        assert fleet.until(lambda: campaigns.view("checked").campaign.state is CampaignState.DONE)
    assert [one.by for one in campaigns.happenings("checked")] == ["alice", "", "check", ""]


def test_an_outside_check_is_asked_where_the_settings_say_and_nowhere_else(core: Core) -> None:
    """An operator can't have the server ask what only the server can reach, not by way of a redirection either."""
    Fleet(core, 1)
    with check_server(itertools.repeat(302)) as (url, asked):
        for refused in (url, url.replace("http://", "http://127.0.0.1:1@"), url.replace("http", "https"), "http://[x"):
            with pytest.raises(BadCampaign, match=r"^check: "):
                service(core, OutsideChecks(["http://127.0.0.1:1"])).start(
                    "x", ALL, Strategy(hold=Hold.CHECK, check_url=refused), by="mallory"
                )
        assert asked == []
        outside = OutsideChecks([url.partition("/ready")[0]])
        campaign = service(core, outside).start("x", ALL, Strategy(hold=Hold.CHECK, check_url=url), by="alice")
        assert OutsideChecks(["http://127.0.0.1:1"]).ask(campaign)
        assert asked == []
        assert "elsewhere" in outside.ask(campaign)
        assert asked == ["/ready?x=1&campaign=x&stage=2"]


# -- bad input


def test_what_can_not_be_started_is_said_and_nothing_is_kept(core: Core) -> None:
    fleet, campaigns = Fleet(core, 2), service(core)
    for selector, strategy, said in (
        ((DeviceFilter(model="no-such"),), Strategy(), "empty"),
        ((DeviceFilter(device_ids=("dev-none",)),), Strategy(), "dev-none"),
        (ALL, Strategy(most_at_once=0), "most_at_once"),
    ):
        with pytest.raises(BadCampaign, match=said):
            campaigns.start("x", selector, strategy, by="alice")
    for name in ("", "-x", "x-", "X", "a" * 41, "a/b"):
        with pytest.raises(BadCampaign, match="name"):
            campaigns.start(name, ALL, Strategy(), by="alice")
    assert campaigns.views() == []
    campaigns.start("one", ALL, Strategy(), by="alice")
    with pytest.raises(AlreadyExists):
        campaigns.start("one", ALL, Strategy(), by="alice")
    fleet.runner.run()
    with pytest.raises(BadCampaign, match="none of the 2 devices can be told now: busy: campaign one"):
        campaigns.start("two", ALL, Strategy(), by="alice")


class SlowStore:
    """A store that is still looking for candidates."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Semaphore(0), threading.Event()

    def candidates(self, _selector: object, *, at: datetime) -> list[Candidate]:
        self.asked.release()
        self.go_on.wait(20)
        return [Candidate("dev-1", True, at, at)]


def test_few_campaigns_are_planned_at_the_same_time(core: Core) -> None:
    store = SlowStore()
    slow = CampaignService(campaigns=cast("CampaignStore", store), now=core.clock, seed=lambda: 1)
    with ThreadPoolExecutor(MOST_PLANS) as pool:
        plans = [pool.submit(slow.plan, ALL, Strategy()) for _ in range(MOST_PLANS)]
        for _ in plans:
            assert store.asked.acquire(timeout=20)
        with pytest.raises(TooManyPlans) as refused:
            slow.plan(ALL, Strategy())
        assert refused.value.retry_after_s > 0
        store.go_on.set()
        assert [plan.result().stages for plan in plans] == [(("dev-1",),)] * MOST_PLANS
    assert slow.plan(ALL, Strategy()).stages == (("dev-1",),)


# -- by real servers, over a real broker


def live_service(site: Installation) -> CampaignService:
    assert isinstance(site.store, SqlStore)
    return CampaignService(campaigns=site.store.campaigns, now=now, seed=lambda: 1)


def wait(condition: Callable[[], bool], timeout_s: float = 60) -> bool:
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


def once_each(site: Installation, devices: list[LiveDevice]) -> None:
    """Every device rotated exactly once: one job, one new certificate, the first one retired."""
    assert isinstance(site.store, SqlStore)
    for one in devices:
        device_id = one.device.device_id
        assert len(site.store.jobs.device_jobs(device_id)) == 1
        assert len(site.store.device_certificates(device_id)) == 3
        assert [record.revoked_at is None for record in site.store.device_certificates(device_id)].count(False) == 1


@pytest.mark.parts
def test_a_campaign_over_mosquitto_with_a_broker_that_is_down_at_its_start(tmp_path: Path) -> None:
    with (
        Installation.create(tmp_path) as site,
        broker_of(site) as broker,
        site.start(broker=site.broker_lines(broker.port)) as server,
    ):
        devices = [born(site, server, broker, f"SN-{number}") for number in range(6)]
        campaigns = live_service(site)
        broker.stop()
        campaigns.start("live", ALL, Strategy(canaries=1, most_at_once=3), by="alice")
        assert wait(lambda: campaigns.view("live").total.running == 1)
        broker.start()
        with connected(devices):
            assert wait(lambda: campaigns.view("live").campaign.state is CampaignState.DONE), campaigns.view("live")
        once_each(site, devices)


@pytest.mark.parts
def test_of_two_servers_on_one_postgresql_one_is_killed_and_nothing_is_done_twice(tmp_path: Path) -> None:
    with (
        postgres_server() as cluster,
        fresh_database(cluster) as url,
        Installation.create(tmp_path, database_url=url) as site,
        broker_of(site) as broker,
        site.start(port=free_port(), broker=site.broker_lines(broker.port, replica="two")) as two,
    ):
        devices = [born(site, two, broker, f"SN-{number}") for number in range(10)]
        campaigns = live_service(site)
        with connected(devices):
            with suppress(AssertionError), site.start(broker=site.broker_lines(broker.port, replica="one")) as one:
                campaigns.start("shared", ALL, Strategy(most_at_once=2), by="alice")
                midway = wait(lambda: campaigns.view("shared").total.done >= 3)
                one.process.kill()
            killed, before = time.monotonic(), campaigns.view("shared").total.done
            assert midway
            assert before < 10, "it was over before it was killed: that proves nothing"
            assert wait(lambda: campaigns.view("shared").total.done > before)
            took_over = time.monotonic() - killed
            assert wait(lambda: campaigns.view("shared").campaign.state is CampaignState.DONE), campaigns.view("shared")
        once_each(site, devices)
        assert took_over < 40  # what the dead one had heard and not answered is asked for again after silence_s
        events = Counter(str(one.event) for one in campaigns.happenings("shared"))
        assert events == {"started": 1, "finished": 1}
