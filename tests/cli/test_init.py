"""From an empty folder to an installation: in two steps with the root elsewhere, or all in one place."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from birthmark_server.ca.authority import Authority
from birthmark_server.cli.ask import ask_passphrase
from cli.conftest import Birthmark, Ran

NAMES = ("--organization", "Example Ltd", "--server-name", "enroll.example.com", "--broker-name", "mqtt.example.com")
KINDS = ("birth", "fleet", "infra")


@pytest.fixture
def passphrase(tmp_path: Path) -> str:
    """Of the root."""
    path = tmp_path / "root.passphrase"
    path.touch(mode=0o600)
    path.write_text("correct horse battery staple\n")
    return f"file:{path}"


@pytest.fixture
def root(birthmark: Birthmark, tmp_path: Path, passphrase: str) -> Path:
    """A root, made on "a machine of its own"."""
    folder = tmp_path / "vault"
    done = birthmark(
        "root", "init", "--folder", str(folder), "--passphrase", passphrase, "--organization", "Example Ltd",
        "--trust-domain", "enroll.example.com", "--dns-domain", "enroll.example.com", "--dns-domain",
        "mqtt.example.com", config=None,
    )  # fmt: skip
    assert done.status == 0, done.err
    return folder


def begin(birthmark: Birthmark, folder: Path) -> Ran:
    return birthmark("init", str(folder), *NAMES, "--data", str(folder / "data"), config=None)


def sign(birthmark: Birthmark, root: Path, passphrase: str, folder: Path) -> None:
    for kind in KINDS:
        (request,) = (folder / "ca").glob(f"{kind}-*.csr")
        out = root / f"{kind}.pem"
        words = ("--kind", kind, "--folder", str(root), "--out", str(out), "--passphrase", passphrase)
        assert birthmark("root", "sign", str(request), *words, config=None).status == 0


def test_two_machines_make_one_installation(birthmark: Birthmark, root: Path, passphrase: str, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    assert begin(birthmark, folder).status == 0
    assert not (folder / "birthmark.toml").exists()
    sign(birthmark, root, passphrase, folder)
    done = birthmark(
        "init", str(folder), *NAMES, "--operator", "alice", "--data", str(folder / "data"), "--signed", str(root),
        config=None,
    )  # fmt: skip
    assert done.status == 0, done.err
    listed = birthmark("certificate", "list", "--json", config=folder / "birthmark.toml")
    profiles = sorted(record["profile"] for record in json.loads(listed.out))
    assert profiles == ["broker", "command", "control", "deny-list", "security-officer", "server"]
    assert not (folder / "ca" / "root").exists()


def test_a_request_says_what_it_is_for(birthmark: Birthmark, root: Path, passphrase: str, tmp_path: Path) -> None:
    begin(birthmark, tmp_path / "server")
    (request,) = (tmp_path / "server" / "ca").glob("birth-*.csr")
    words = ("--kind", "fleet", "--folder", str(root), "--passphrase", passphrase)
    assert birthmark("root", "sign", str(request), *words, config=None).status == 65


def test_a_root_is_never_made_twice(birthmark: Birthmark, root: Path, passphrase: str) -> None:
    words = ("--folder", str(root), "--passphrase", passphrase, "--organization", "Example Ltd")
    again = birthmark("root", "init", *words, "--trust-domain", "enroll.example.com", config=None)
    assert again.status == 73


def test_without_a_server_name_it_says_which_option_is_missing(birthmark: Birthmark, tmp_path: Path) -> None:
    done = birthmark("init", str(tmp_path / "server"), "--organization", "Example Ltd", config=None)
    assert done.status == 64
    assert "--server-name" in done.err


def test_what_was_assumed_is_said_before_anything_is_made(birthmark: Birthmark, tmp_path: Path) -> None:
    done = begin(birthmark, tmp_path / "server")
    assert "every device's URI will be spiffe://enroll.example.com/" in done.err
    assert "server and broker may be called enroll.example.com, mqtt.example.com" in done.err


def test_a_host_outside_the_constraints_is_refused_before_the_root_is_asked(
    birthmark: Birthmark, tmp_path: Path
) -> None:
    folder = tmp_path / "server"
    done = birthmark("init", str(folder), *NAMES, "--dns-domain", "enroll.example.com", config=None)
    assert (done.status, "mqtt.example.com" in done.err, folder.exists()) == (64, True, False)
    covered = birthmark("init", str(folder), *NAMES, "--dns-domain", "example.com", config=None)
    assert covered.status == 0, covered.err


def test_a_host_outside_the_constraints_is_refused_when_the_roots_answer_is_there(
    birthmark: Birthmark, root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "server"
    begin(birthmark, folder)
    words = ("--server-name", "elsewhere.example", "--signed", str(root))
    done = birthmark("init", str(folder), *words, config=None)
    assert (done.status, "elsewhere.example" in done.err) == (64, True)


def test_another_name_on_the_second_try_is_named(birthmark: Birthmark, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    begin(birthmark, folder)
    done = birthmark("init", str(folder), *NAMES, "--trust-domain", "fleet.example.com", config=None)
    assert done.status == 73
    assert "was begun with trust domain 'enroll.example.com', now 'fleet.example.com'" in done.err


@pytest.mark.parametrize(("text", "told"), [("short", "at least 16"), ("", "--passphrase")])
def test_a_passphrase_that_does_not_do_is_refused_before_anything_is_written(
    birthmark: Birthmark, tmp_path: Path, text: str, told: str
) -> None:
    folder = tmp_path / "vault"
    source = ("--passphrase", f"command:echo {text}") if text else ()
    names = ("--organization", "Example Ltd", "--trust-domain", "example.com")
    done = birthmark("root", "init", "--folder", str(folder), *names, *source, config=None)
    assert done.status in (64, 78)
    assert (told in done.err, folder.exists()) == (True, False)


def test_the_rule_for_a_passphrase_is_said_before_it_is_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prompt(title: str, **_: object) -> str:
        assert "at least 16" in capsys.readouterr().err
        return "correct horse battery"

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.prompt", prompt)
    assert ask_passphrase("Passphrase", instead="it", new=True) == b"correct horse battery"


def test_private_files_are_private(installation: Path) -> None:
    private = [*installation.rglob("*.key"), *installation.rglob("*.p12"), *installation.glob("operators/*.pem")]
    private += [
        installation / "ca.passphrase",
        installation / "data" / "journal",
        installation / "data" / "birthmark.db",
    ]
    assert len(private) > 10
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_demonstration_says_so(birthmark: Birthmark, installation: Path) -> None:
    assert "demonstration" in (installation / "ca" / "DEMONSTRATION.txt").read_text()
    findings = json.loads(birthmark("doctor", "--json").out)
    assert any("a demonstration" in finding["seen"] for finding in findings)


def test_running_it_again_changes_nothing(birthmark: Birthmark, installation: Path) -> None:
    before = {path: path.read_bytes() for path in installation.rglob("*.pem")}
    assert birthmark("init", str(installation), "--demo", config=None).status == 0
    assert {path: path.read_bytes() for path in installation.rglob("*.pem")} == before


def test_an_interrupted_run_is_finished(birthmark: Birthmark, installation: Path) -> None:
    (installation / "birthmark.toml").unlink()
    for name in ("broker.pem", "broker.key"):
        (installation / "broker" / name).unlink()
    assert birthmark("init", str(installation), "--demo", config=None).status == 0
    assert (installation / "broker" / "broker.pem").exists()
    assert birthmark("config", "check").status == 0


def test_one_more_birth_ca_is_added_to_an_installation_in_use(
    birthmark: Birthmark, installation: Path, tmp_path: Path
) -> None:
    root = installation / "ca" / "root"
    demo_passphrase = f"file:{installation / 'ca.passphrase'}"
    add = ("init", str(installation), "--add", "birth")
    asked = birthmark(*add, "--label", "lot-2", config=None)
    assert (asked.status, "birthmark root sign birth-lot-2.csr --kind birth" in asked.err) == (0, True), asked.err
    assert birthmark("certificate", "list").status == 0
    request, out = installation / "ca" / "birth-lot-2.csr", root / "birth-lot-2.pem"
    words = ("--kind", "birth", "--folder", str(root), "--out", str(out), "--passphrase", demo_passphrase)
    assert birthmark("root", "sign", str(request), *words, config=None).status == 0
    stick = tmp_path / "stick"
    stick.mkdir()
    for name in ("root.pem", "root.crl", "birth-lot-2.pem"):
        (stick / name).write_bytes((root / name).read_bytes())
    done = birthmark(*add, "--signed", str(stick), config=None)
    assert (done.status, "restart birthmark" in done.err) == (0, True), done.err
    assert birthmark(*add, "--label", "lot-2", config=None).status == 73
    assert Authority.load(installation / "ca", passphrase=None, now=datetime.now(UTC)).birth.name == "birth-lot-2"
    revoke(birthmark, installation, "birth")
    (found,) = [finding for finding in json.loads(birthmark("doctor", "--json").out) if finding["what"] == "CAs"]
    assert "revoked by the root" in found["seen"]


def test_a_ca_that_is_added_gets_the_passphrase_that_the_settings_name(
    birthmark: Birthmark, installation: Path, tmp_path: Path
) -> None:
    """Sealed or moved, as docs/operations.md wants it: the server must open the new key as it does the others."""
    (installation / "ca.passphrase").rename(tmp_path / "sealed")
    config = installation / "birthmark.toml"
    config.write_text(config.read_text().replace(f"file:{installation}/ca.passphrase", f"file:{tmp_path}/sealed"))
    done = birthmark("init", str(installation), "--add", "fleet", "--label", "lot-2", config=None)
    assert done.status == 0, done.err
    key = (installation / "ca" / "fleet-lot-2.key").read_bytes()
    assert load_pem_private_key(key, password=(tmp_path / "sealed").read_bytes().strip())


def revoke(birthmark: Birthmark, installation: Path, kind: str) -> None:
    """Have the root revoke the first CA of that kind, and put its CRL into the CA folder."""
    ca = installation / "ca"
    certificate = min(ca.glob(f"{kind}-2*.pem"))
    words = ("--folder", str(ca / "root"), "--passphrase", f"file:{installation / 'ca.passphrase'}")
    assert birthmark("root", "revoke", str(certificate), "--reason", "keyCompromise", *words, config=None).status == 0
    (ca / "root.crl").write_bytes((ca / "root" / "root.crl").read_bytes())


def test_nothing_is_issued_below_a_ca_that_the_root_revoked(birthmark: Birthmark, installation: Path) -> None:
    revoke(birthmark, installation, "infra")
    done = birthmark("certificate", "issue", "station", "line-9", "--folder", str(installation))
    assert (done.status, "no infra CA" in done.err) == (78, True), done.err
