"""What each kind of error ends the command with, as docs/operations.md says."""

import re
import socket
import sqlite3
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DatabaseError

from birthmark_server.broker.errors import BrokerNotTold
from birthmark_server.ca import errors as ca
from birthmark_server.cli import run
from birthmark_server.cli.exits import Exit, exit_for
from birthmark_server.cli.operator_proof import NotAnOperator
from birthmark_server.errors import AddressTaken, BirthmarkError, Busy, Malformed, Misconfigured, Refused
from birthmark_server.store import errors as store
from birthmark_wire.errors import DecodeError
from cli.conftest import Birthmark

DOCS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BrokerNotTold("x"), Exit.BROKER_NOT_TOLD),
        (store.UnknownDevice("x"), Exit.NO),
        (store.SameOperator("x"), Exit.NO_PERMISSION),
        (store.AlreadyExists("x"), Exit.CANT_CREATE),
        (store.ManifestConflict("x"), Exit.CANT_CREATE),
        (store.StoreFailed("x"), Exit.UNAVAILABLE),
        (store.JournalDamaged("x"), Exit.DATA),
        (store.DeviceNotActive("x"), Exit.NO),
        (store.StoreBusy("x", retry_after_s=1), Exit.TRY_AGAIN),
        (ca.UntrustedCertificate("x"), Exit.NO_PERMISSION),
        (ca.CertificateExpired("x"), Exit.NO_PERMISSION),
        (ca.RequestRefused("x"), Exit.DATA),
        (ca.CeremonyRefused("x"), Exit.CANT_CREATE),
        (ca.KeyUnusable("x"), Exit.CONFIGURATION),
        (Malformed("x"), Exit.DATA),
        (Refused("x"), Exit.NO),
        (Busy("x", retry_after_s=1), Exit.TRY_AGAIN),
        (Misconfigured("x"), Exit.CONFIGURATION),
        (AddressTaken("x"), Exit.TRY_AGAIN),
        (NotAnOperator("x"), Exit.NO_PERMISSION),
        (BirthmarkError("x"), Exit.SOFTWARE),
        (FileNotFoundError(2, "No such file", "x"), Exit.NO_INPUT),
        (PermissionError(13, "Permission denied", "x"), Exit.NO_PERMISSION),
        (OSError(28, "No space left on device", "x"), Exit.IO),
        (ZeroDivisionError("x"), Exit.SOFTWARE),
    ],
)
def test_an_error_ends_with_its_status(error: Exception, status: Exit) -> None:
    assert exit_for(error) is status


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "lot.csv"),
            66,
            "birthmark: lot.csv: No such file or directory",
        ),
        (DecodeError("want a string", field="model"), 65, "birthmark: model: want a string"),
        (KeyboardInterrupt(), 130, "birthmark: interrupted"),
        (Refused("no"), 1, "birthmark: no"),
        (SystemExit(2), 64, ""),
        (SystemExit(0), 0, ""),
        (SystemExit("odd"), 70, ""),
    ],
)
def test_a_command_that_fails_says_one_sentence(
    error: BaseException, status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    assert run(command) == status
    assert capsys.readouterr().err.strip() == sentence


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        (sqlite3.OperationalError("database or disk is full"), Exit.IO),
        (OSError(28, "No space left on device"), Exit.IO),
        (DatabaseError("SELECT", None, sqlite3.DatabaseError("file is not a database")), Exit.IO),
        (psycopg.OperationalError("connection refused"), Exit.UNAVAILABLE),
    ],
)
def test_a_file_that_fails_is_not_a_database_server_out_of_reach(cause: Exception, status: Exit) -> None:
    failed = store.StoreFailed("x")
    failed.__cause__ = cause
    assert exit_for(failed) is status


def test_a_database_that_is_none_is_one_plain_sentence(birthmark: Birthmark, installation: Path) -> None:
    database = installation / "data" / "birthmark.db"
    for left in database.parent.glob("birthmark.db-*"):
        left.unlink()
    database.write_bytes(b"no database at all" * 1000)
    done = birthmark("device", "list")
    assert done.status == 74
    assert done.err == (
        f"birthmark: cannot open the database sqlite:///{database}: file is not a database; df -h and birthmark doctor "
        "say more\n"
    )


ISSUE = ("certificate", "issue", "station", "line-2", "--folder", "{folder}")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("ca/infra*.key", ISSUE),
        ("ca.passphrase", ISSUE),
        ("ca/authority.json", ISSUE),
        ("data/birthmark.db", ("device", "list")),
        ("data/journal", ("journal", "check")),
        ("server.pem", ("serve",)),
        ("broker/broker.pem", ("broker", "config", "{folder}/mosquitto", "--gate", "{folder}/birthmark.toml")),
    ],
)
def test_a_file_that_is_missing_is_66_and_one_that_is_wrong_78(
    birthmark: Birthmark, installation: Path, missing: str, words: tuple[str, ...]
) -> None:
    said = [word.replace("{folder}", str(installation)) for word in words]
    (path,) = installation.glob(missing)
    moved = path.rename(path.with_suffix(".moved"))
    done = birthmark(*said)
    assert (done.status, path.name in done.err) == (66, True), done
    if path.name not in ("server.pem", "broker.pem", "authority.json", "journal"):  # of which others may read
        moved.rename(path).chmod(0o644)
        done = birthmark(*said)
        assert (done.status, "chmod 600" in done.err) == (78, True), done


def test_a_port_that_is_taken_is_to_be_tried_again(birthmark: Birthmark, installation: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        config = installation / "birthmark.toml"
        text = re.sub(r'^# listen = "0.*$', f'listen = "{listen}"', config.read_text(), count=1, flags=re.MULTILINE)
        config.write_text(text)
        done = birthmark("serve")
    assert (done.status, f"can't listen on {listen}: another program does" in done.err) == (75, True), done.err


def test_every_status_is_documented() -> None:
    section = DOCS.read_text("utf-8").partition("## Exit statuses")[2]
    documented = {int(number) for number in re.findall(r"\| (\d+) \|", section)}
    assert documented == {int(status) for status in Exit}
