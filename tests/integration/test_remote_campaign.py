"""A campaign from another machine: started, watched, paused and approved by context, over a real Mosquitto."""

import json
import time
from collections.abc import Iterator

import pytest

from birthmark_server.store.sql.store import SqlStore
from integration.afar import Run, told
from integration.conftest import LIMITS
from support.mosquitto import Broker
from support.rotating_live import LiveDevice, born, broker_of, connected
from support.server import Installation, Server

pytestmark = pytest.mark.parts
OPERATOR = ("--context", "operator")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.create(tmp_path_factory.mktemp("campaign-afar")) as installation:
        yield installation


@pytest.fixture(scope="module")
def broker(site: Installation) -> Iterator[Broker]:
    with broker_of(site) as running:
        yield running


@pytest.fixture(scope="module")
def server(site: Installation, broker: Broker) -> Iterator[Server]:
    with site.start(extra=LIMITS, broker=site.broker_lines(broker.port)) as running:
        yield running


@pytest.fixture(scope="module")
def devices(site: Installation, server: Server, broker: Broker) -> Iterator[list[LiveDevice]]:
    """Four devices on the broker; the last one is at another plant."""
    living = [born(site, server, broker, f"F-{number}") for number in range(4)]
    with connected(living):
        for number, one in enumerate(living):
            tag = "plant-9" if number == 3 else "plant-7"
            site.store.change_tags(one.device.device_id, add=[tag], remove=[])
        yield living


def certificates(site: Installation, device: LiveDevice) -> list[bool]:
    """Of each of the device's certificates, newest first, whether it stands."""
    found = site.store.device_certificates(device.device.device_id)
    return [record.revoked_at is None for record in found]


def test_a_campaign_from_afar_rotates_the_devices_of_a_tag_and_no_other(
    run: Run, site: Installation, devices: list[LiveDevice]
) -> None:
    plan = told(run, *OPERATOR, "campaign", "plan", "--tag", "plant-7", "--canaries", "1")
    assert [len(stage) for stage in plan["stages"]] == [1, 2]
    begun = told(run, *OPERATOR, "campaign", "start", "far", "--tag", "plant-7", "--canaries", "1", "--approval")
    assert begun["created_by"] == "the-operator"
    give_up = time.monotonic() + 60
    while told(run, *OPERATOR, "campaign", "show", "far")["campaign"]["state"] != "holding":
        assert time.monotonic() < give_up
        time.sleep(0.2)
    assert [certificates(site, one) for one in devices].count([True, False, True]) == 1, "the canary alone"
    assert run("--context", "viewer", "campaign", "approve", "far").status == 77
    assert run(*OPERATOR, "campaign", "approve", "far").status == 0
    watched = run("--context", "viewer", "campaign", "watch", "far", "--json")
    assert watched.status == 0, watched.err
    lines = [json.loads(line) for line in watched.out.splitlines()]
    assert (lines[-1]["state"], lines[-1]["total"]["done"]) == ("done", 3)
    assert [one["stage"] for one in lines] == sorted(one["stage"] for one in lines)
    for one in devices[:3]:
        assert certificates(site, one) == [True, False, True], "the new one and the birth certificate stand"
    assert certificates(site, devices[3]) == [True, True], "the other plant was not told"
    assert isinstance(site.store, SqlStore)
    assert [len(site.store.jobs.device_jobs(one.device.device_id)) for one in devices] == [1, 1, 1, 0]


def test_what_a_campaign_shows_is_the_same_here_and_from_afar(
    run: Run, site: Installation, devices: list[LiveDevice]
) -> None:
    local, afar = ("--config", str(site.settings())), ("--context", "viewer")
    started = run(*OPERATOR, "campaign", "start", "same", "--device", devices[3].device.device_id)
    assert "see it with: birthmark campaign watch same" in started.err
    assert run(*OPERATOR, "campaign", "watch", "same").status == 0
    for words in (
        ("campaign", "list"),
        ("campaign", "list", "--state", "done"),
        ("campaign", "list", "--device", devices[3].device.device_id),
        ("campaign", "show", "same"),
        ("campaign", "show", "same", "--state", "done"),
        ("campaign", "watch", "same"),
        ("campaign", "show", "same", "--limit", "1"),
    ):
        there, here = run(*afar, *words), run(*local, *words)
        assert (there.status, there.out) == (here.status, here.out), words
        assert there.status == 0, words
        there, here = run(*afar, *words, "--json"), run(*local, *words, "--json")
        assert (there.status, there.out) == (here.status, here.out), words


def test_errors_from_afar_have_the_sentence_and_the_status_that_they_have_here(
    run: Run, site: Installation, devices: list[LiveDevice]
) -> None:
    local = ("--config", str(site.settings()))
    run(*OPERATOR, "campaign", "start", "over", "--device", devices[3].device.device_id)
    run(*OPERATOR, "campaign", "abort", "over")
    for words, status in (
        (("campaign", "show", "none"), 1),
        (("campaign", "watch", "none"), 1),
        (("campaign", "pause", "none"), 1),
        (("campaign", "retry", "over"), 1),
        (("campaign", "start", "over"), 73),
        (("campaign", "start", "x", "--model", "none-such"), 1),
        (("campaign", "start", "x", "--group", "none-such"), 1),
        (("campaign", "start", "x", "--issued-by", "fleet-1999"), 1),
        (("campaign", "start", "x", "--device", "dev-none"), 1),
        (("campaign", "start", "X Y"), 1),
        (("campaign", "plan", "--success", "101"), 1),
        (("campaign", "plan", "--expiring-before", "soon"), 65),
        (("campaign", "plan", "--window", "noon"), 1),
        (("campaign", "plan", "--stages", "a"), 1),
    ):
        here, there = run(*local, *words), run(*OPERATOR, *words)
        assert (there.status, there.err) == (here.status, here.err), words
        assert there.status == status, (words, there.err)


def test_a_device_that_is_busy_in_one_campaign_is_left_out_of_another(
    run: Run, site: Installation, devices: list[LiveDevice]
) -> None:
    silent = devices[0]
    silent.stop()
    device_id = silent.device.device_id
    assert run(*OPERATOR, "campaign", "start", "waits", "--device", device_id, "--deadline", "1h").status == 0
    give_up = time.monotonic() + 30
    while told(run, *OPERATOR, "campaign", "show", "waits")["campaign"]["total"]["running"] != 1:
        assert time.monotonic() < give_up
        time.sleep(0.2)
    refused = run(*OPERATOR, "campaign", "start", "overlaps", "--device", device_id)
    assert (refused.status, "busy: campaign waits" in refused.err) == (1, True)
    plan = told(run, *OPERATOR, "campaign", "plan", "--tag", "plant-7")
    assert plan["left_out"] == {device_id: "busy: campaign waits"}
    assert run(*OPERATOR, "campaign", "abort", "waits", "--reason", "enough").status == 0
    silent.start()
