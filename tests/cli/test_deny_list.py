"""The deny list on the server's side: whom the database denies, who keeps its lease, and who shows it."""

import itertools
import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from birthmark_server.broker.denyfile import DenyFile, Lease, encode
from birthmark_server.ca.authority import Authority
from birthmark_server.denials import DenyFileKeeper, open_deny_file
from birthmark_server.domain import Device, DeviceState, RevocationReason
from birthmark_server.errors import Misconfigured
from birthmark_server.settings import Settings, load
from birthmark_server.store.open import open_store
from birthmark_server.store.sql.store import SqlStore
from cli.conftest import Birthmark
from cli.on_record import AT, open_database, put_on_record


@pytest.fixture
def settings(installation: Path) -> Settings:
    """Settings that name a deny file, and a port where no broker listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    config = installation / "birthmark.toml"
    text = config.read_text().replace('# deny_file = ""', 'deny_file = "deny"')
    config.write_text(text.replace("# port = 8883", f"port = {port}"))
    return load(config)


@pytest.fixture
def deny_file(settings: Settings) -> DenyFile:
    return open_deny_file(settings.broker)


class Time:
    """A clock and a stopwatch that the test sets."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC)
        self.elapsed_s = 0.0

    def __call__(self) -> datetime:
        return self.at

    def seconds(self) -> float:
        return self.at.timestamp()


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def keeper(settings: Settings, deny_file: DenyFile, clock: Time, installation: Path) -> Iterator[DenyFileKeeper]:
    """The background task of a server that has just started."""
    file = DenyFile(deny_file.path, signer=deny_file.signer, clock=clock.seconds)
    authority = Authority.load(Path(settings.ca.folder), passphrase=None, now=clock())
    store = open_store(settings.database.url, journal=installation / "journal.keeper")
    yield DenyFileKeeper(deny_file=file, store=store, authority=authority, now=clock, stopwatch=lambda: clock.elapsed_s)
    store.close()


def test_a_lease_is_kept(keeper: DenyFileKeeper, deny_file: DenyFile, clock: Time) -> None:
    deny_file.create()
    deny_file.add(devices=["a"])
    began = clock.at
    for _ in range(60):
        keeper.refresh()
        assert deny_file.read().lease.until_s > clock.seconds() + 590
        clock.at += timedelta(seconds=60)
    assert deny_file.read().devices == {"a"}
    assert deny_file.read().version == 2 + (clock.at - began).seconds // 300 - 1


def test_a_server_that_was_down_for_an_hour_renews_at_once(
    keeper: DenyFileKeeper, deny_file: DenyFile, clock: Time
) -> None:
    deny_file.create()
    clock.at += timedelta(hours=1)
    keeper.refresh()
    now = int(clock.seconds())
    assert deny_file.read().lease == Lease(now, now + 900)


def test_a_clock_that_was_set_back_is_followed(keeper: DenyFileKeeper, deny_file: DenyFile, clock: Time) -> None:
    """Else a list of the future would stand until that future, with no end of its lease in sight."""
    deny_file.create()
    clock.at -= timedelta(hours=1)
    keeper.refresh()
    assert deny_file.read().version == 2
    assert deny_file.read().lease.until_s == int(clock.seconds()) + 900


@pytest.mark.parametrize("damage", ["lost", "cut short", "not ours", "old format"])
def test_a_file_that_cannot_be_used_is_written_anew(
    keeper: DenyFileKeeper,
    deny_file: DenyFile,
    birthmark: Birthmark,
    clock: Time,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    revoked = _revoke_the_operator_and_the_control_identity(birthmark)
    deny_file.create()
    match damage:
        case "lost":
            deny_file.path.unlink()
        case "cut short":
            deny_file.path.write_bytes(deny_file.path.read_bytes()[:-20])
        case "not ours":
            deny_file.path.write_bytes(deny_file.path.read_bytes().replace(b"end 0", b"end 1"))
        case _:
            deny_file.path.write_bytes(b"birthmark-deny 1 7\nend 0\n")
    clock.at += timedelta(seconds=310)
    keeper.refresh()
    assert deny_file.read().serials == revoked
    assert "deny list written anew" in caplog.text


def test_what_another_process_revoked_is_added_and_nothing_is_taken_out(
    keeper: DenyFileKeeper, deny_file: DenyFile, birthmark: Birthmark, caplog: pytest.LogCaptureFixture
) -> None:
    deny_file.create()
    deny_file.add(devices=["from-elsewhere"])
    keeper.refresh()
    before = deny_file.read()
    revoked = _revoke_the_operator_and_the_control_identity(birthmark)
    # As a machine that has no deny file: what its revocation wrote there is taken back here.
    deny_file.path.write_bytes(deny_file.signer.sign(encode(replace(before, version=before.version + 9))))
    caplog.set_level(logging.INFO)
    keeper.refresh()
    assert deny_file.read().serials == revoked
    assert deny_file.read().devices == {"from-elsewhere"}
    assert "deny list added to" in caplog.text


def test_denials_are_not_read_again_while_none_is_new(
    keeper: DenyFileKeeper, deny_file: DenyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.refresh()
    reads = set[object]()
    monkeypatch.setattr(SqlStore, "list_devices", lambda self, **page: reads.add(page["state"]))
    monkeypatch.setattr(SqlStore, "revoked_serials", lambda self, issuer, **page: reads.add(issuer))
    keeper.refresh()
    assert reads == {DeviceState.QUARANTINED}


def test_a_quarantine_that_another_machine_began_is_added_and_taken_out_when_it_ends(
    keeper: DenyFileKeeper, deny_file: DenyFile, installation: Path
) -> None:
    device, store = put_on_record(installation, 42), open_database(installation)
    keeper.refresh()
    store.quarantine_device(device, at=AT, by="alice", note="odd traffic")
    keeper.refresh()
    assert deny_file.read().devices == {device}
    store.restore_device(device, at=AT, by="alice")
    keeper.refresh()
    assert deny_file.read().devices == frozenset()
    store.quarantine_device(device, at=AT, by="alice", note="again")
    keeper.refresh()
    store.revoke_device(device, reason=RevocationReason.UNSPECIFIED, at=AT, by="alice")
    keeper.refresh()
    assert deny_file.read().devices == frozenset()
    store.close()


def test_reading_very_many_denials_is_followed_by_a_rest(
    keeper: DenyFileKeeper, deny_file: DenyFile, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    deny_file.create()
    reads, count = list[int](), itertools.count()

    def slow(self: SqlStore, *, state: DeviceState, **page: object) -> list[Device]:
        if state is DeviceState.DENIED:
            reads.append(1)
            clock.elapsed_s += 2
        return []

    monkeypatch.setattr(SqlStore, "list_devices", slow)
    monkeypatch.setattr(SqlStore, "count_revoked", lambda self, issuer: next(count))  # a revocation at every look
    keeper.refresh()
    clock.elapsed_s += 59
    keeper.refresh()
    assert len(reads) == 1
    clock.elapsed_s += 1
    keeper.refresh()
    assert len(reads) == 2


def test_what_fails_is_said_once_and_tried_again(
    keeper: DenyFileKeeper, deny_file: DenyFile, caplog: pytest.LogCaptureFixture
) -> None:
    path = deny_file.path.parent
    for file in list(path.glob("deny*")):
        if file.name in ("deny", "deny.lock"):
            file.unlink()
    (path / "deny.lock").mkdir()  # as a folder that the server may not write to
    keeper.refresh()
    keeper.refresh()
    assert caplog.text.count("deny file not kept") == 1
    (path / "deny.lock").rmdir()
    keeper.refresh()
    assert deny_file.read().entries == ()


def test_a_signer_that_is_about_to_end_is_a_warning(
    keeper: DenyFileKeeper, deny_file: DenyFile, clock: Time, caplog: pytest.LogCaptureFixture
) -> None:
    clock.at += timedelta(days=340)
    keeper.refresh()
    assert [record.levelno for record in caplog.records if record.message == "deny lease renewed"] == [logging.WARNING]


def test_without_a_signer_there_is_no_deny_file(installation: Path) -> None:
    config = installation / "birthmark.toml"
    config.write_text(config.read_text().replace("deny_certificate =", "# deny_certificate ="))
    with pytest.raises(Misconfigured, match="deny_file is not set"):
        open_deny_file(load(config).broker)
    config.write_text(config.read_text().replace('# deny_file = ""', 'deny_file = "deny"'))
    with pytest.raises(Misconfigured, match="certificate issue deny-list"):
        open_deny_file(load(config).broker)


def test_the_doctor_looks_at_the_list_and_its_lease(
    settings: Settings, deny_file: DenyFile, birthmark: Birthmark
) -> None:
    assert ("wrong", "birthmark broker sync") in _findings(birthmark)
    deny_file.create()
    assert ("well", "") in _findings(birthmark)
    DenyFile(deny_file.path, signer=deny_file.signer, clock=lambda: 1_700_000_000.0).add(devices=["a"])
    assert ("wrong", "systemctl start birthmark renews it") in _findings(birthmark)


def test_a_broker_that_cannot_be_asked_is_shown_so(
    settings: Settings, deny_file: DenyFile, birthmark: Birthmark
) -> None:
    deny_file.create()
    done = birthmark("broker", "status")
    assert (done.status, "version 1, 0 entries, lease until" in done.out) == (1, True)
    assert "not connected to the broker" in done.err


SHARD = """
[[broker.shards]]
name = "mqtt-{number}"
host = "localhost"
port = {number}
drain = {drain}
"""


@pytest.fixture
def shards(settings: Settings, installation: Path) -> None:
    """Two brokers, at ports where nobody listens."""
    config = installation / "birthmark.toml"
    head, after = config.read_text().split("[enrollment]")
    tables = SHARD.format(number=1, drain="false") + SHARD.format(number=2, drain="true")
    config.write_text(f"{head}{tables}[enrollment]{after}")


@pytest.mark.usefixtures("shards")
def test_each_of_several_brokers_is_shown(deny_file: DenyFile, birthmark: Birthmark) -> None:
    deny_file.create()
    done = birthmark("broker", "status")
    assert done.status == 1
    for line in (
        "gate mqtt-1",
        "can't be asked at localhost:1",
        "gate mqtt-2",
        "can't be asked at localhost:2, drained",
    ):
        assert line in done.out
    assert "mqtt-1: not connected to the broker at localhost:1" in done.err
    said = json.loads(birthmark("broker", "status", "--json").out)
    assert said["gate"] is None
    assert [(one["name"], one["endpoint"], one["drain"], one["gate"]) for one in said["brokers"]] == [
        ("mqtt-1", "localhost:1", False, None),
        ("mqtt-2", "localhost:2", True, None),
    ]


@pytest.mark.usefixtures("shards")
def test_the_doctor_asks_each_of_several_brokers(birthmark: Birthmark) -> None:
    findings = json.loads(birthmark("doctor", "--json").out)
    assert [one["what"] for one in findings if one["what"].startswith("broker ")] == ["broker mqtt-1", "broker mqtt-2"]


@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize("name", ["", "mqtt-3"])
def test_the_configuration_is_written_for_a_broker_that_there_is(
    birthmark: Birthmark, tmp_path: Path, name: str
) -> None:
    done = birthmark("broker", "config", str(tmp_path / "mosquitto"), "--shard", name)
    assert done.status == 78
    assert "want a name in [[broker.shards]] (mqtt-1, mqtt-2)" in done.err


def _findings(birthmark: Birthmark) -> set[tuple[str, str]]:
    findings = json.loads(birthmark("doctor", "--json").out)
    return {(one["state"], one["advice"]) for one in findings if one["what"] == "deny list"}


def _revoke_the_operator_and_the_control_identity(birthmark: Birthmark) -> set[str]:
    """Return the serial numbers that mean something to the gate: not the operator's."""
    records = json.loads(birthmark("certificate", "list", "--json").out)
    for record in records:
        if record["profile"] in ("operator", "control"):
            birthmark("certificate", "revoke", record["sha256"], "--reason", "superseded")
    return {record["serial_number"] for record in records if record["profile"] == "control"}
