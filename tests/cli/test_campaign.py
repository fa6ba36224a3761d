"""`birthmark campaign`, on a database with devices and no server: what is planned, kept, shown and refused."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from birthmark_server.campaigns import CampaignEvent, CampaignState, Decision, Hold, Rate, Strategy, Window
from birthmark_server.cli.campaign_options import How
from birthmark_server.cli.campaign_pictures import picture
from birthmark_server.cli.device_options import WhichOfGroup
from birthmark_server.domain import CertificateProfile
from birthmark_server.jobs import JobState
from birthmark_server.store.protocol import Issuance
from birthmark_server.web.api.campaigns.bodies import StrategyValue, strategy_value
from birthmark_server.web.api.campaigns.views import CampaignView, CountView
from birthmark_server.web.api.queries import DeviceQuery
from cli.conftest import Birthmark, Ran
from cli.on_record import open_database, put_on_record
from store.values import certificate


@pytest.fixture
def fleet(installation: Path) -> list[str]:
    """Three devices with an operational certificate each, and one without."""
    ids = [put_on_record(installation, number) for number in range(4)]
    store = open_database(installation)
    at = datetime.now(UTC)
    for device_id in ids[:3]:
        record = replace(
            certificate(device_id, device_id, profile=CertificateProfile.LDEVID_SOFTWARE),
            issued_at=at,
            not_after=at + timedelta(days=30),
        )
        store.commit_issuance(Issuance(device_id, 1, record, None, None, at))
    store.close()
    return ids


def told(ran: Ran) -> dict[str, object]:
    assert ran.status == 0, ran.err
    found: dict[str, object] = json.loads(ran.out)
    return found


def test_a_plan_says_who_and_who_not_and_keeps_nothing(birthmark: Birthmark, fleet: list[str]) -> None:
    dry = told(birthmark("campaign", "plan", "--canaries", "1", "--json"))
    stages = dry["stages"]
    assert isinstance(stages, list)
    assert sorted(one for stage in stages for one in stage) == fleet[:3]
    assert [len(stage) for stage in stages] == [1, 2]
    assert dry["left_out"] == {
        fleet[3]: "unsupported: it has no operational certificate that stands; it comes home over EST"
    }
    words = birthmark("campaign", "plan", "--canaries", "1")
    assert "left out, and why" in words.out
    assert "load by the hour" in words.out
    assert json.loads(birthmark("campaign", "list", "--json").out) == []


def test_a_campaigns_life(birthmark: Birthmark, fleet: list[str], installation: Path) -> None:
    started = birthmark("campaign", "start", "winter", "--canaries", "1", "--approval", "--json")
    assert "birthmark campaign watch winter" in started.err
    assert birthmark("campaign", "start", "winter").status != 0
    for verb in ("pause", "resume"):
        assert birthmark("campaign", verb, "winter", "--reason", "storm").status == 0
    again = birthmark("campaign", "resume", "winter")
    assert (again.status != 0, "a campaign that is running can't be resumed" in again.err) == (True, True)
    assert birthmark("campaign", "approve", "winter").status != 0
    store = open_database(installation)
    reason = "before stage 2: wants approval"
    store.campaigns.happen("winter", CampaignEvent.HELD, by="", at=datetime.now(UTC), reason=reason)
    store.close()
    assert f"{reason}: birthmark campaign approve winter" in birthmark("campaign", "show", "winter").out
    assert birthmark("campaign", "approve", "winter").status == 0
    assert birthmark("campaign", "retry", "winter").status == 0
    assert birthmark("campaign", "abort", "winter", "--reason", "wrong CA").status == 0
    assert birthmark("campaign", "retry", "winter").status != 0
    shown = told(birthmark("campaign", "show", "winter", "--json"))
    happenings = shown["happenings"]
    assert isinstance(happenings, list)
    assert [one["event"] for one in happenings] == [
        *("started", "paused", "resumed", "held", "approved", "retried", "aborted")
    ]
    assert all(one["by"].startswith("local:") for one in happenings if one["event"] != "held")
    assert happenings[-1]["reason"] == "wrong CA"
    words = birthmark("campaign", "show", "winter", "--state", "skipped").out
    assert "aborted by local:" in words
    assert all(one in words for one in fleet[:3])
    assert fleet[3] not in words
    assert "winter" in birthmark("campaign", "list").out


def test_watch_ends_with_its_campaign(birthmark: Birthmark, fleet: list[str], installation: Path) -> None:
    birthmark("campaign", "start", "one", "--device", fleet[0])
    birthmark("campaign", "abort", "one", "--reason", "enough")
    lines = [json.loads(line) for line in birthmark("campaign", "watch", "one", "--json").out.splitlines()]
    assert [line["state"] for line in lines] == ["aborted"]
    drawn = birthmark("campaign", "watch", "one").out
    assert "one: aborted" in drawn
    assert "enough" in drawn
    assert drawn.endswith("\n")


def test_a_device_is_in_one_campaign(birthmark: Birthmark, fleet: list[str], installation: Path) -> None:
    birthmark("campaign", "start", "one", "--device", fleet[0])
    store = open_database(installation)
    store.campaigns.step(lambda _: Decision(start=1), at=datetime.now(UTC))
    job = store.jobs.open_job(fleet[0])
    assert job is not None
    assert job.state is JobState.WAITING
    store.close()
    refused = birthmark("campaign", "start", "two", "--device", fleet[0])
    assert refused.status != 0
    assert "busy: campaign one" in refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "none-such"], "the selection is empty"),
        (["--device", "sw-99"], "sw-99"),
        (["--device", "sw-3"], "can be told now: unsupported"),
        (["--issued-by", "fleet-1999"], "fleet-1999"),
        (["--expiring-before", "soon"], "expiring-before"),
        (["--tag", "UPPER"], "tag"),
        (["--group", "none-such"], "no group 'none-such'"),
        (["--stages", "10,50"], "rise to 100"),
        (["--stages", "a"], "--stages"),
        (["--rate", "1,2"], "--rate"),
        (["--window", "25:00-26:00"], "window"),
        (["--window", "noon"], "window"),
        (["--window", "someday 08:00-09:00"], "someday"),
        (["--at-once", "0"], "most_at_once"),
        (["--success", "101"], "success_percent: want 0 to 100, got 101"),
        (["--deadline", "0h"], "--deadline"),
        (["--check", "file:///etc/passwd"], "http"),
        (["--check", "http://x", "--approval"], "not for both"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_kept(
    birthmark: Birthmark, fleet: list[str], words: list[str], said: str
) -> None:
    refused = birthmark("campaign", "start", "bad", *words)
    assert refused.status != 0
    assert said in refused.err
    assert refused.err.count("\n") == 1
    assert json.loads(birthmark("campaign", "list", "--json").out) == []


def test_what_is_not_there_is_said(birthmark: Birthmark) -> None:
    for verb in ("show", "watch", "pause", "resume", "approve", "abort", "retry"):
        refused = birthmark("campaign", verb, "none")
        assert (refused.status != 0, "no campaign 'none'" in refused.err) == (True, True)


# -- drawn


def drawn(campaign: CampaignView, width: int) -> list[str]:
    console = Console(width=width, file=StringIO(), force_terminal=True, color_system=None)
    console.print(picture(campaign, width=width))
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_picture_is_never_cut(width: int) -> None:
    names = ["queued", "running", "done", "failed", "cancelled", "skipped"]
    large = CountView(queued=900_000, running=500, done=1_000_000, failed=5, cancelled=0, skipped=7, total=1_900_512)
    none = CountView(queued=0, running=0, done=0, failed=0, cancelled=0, skipped=0, total=0)
    at = datetime.now(UTC)
    campaign = CampaignView(
        campaign_id="winter",
        state=CampaignState.RUNNING,
        stage=9,
        stages=(none,) * 8 + (large, none),
        total=large,
        reason="",
        created_by="alice",
        created_at=at,
        opened_at=at,
        ended_at=None,
        revision=1,
    )
    title, head, *lines = drawn(campaign, width)
    assert title.strip() == "winter: running"
    assert head.split() == ["stage", *names]
    assert [line.split()[0] for line in lines] == [*"12345678", ">", "10"]
    assert lines[8].split()[1] == "9"
    assert lines[8].split()[-6:] == ["900000", "500", "1000000", "5", "0", "7"]
    assert all(len(line) <= width for line in lines)
    bars = {line.count("█") + line.count("░") for line in lines}
    assert bars == {min(20, width - 55)}


# -- words to values


def test_without_words_a_strategy_is_as_its_defaults() -> None:
    assert How().strategy().meant() == Strategy()
    assert How().strategy() == StrategyValue() == strategy_value(Strategy())


def test_words_become_a_strategy_and_back() -> None:
    how = How(
        stages="10,100",
        rate="10,1.5,500",
        window=["sat,sun 08:00-20:30", "22:00-04:00"],
        approval=True,
        deadline="7d",
    )
    meant = Strategy(
        stages=(10, 100),
        rate=Rate(10, 1.5, 500),
        windows=(Window(480, 1230, (5, 6)), Window(1320, 240)),
        hold=Hold.APPROVAL,
        deadline_s=7 * 86_400,
    )
    assert how.strategy().meant() == meant
    assert strategy_value(meant) == how.strategy()


def test_what_selects_devices_is_what_a_list_takes() -> None:
    which = WhichOfGroup(device=["dev-1", "dev-2", "dev-1"], tag=["b", "a"], expiring_before="2026-12-31", group="late")
    assert which.query() == DeviceQuery(
        device_id=("dev-1", "dev-2"), tag=("b", "a"), expiring_before="2026-12-31", group="late"
    )
    assert WhichOfGroup().query() == DeviceQuery()
