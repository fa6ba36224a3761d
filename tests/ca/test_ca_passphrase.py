"""Where a passphrase comes from, and that a machine restarts with nobody there."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from birthmark_server.ca import passphrase
from birthmark_server.ca.errors import KeyUnusable, PassphraseUnavailable
from birthmark_server.ca.files import read_private
from support.pki import PASSPHRASE, make_pki


def test_a_systemd_credential_is_read_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "ca").write_bytes(b"from systemd\n")
    assert passphrase.read("credential:ca") == b"from systemd"


@pytest.mark.parametrize("name", ["", "absent", "../ca", "/etc/passwd", "."])
def test_a_credential_that_systemd_did_not_give_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "ca").write_bytes(b"outside")
    (tmp_path / "given").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "given"))
    with pytest.raises(PassphraseUnavailable):
        passphrase.read(f"credential:{name}")


def test_a_credential_outside_a_service_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(PassphraseUnavailable, match="LoadCredential"):
        passphrase.read("credential:ca")


def test_a_file_is_read_if_only_its_owner_may(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(b"secret\r\n")
    path.chmod(0o600)
    assert passphrase.read(f"file:{path}") == b"secret"
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        with pytest.raises(PassphraseUnavailable, match="chmod 600"):
            passphrase.read(f"file:{path}")


@pytest.mark.parametrize("data", [b"", b"\n", b"x" * 1025])
def test_an_empty_or_endless_passphrase_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(PassphraseUnavailable, match="want 1 to 1024 bytes"):
        passphrase.read(f"file:{path}")


def test_a_command_is_run_without_a_shell(tmp_path: Path) -> None:
    assert passphrase.read("command:printf '%s\\n' '$HOME; a b'") == b"$HOME; a b"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "want a command line"),
        ("'", "quotation"),
        ("false", "status 1"),
        ("no-such-program", "no-such-program"),
        ("sh -c 'echo sealed to other PCRs >&2; exit 3'", "sealed to other PCRs"),
    ],
)
def test_a_command_that_fails_says_why(command: str, why: str) -> None:
    with pytest.raises(PassphraseUnavailable, match=why):
        passphrase.read(f"command:{command}")


@pytest.mark.parametrize("source", ["", "secret", "env:CA", "https://example.org"])
def test_other_sources_are_refused(source: str) -> None:
    with pytest.raises(PassphraseUnavailable, match="want credential:NAME"):
        passphrase.read(source)


def test_a_private_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(0o600)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:  # root may own it: whoever is root needs no such trick
        assert read_private(path) == b"secret"
    else:
        with pytest.raises(KeyUnusable, match="belongs to user"):
            read_private(path)


RESTART = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from birthmark_server.ca import passphrase
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.requests import LDevIdRequest
now = datetime.now(UTC)
authority = Authority.load(Path(sys.argv[1]), passphrase=passphrase.read("credential:birthmark-ca"), now=now)
key = authority.root.certificate.public_key()
certificate = authority.fleet.issue(authority.fleet.prepare(LDevIdRequest(key, "device-1", True), now=now))
print(certificate.subject.rfc4514_string())
"""


def test_a_service_restarts_unattended_with_nothing_but_its_credential(tmp_path: Path) -> None:
    make_pki(tmp_path / "ca", now=datetime.now(UTC))
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "birthmark-ca").write_bytes(PASSPHRASE)
    (credentials / "birthmark-ca").chmod(0o400)
    done = subprocess.run(
        [sys.executable, "-c", RESTART, str(tmp_path / "ca")],
        env={"CREDENTIALS_DIRECTORY": str(credentials)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "CN=device-1,O=Example Devices", "")
