"""Who acts is proven by a certificate and its key; a board swap takes two of them."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from birthmark_server.ca.authority import Authority
from birthmark_server.ca.passphrase import read
from birthmark_server.cli.infrastructure import issue_infrastructure, write_person
from birthmark_server.domain import CertificateProfile
from birthmark_server.rollover.record import first_record
from cli.conftest import Birthmark
from cli.on_record import open_database

NEW_EK = "ab" * 32


def operator(installation: Path, name: str) -> str:
    return str(installation / "operators" / f"{name}.pem")


def test_a_swap_is_asked_for_by_one_and_approved_by_another(
    birthmark: Birthmark, installation: Path, device: str
) -> None:
    asked = birthmark("device", "swap", device, "--new-ek", NEW_EK, "--operator", operator(installation, "alice"))
    assert (asked.status, "alice asks" in asked.err) == (0, True)
    approved = birthmark("device", "swap", device, "--approve", "--operator", operator(installation, "bob"))
    assert approved.status == 0
    assert "alice asked, bob approved" in approved.err


def test_who_asked_may_not_approve_not_even_with_another_certificate(
    birthmark: Birthmark, installation: Path, device: str, tmp_path: Path
) -> None:
    birthmark("device", "swap", device, "--new-ek", NEW_EK, "--operator", operator(installation, "alice"))
    words = ("operator", "add", "alice", "--role", "operator", "--folder", str(tmp_path / "renewed"))
    assert birthmark(*words).status == 0
    renewed = str(tmp_path / "renewed" / "alice.pem")
    done = birthmark("device", "swap", device, "--approve", "--operator", renewed)
    assert done.status == 77


def test_approving_what_nobody_asked_for_ends_with_1(birthmark: Birthmark, installation: Path, device: str) -> None:
    assert birthmark("device", "swap", device, "--approve", "--operator", operator(installation, "bob")).status == 1


def test_a_swap_wants_a_new_ek_or_an_approval(birthmark: Birthmark, installation: Path, device: str) -> None:
    assert birthmark("device", "swap", device, "--operator", operator(installation, "bob")).status == 64


def test_an_approval_may_name_the_ek_and_then_holds_for_no_other(
    birthmark: Birthmark, installation: Path, device: str
) -> None:
    birthmark("device", "swap", device, "--new-ek", NEW_EK, "--operator", operator(installation, "alice"))
    approve = ("device", "swap", device, "--approve", "--operator", operator(installation, "bob"))
    done = birthmark(*approve, "--new-ek", "cd" * 32)
    assert (done.status, f"alice asked for EK {NEW_EK}" in done.err) == (1, True)
    assert birthmark(*approve, "--new-ek", NEW_EK).status == 0


def test_a_swap_that_waits_is_shown_with_who_asked_and_for_which_ek(
    birthmark: Birthmark, installation: Path, device: str
) -> None:
    assert json.loads(birthmark("device", "show", device, "--json").out)["swap"] is None
    birthmark("device", "swap", device, "--new-ek", NEW_EK, "--operator", operator(installation, "alice"))
    shown = birthmark("device", "show", device).out
    assert NEW_EK in shown
    assert "alice, 2" in shown
    assert "nobody yet" in shown
    birthmark("device", "swap", device, "--approve", "--operator", operator(installation, "bob"))
    swap = json.loads(birthmark("device", "show", device, "--json").out)["swap"]
    assert (swap["requested_by"], swap["approved_by"], swap["new_ek_sha256"]) == ("alice", "bob", NEW_EK)
    assert "bob, 2" in birthmark("device", "show", device).out


def test_a_control_certificate_is_no_operator(
    birthmark: Birthmark, installation: Path, device: str, tmp_path: Path
) -> None:
    control = tmp_path / "control.pem"
    control.touch(mode=0o600)
    control.write_bytes((installation / "control.pem").read_bytes() + (installation / "control.key").read_bytes())
    done = birthmark("device", "revoke", device, "--operator", str(control))
    assert done.status == 77
    assert "want an operator's certificate, got that of a control named srv-control" in done.err


def test_another_operators_certificate_with_ones_own_key_is_refused(
    birthmark: Birthmark, installation: Path, device: str, tmp_path: Path
) -> None:
    alice, bob = (Path(operator(installation, name)).read_text() for name in ("alice", "bob"))
    forged = tmp_path / "forged.pem"
    forged.touch(mode=0o600)
    forged.write_text(alice[: alice.index("-----BEGIN PRIVATE")] + bob[bob.index("-----BEGIN PRIVATE") :])
    done = birthmark("device", "revoke", device, "--operator", str(forged))
    assert done.status == 77
    assert "the private key is not the certificate's" in done.err


def test_a_revoked_operator_is_refused(birthmark: Birthmark, installation: Path, device: str) -> None:
    records = json.loads(birthmark("certificate", "list", "--profile", "security-officer", "--json").out)
    alice = next(record for record in records if "CN=alice" in record["subject"])
    assert birthmark("certificate", "revoke", alice["sha256"], "--reason", "privilegeWithdrawn").status == 0
    done = birthmark("device", "revoke", device, "--operator", operator(installation, "alice"))
    assert done.status == 77
    assert "was revoked" in done.err


def test_an_operator_of_another_installation_is_refused(birthmark: Birthmark, device: str, tmp_path: Path) -> None:
    assert birthmark("init", str(tmp_path / "other"), "--demo", config=None).status == 0
    done = birthmark("device", "revoke", device, "--operator", str(tmp_path / "other" / "operators" / "alice.pem"))
    assert done.status == 77


def test_an_operator_nobody_recorded_is_refused(
    birthmark: Birthmark, installation: Path, device: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    secret = read(f"file:{installation / 'ca.passphrase'}")
    authority = Authority.load(installation / "ca", passphrase=secret, now=now)
    birthmark("init", str(tmp_path / "elsewhere"), "--demo", config=None)
    store = open_database(tmp_path / "elsewhere")
    issued = issue_infrastructure(
        authority, store, profile=CertificateProfile.OPERATOR, name="mallory", by="mallory", now=now
    )
    store.close()
    write_person(issued, tmp_path / "stolen", "mallory")
    done = birthmark("device", "revoke", device, "--operator", str(tmp_path / "stolen" / "mallory.pem"))
    assert done.status == 77
    assert "is not on record here" in done.err


def test_an_operator_below_a_ca_that_is_not_believed_is_refused(
    birthmark: Birthmark, installation: Path, device: str, tmp_path: Path
) -> None:
    now, folder = datetime.now(UTC), installation / "ca"
    given = f"file:{installation / 'ca.passphrase'}"
    store = open_database(installation)
    known = first_record(Authority.load(folder, passphrase=None, now=now), now=now)
    assert store.authorities.found(known, at=now, by="service:server")
    add, signed = ("init", str(installation), "--add", "infra"), tmp_path / "signed"
    assert birthmark(*add, "--label", "2031", config=None).status == 0
    signed.mkdir()
    words = ("--kind", "infra", "--folder", str(folder / "root"), "--out", str(signed / "infra-2031.pem"))
    done = birthmark("root", "sign", str(folder / "infra-2031.csr"), *words, "--passphrase", given, config=None)
    assert done.status == 0, done.err
    for file in ("root.pem", "root.crl"):
        shutil.copy(folder / file, signed)
    assert birthmark(*add, "--signed", str(signed), config=None).status == 0
    authority = Authority.load(folder, passphrase=read(given), now=now)
    assert authority.infra.name == "infra-2031"  # by the folder alone
    issued = issue_infrastructure(
        authority, store, profile=CertificateProfile.SECURITY_OFFICER, name="mallory", by="mallory", now=now
    )
    store.close()
    write_person(issued, tmp_path / "mallory", "mallory")
    act = ("device", "quarantine", device, "--note", "x", "--operator", str(tmp_path / "mallory" / "mallory.pem"))
    done = birthmark(*act)
    assert (done.status, "issued by none of our authorities" in done.err) == (77, True), done.err
    assert birthmark("ca", "stage", "infra-2031").status == 0
    assert "says mallory" in birthmark(*act).err


def test_a_key_that_others_may_read_is_refused(birthmark: Birthmark, installation: Path, device: str) -> None:
    Path(operator(installation, "alice")).chmod(0o644)
    done = birthmark("device", "revoke", device, "--operator", operator(installation, "alice"))
    assert done.status == 78
    assert "chmod 600" in done.err


def test_an_operator_may_act_by_pkcs_12_with_its_passphrase(
    birthmark: Birthmark, installation: Path, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = birthmark("operator", "add", "carol", "--role", "operator", "--folder", str(tmp_path))
    monkeypatch.setenv("BIRTHMARK_OPERATOR_PASSPHRASE", issued.err.split()[-1])
    assert birthmark("device", "revoke", device, "--operator", str(tmp_path / "carol.p12")).status == 0
    monkeypatch.setenv("BIRTHMARK_OPERATOR_PASSPHRASE", "wrong")
    assert birthmark("device", "readmit", device, "--operator", str(tmp_path / "carol.p12")).status == 65


def test_a_pair_is_never_written_over_another(birthmark: Birthmark, installation: Path, tmp_path: Path) -> None:
    words = ("certificate", "issue", "station", "line-2", "--folder", str(tmp_path))
    assert birthmark(*words).status == 0
    assert birthmark(*words).status == 73


def test_a_host_outside_the_installations_domains_is_refused(birthmark: Birthmark, tmp_path: Path) -> None:
    words = ("certificate", "issue", "server", "replica", "--folder", str(tmp_path))
    assert birthmark(*words, "--host", "enroll.elsewhere.example").status == 1
    assert birthmark(*words, "--host", "localhost").status == 0


def test_an_operator_acts_within_their_role_here_too(
    birthmark: Birthmark, installation: Path, device: str, tmp_path: Path
) -> None:
    for role in ("viewer", "factory", "operator"):
        added = birthmark("operator", "add", f"the-{role}", "--role", role, "--folder", str(tmp_path))
        assert added.status == 0, added.err
    viewer, factory, steering = (str(tmp_path / f"the-{role}.pem") for role in ("viewer", "factory", "operator"))
    assert birthmark("model", "add", "EDGE-7", "--operator", steering).status == 0
    opening = ("--model", "EDGE-7", "--quota", "1", "--for", "1h", "--operator")
    assert birthmark("batch", "open", "W1", *opening, factory).status == 0
    for words in (
        ("device", "revoke", device, "--operator", viewer),
        ("device", "tag", device, "x", "--operator", factory),
        ("batch", "open", "W2", *opening, viewer),
        ("device", "swap", device, "--new-ek", NEW_EK, "--operator", viewer),
        ("campaign", "start", "winter", "--operator", factory),
        *(
            ("campaign", verb, "winter", "--operator", viewer)
            for verb in ("pause", "resume", "approve", "retry", "abort")
        ),
        ("operator", "add", "dave", "--role", "viewer", "--folder", str(tmp_path), "--operator", steering),
        ("operator", "revoke", "alice", "--reason", "superseded", "--operator", steering),
        ("certificate", "issue", "station", "s", "--folder", str(tmp_path), "--operator", steering),
    ):
        done = birthmark(*words)
        assert (done.status, "the certificate's is" in done.err) == (77, True), (words, done)
    assert not (tmp_path / "dave.pem").exists()


def test_operators_are_listed_and_revoked_by_name(birthmark: Birthmark, installation: Path, tmp_path: Path) -> None:
    assert birthmark("operator", "add", "carol", "--role", "factory", "--folder", str(tmp_path)).status == 0
    listed = json.loads(birthmark("operator", "list", "--json").out)
    assert [(one["name"], one["role"]) for one in listed] == [
        ("alice", "security-officer"),
        ("bob", "security-officer"),
        ("carol", "factory"),
    ]
    revoke = ("operator", "revoke", "carol", "--reason", "affiliationChanged")
    done = birthmark(*revoke, "--operator", operator(installation, "bob"))
    assert (done.status, "carol is revoked by bob, with 1" in done.err) == (0, True)
    assert birthmark(*revoke).status == 1
    assert "revoked" in birthmark("operator", "list").out


def test_no_operators_file_is_written_over(birthmark: Birthmark, tmp_path: Path) -> None:
    words = ("operator", "add", "carol", "--role", "viewer", "--folder", str(tmp_path))
    assert birthmark(*words).status == 0
    before = (tmp_path / "carol.pem").read_bytes()
    assert birthmark(*words).status == 73
    assert (tmp_path / "carol.pem").read_bytes() == before
    assert len([one for one in json.loads(birthmark("operator", "list", "--json").out) if one["name"] == "carol"]) == 1
