"""Every act of an operator is on record under their name, and shown with it; a restored database knows it too."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from birthmark_server.cli.batch import _COLUMNS as BATCH_COLUMNS
from birthmark_server.cli.output import layout
from birthmark_server.domain import Batch
from birthmark_server.web.api.views import BatchView
from cli.conftest import Birthmark
from cli.on_record import AT, put_on_record
from cli.test_operators import NEW_EK, operator


@pytest.fixture
def by(installation: Path) -> Any:
    """Act as this operator: the option that says so."""
    return lambda name: ("--operator", operator(installation, name))


def done(birthmark: Birthmark, *words: str) -> str:
    ran = birthmark(*words)
    assert ran.status in (0, 3), (words, ran)  # 3: no broker here to be told
    return ran.err


def told(birthmark: Birthmark, *words: str) -> Any:
    return json.loads(birthmark(*words, "--json").out)


def test_a_model_and_a_batch_name_who_made_and_closed_them(birthmark: Birthmark, by: Any) -> None:
    done(birthmark, "model", "add", "EDGE-7", *by("alice"))
    done(birthmark, "model", "add", "EDGE-8")
    done(birthmark, "batch", "open", "W14", "--model", "EDGE-7", "--quota", "5", "--for", "8h", *by("alice"))
    done(birthmark, "batch", "close", "W14", *by("bob"))
    done(birthmark, "batch", "close", "W14", *by("alice"))
    first, second = told(birthmark, "model", "list")
    assert first["added_by"] == "alice"
    assert second["added_by"].startswith("local:")
    (batch,) = told(birthmark, "batch", "list")
    assert (batch["opened_by"], batch["closed_by"]) == ("alice", "bob")
    assert "bob, 2" in birthmark("batch", "list").out
    assert "alice" in birthmark("model", "list").out


def test_a_certificate_names_who_had_it_issued_and_who_revoked_it(
    birthmark: Birthmark, by: Any, tmp_path: Path
) -> None:
    assert {record["issued_by"].partition(":")[0] for record in told(birthmark, "certificate", "list")} == {"local"}
    done(birthmark, "certificate", "issue", "station", "line-2", "--folder", str(tmp_path), *by("alice"))
    (station,) = told(birthmark, "certificate", "list", "--profile", "station")
    done(birthmark, "certificate", "revoke", station["sha256"], "--reason", "superseded", *by("bob"))
    record = told(birthmark, "certificate", "show", station["sha256"])
    assert (record["issued_by"], record["revoked_by"], record["reason"]) == ("alice", "bob", "superseded")
    words = birthmark("certificate", "show", station["sha256"]).err
    assert "issued by alice" in words
    assert "by bob: superseded" in words
    listed = birthmark("certificate", "list", "--profile", "station").out
    assert "alice" in listed
    assert "by bob" in listed


def test_a_device_shows_who_revoked_readmitted_and_denied_it(birthmark: Birthmark, installation: Path, by: Any) -> None:
    device = put_on_record(installation, 42)
    done(birthmark, "device", "revoke", device, "--reason", "keyCompromise", *by("alice"))
    done(birthmark, "device", "readmit", device, *by("bob"))
    done(birthmark, "device", "swap", device, "--new-ek", NEW_EK, *by("alice"))
    done(birthmark, "device", "swap", device, "--new-ek", "cd" * 32, *by("bob"))
    done(birthmark, "device", "deny", device, "--reason", "stolen", *by("alice"))
    shown = told(birthmark, "device", "show", device)
    (revocation,) = shown["revocations"]
    assert (revocation["by"], revocation["reason"], revocation["lifted_by"]) == ("alice", "keyCompromise", "bob")
    assert (shown["denial"]["denied_by"], shown["denial"]["reason"]) == ("alice", "stolen")
    assert [(swap["requested_by"], swap["new_ek_sha256"]) for swap in shown["past_swaps"]] == [("alice", NEW_EK)]
    assert shown["swap"]["requested_by"] == "bob"
    words = birthmark("device", "show", device).out
    for part in ("readmitted by  bob, 2", "denied for good", "ended", "keyCompromise"):
        assert part in words
    (denial,) = told(birthmark, "device", "denials")
    assert (denial["device_id"], denial["denied_by"]) == (device, "alice")
    assert "stolen" in birthmark("device", "denials").out


def test_a_restored_database_knows_what_operators_did_since(
    birthmark: Birthmark, installation: Path, by: Any, tmp_path: Path
) -> None:
    database = installation / "data" / "birthmark.db"
    with sqlite3.connect(database) as live, sqlite3.connect(tmp_path / "copy") as copy:
        live.backup(copy)
    live.close()
    copy.close()
    manifest = tmp_path / "lot.csv"
    manifest.write_text(f"serial,model,ek_sha256\nSN-1,EDGE-7,{NEW_EK}\n")
    done(birthmark, "model", "add", "EDGE-7", *by("alice"))
    done(birthmark, "manifest", "import", str(manifest), *by("bob"))
    done(birthmark, "batch", "open", "W14", "--model", "EDGE-7", "--quota", "5", "--for", "8h", *by("alice"))
    nouns = (("model", "list"), ("manifest", "list"), ("batch", "list"), ("certificate", "list"))
    before = [told(birthmark, *words) for words in nouns]
    for left in database.parent.glob("birthmark.db*"):
        left.unlink()
    (tmp_path / "copy").chmod(0o600)
    (tmp_path / "copy").rename(database)
    assert [told(birthmark, *words) for words in nouns] == before


def test_who_it_was_before_names_were_kept_is_unknown() -> None:
    closed = BatchView.model_validate(Batch("W13", "EDGE-7", 5, 0, "alice", AT, AT, closed_at=AT))
    assert "unknown, 2026" in layout([closed], BATCH_COLUMNS, width=None)[1].plain
