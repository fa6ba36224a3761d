"""Where devices stand, at the command line, and that the broker is told of it."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from birthmark_server.broker.denyfile import DenyFile
from birthmark_server.domain import Device
from birthmark_server.store.sql.store import SqlStore
from cli.conftest import Birthmark
from cli.on_record import put_on_record


def test_a_revoked_device_can_be_readmitted_and_an_active_one_can_not(birthmark: Birthmark, device: str) -> None:
    assert birthmark("device", "revoke", device, "--reason", "keyCompromise").status == 0
    assert json.loads(birthmark("device", "show", device, "--json").out)["device"]["state"] == "revoked"
    assert birthmark("device", "readmit", device).status == 0
    assert birthmark("device", "readmit", device).status == 73


def issue_replica(birthmark: Birthmark, folder: Path) -> dict[str, str]:
    assert birthmark("certificate", "issue", "control", "replica", "--folder", str(folder)).status == 0
    records: list[dict[str, str]] = json.loads(birthmark("certificate", "list", "--profile", "control", "--json").out)
    return next(record for record in records if "srv-replica" in record["subject"])


def test_what_is_revoked_is_in_the_gates_deny_file(birthmark: Birthmark, deny_file: DenyFile, tmp_path: Path) -> None:
    replica = issue_replica(birthmark, tmp_path)
    assert birthmark("certificate", "revoke", replica["sha256"], "--reason", "superseded").status == 0
    assert deny_file.read().serials == {replica["serial_number"]}
    seen = deny_file.read().version
    deny_file.path.write_text("lost")
    assert json.loads(birthmark("broker", "sync", "--json").out)["serials"] == 1
    assert deny_file.read().serials == {replica["serial_number"]}
    assert deny_file.read().version > seen


def test_a_revocation_that_does_not_reach_the_broker_says_so_by_its_status(
    birthmark: Birthmark, installation: Path, deny_file: DenyFile, tmp_path: Path
) -> None:
    replica = issue_replica(birthmark, tmp_path)
    revoke = ("certificate", "revoke", replica["sha256"], "--reason", "superseded")
    deny_file.path.unlink()
    done = birthmark(*revoke)
    assert (done.status, ": control of" in done.err, "birthmark broker sync" in done.err) == (3, True, True)
    config = installation / "birthmark.toml"
    config.write_text(config.read_text().replace('deny_file = "deny"', ""))
    done = birthmark(*revoke)
    assert (done.status, "set [broker] deny_file" in done.err) == (3, True)
    config.write_text(config.read_text().replace("\n[broker]\n", '\n[broker]\ndeny_file = "deny"\n'))
    assert birthmark("broker", "sync").status == 0
    assert birthmark(*revoke).status == 0
    assert deny_file.read().serials == {replica["serial_number"]}


def test_a_revocation_during_a_sync_is_kept(
    birthmark: Birthmark, deny_file: DenyFile, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`device deny` comes while `broker sync` has read the devices, and not yet written what it read."""
    read_devices, late = SqlStore.list_devices, list[threading.Thread]()

    def list_devices(self: SqlStore, **page: Any) -> list[Device]:
        found = read_devices(self, **page)
        if not late:
            late.append(threading.Thread(target=deny_file.add, kwargs={"devices": [device]}))
            late[0].start()
            late[0].join(0.2)
        return found

    monkeypatch.setattr(SqlStore, "list_devices", list_devices)
    assert birthmark("broker", "sync").status == 0
    late[0].join()
    assert deny_file.read().devices == {device}


def test_every_device_that_a_denial_meets_is_cut_off(
    birthmark: Birthmark, installation: Path, deny_file: DenyFile
) -> None:
    devices = {put_on_record(installation, number, ek_sha256=f"{number}" * 64) for number in range(3)}
    done = birthmark("device", "deny", "--ek", "0" * 64, "--ek", "1" * 64, "--serial", "SN-2", "--reason", "stolen")
    assert (done.status, all(device in done.err for device in devices)) == (0, True)
    assert deny_file.read().devices == devices


def test_devices_are_tagged_grouped_and_shown_with_their_health(birthmark: Birthmark, device: str) -> None:
    assert birthmark("device", "tag", device, "plant-7", "canary").status == 0
    assert json.loads(birthmark("device", "untag", device, "canary", "--json").out)["tags"] == ["plant-7"]
    assert birthmark("group", "save", "seven", "--tag", "plant-7", "--last-seen-before", "1m").status == 0
    (listed,) = json.loads(birthmark("device", "list", "--group", "seven", "--json").out)
    assert (listed["device_id"], listed["tags"]) == (device, ["plant-7"])
    assert listed["health"]["next_action"] == "first-certificate"
    assert "next action     first-certificate" in birthmark("device", "show", device).out
    assert "tag plant-7" in birthmark("group", "list").out
    assert birthmark("device", "list", "--group", "none").status == 1
    assert birthmark("device", "list", "--expiring-before", "soon").status == 65
    assert birthmark("device", "tag", device, "NO").status == 65
    assert birthmark("group", "remove", "seven").status == 0
    assert birthmark("group", "show", "seven").status == 1
    assert json.loads(birthmark("status", "--json").out)["devices"]["active"] == 1


def test_devices_are_shown_where_the_ca_folder_is_gone(birthmark: Birthmark, installation: Path, device: str) -> None:
    (installation / "ca").rename(installation / "elsewhere")
    assert birthmark("device", "list").status == 0
    assert birthmark("device", "show", device).status == 0
    assert birthmark("device", "list", "--issued-by", "fleet-2026").status != 0


def test_a_quarantine_keeps_the_certificates_and_shuts_the_device_out_until_it_is_restored(
    birthmark: Birthmark, deny_file: DenyFile, device: str, tmp_path: Path
) -> None:
    replica = issue_replica(birthmark, tmp_path)
    assert birthmark("cert", "revoke", replica["sha256"], "--reason", "superseded").status == 0
    assert birthmark("device", "quarantine", device).status == 64  # without a word why
    done = birthmark("device", "quarantine", device, "--note", "odd traffic", "--json")
    assert (done.status, json.loads(done.out)["device"]["state"]) == (0, "quarantined")
    assert deny_file.read().devices == {device}
    shown = json.loads(birthmark("device", "show", device, "--json").out)
    assert [record["revoked_at"] for record in shown["certificates"]] == [None] * len(shown["certificates"])
    assert (shown["revocations"][0]["state"], shown["revocations"][0]["note"]) == ("quarantined", "odd traffic")
    assert birthmark("broker", "sync").status == 0
    assert deny_file.read().devices == {device}
    done = birthmark("device", "restore", device, "--json")
    assert (done.status, json.loads(done.out)["device"]["state"]) == (0, "active")
    assert deny_file.read().devices == frozenset()
    assert deny_file.read().serials == {replica["serial_number"]}
    words = birthmark("device", "show", device).out
    assert all(part in words for part in ("quarantine", "odd traffic", "restored by"))
    assert birthmark("device", "restore", device).status == 73


def test_a_quarantined_device_that_is_revoked_and_readmitted_is_off_the_deny_file(
    birthmark: Birthmark, deny_file: DenyFile, device: str
) -> None:
    assert birthmark("device", "quarantine", device, "--note", "odd traffic").status == 0
    assert birthmark("device", "revoke", device, "--reason", "keyCompromise").status == 0
    assert deny_file.read().devices == {device}
    assert birthmark("device", "readmit", device).status == 0
    assert deny_file.read().devices == frozenset()


def test_a_retired_device_says_so_and_can_be_readmitted(birthmark: Birthmark, deny_file: DenyFile, device: str) -> None:
    done = birthmark("device", "retire", device, "--note", "scrapped", "--json")
    told = json.loads(done.out)
    assert (done.status, told["device"]["state"]) == (0, "retired")
    assert (told["certificates"], told["broker"]) == (0, "")
    assert all(part in birthmark("device", "show", device).out for part in ("retirement", "scrapped"))
    assert birthmark("device", "readmit", device).status == 0


@pytest.mark.parametrize(
    ("verb", "reason"), [("revoke", "superseded"), ("revoke", "certificateHold"), ("retire", "keyCompromise")]
)
def test_a_verb_takes_only_the_reasons_that_it_can_have(
    birthmark: Birthmark, device: str, verb: str, reason: str
) -> None:
    assert birthmark("device", verb, device, "--reason", reason).status == 64


def test_a_restoration_that_the_broker_can_not_be_told_of_says_so(
    birthmark: Birthmark, deny_file: DenyFile, device: str
) -> None:
    assert birthmark("device", "quarantine", device, "--note", "odd traffic").status == 0
    deny_file.path.write_text("lost")
    done = birthmark("device", "restore", device)
    assert (done.status, "birthmark broker sync" in done.err) == (3, True)
    assert birthmark("broker", "sync").status == 0
    assert deny_file.read().devices == frozenset()
