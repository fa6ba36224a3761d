"""The operator's commands, on an installation of their own: what they print, record, and end with."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from typer.main import get_command

from birthmark_server import cli
from birthmark_server.cli.workplace import open_database
from birthmark_server.domain import CertificateRecord, Refusal
from birthmark_server.errors import Malformed
from birthmark_server.web.api.certificates import find_certificate
from cli.conftest import Birthmark
from store.values import certificate
from support.tpm_vendor import VendorCa

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

EK = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
MANIFEST = f"serial,model,ek_sha256\nSN-42,EDGE-7,{EK}\n"


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "lot.csv"
    path.write_text(MANIFEST)
    return str(path)


def test_a_manifest_is_imported_under_the_operators_name(
    birthmark: Birthmark, installation: Path, manifest: str
) -> None:
    birthmark("model", "add", "EDGE-7")
    done = birthmark("manifest", "import", manifest, "--operator", str(installation / "operators" / "alice.pem"))
    assert done.status == 0
    (entry,) = json.loads(birthmark("manifest", "list", "--json").out)
    assert (entry["serial"], entry["device_id"], entry["imported_by"]) == ("SN-42", "sn-42", "alice")


def test_without_an_operator_the_unix_user_is_recorded(birthmark: Birthmark, manifest: str) -> None:
    birthmark("model", "add", "EDGE-7")
    birthmark("manifest", "import", manifest)
    (entry,) = json.loads(birthmark("manifest", "list", "--json").out)
    assert entry["imported_by"].startswith("local:")


def test_importing_the_same_manifest_twice_changes_nothing(birthmark: Birthmark, manifest: str) -> None:
    birthmark("model", "add", "EDGE-7")
    birthmark("manifest", "import", manifest)
    again = birthmark("manifest", "import", manifest, "--json")
    assert json.loads(again.out)["new"] == 0


def test_a_broken_manifest_changes_nothing_and_ends_with_65(birthmark: Birthmark, tmp_path: Path) -> None:
    birthmark("model", "add", "EDGE-7")
    path = tmp_path / "broken.csv"
    path.write_text(MANIFEST + "SN_43,EDGE-7,zz\n")
    done = birthmark("manifest", "import", str(path))
    assert done.status == 65
    assert "line 3, column ek_sha256" in done.err or "line 3, column serial" in done.err
    assert json.loads(birthmark("manifest", "list", "--json").out) == []


def test_a_manifest_for_an_unknown_model_ends_with_1(birthmark: Birthmark, manifest: str) -> None:
    done = birthmark("manifest", "import", manifest)
    assert done.status == 1
    assert f"{manifest}, line 2, column model: no model 'EDGE-7' is on record" in done.err


def test_a_manifest_that_contradicts_the_record_says_where(birthmark: Birthmark, manifest: str, tmp_path: Path) -> None:
    birthmark("model", "add", "EDGE-7")
    birthmark("manifest", "import", manifest)
    other = tmp_path / "other.csv"
    other.write_text(f"serial,model,ek_sha256\nSN-41,EDGE-7,{EK}\nSN-40,EDGE-8,{EK[::-1]}\n")
    done = birthmark("manifest", "import", str(other))
    assert done.status in (1, 73)
    assert f"{other}, line 2, column ek_sha256: {EK} is on record for serial SN-42" in done.err
    assert f"{other}, line 3, column model: no model 'EDGE-8'" in done.err


def certificates(birthmark: Birthmark) -> list[dict[str, str]]:
    records: list[dict[str, str]] = json.loads(birthmark("certificate", "list", "--json").out)
    return records


def test_a_certificate_is_named_by_as_few_digits_as_the_list_shows(birthmark: Birthmark, installation: Path) -> None:
    for record in certificates(birthmark):
        digits = record["sha256"][:16]
        assert digits in birthmark("certificate", "list").out
        pem = birthmark("certificate", "show", digits.upper()).out.encode()
        assert x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex() == record["sha256"]
    operator = next(record for record in certificates(birthmark) if "bob" in record["subject"])
    alice = str(installation / "operators" / "alice.pem")
    words = (operator["sha256"][:8], "--reason", "superseded", "--operator", alice)
    done = birthmark("certificate", "revoke", *words)
    assert (done.status, "revoked by alice: security-officer" in done.err) == (0, True)


@pytest.mark.parametrize(("digits", "status"), [("0" * 8, 1), ("abc", 65), ("x" * 64, 65), ("0" * 65, 65)])
def test_a_certificate_that_no_digits_name_is_not_found(birthmark: Birthmark, digits: str, status: int) -> None:
    assert birthmark("certificate", "show", digits).status == status


def test_digits_that_name_several_certificates_name_them() -> None:
    with pytest.raises(Malformed, match=f"abababab is ambiguous: ab{'ab' * 31} .alice., {'ab' * 31}cd .bob.; give"):
        find_certificate(_Listing(("ab" * 32, "alice"), ("ab" * 31 + "cd", "bob")), "AB:ab:ab:ab")


class _Listing:
    """A store with these certificates."""

    def __init__(self, *certificates: tuple[str, str]) -> None:
        self._certificates = certificates

    def list_certificates(self, *, profile: str = "", after: str = "", limit: int = 100) -> list[CertificateRecord]:
        assert after < self._certificates[0][0]
        return [certificate(name, sha256=sha256, subject=name) for sha256, name in self._certificates]


def test_a_refusal_is_listed_with_its_ek_and_without_what_was_sent(birthmark: Birthmark, installation: Path) -> None:
    refusal = Refusal(AT, "r-1", "enroll", "192.0.2.7", "not-expected", "no", ek_sha256=EK, evidence=b"\xab" * 6000)
    with open_database(
        f"sqlite:///{installation}/data/birthmark.db", journal=installation / "data" / "journal"
    ) as store:
        store.record_refusal(refusal)
    assert EK in birthmark("refusal", "list").out
    (short,) = json.loads(birthmark("refusal", "list", "--json").out)
    assert (short["ek_sha256"], short["evidence_bytes"], "evidence" in short) == (EK, 6000, False)
    (whole,) = json.loads(birthmark("refusal", "list", "--json", "--evidence").out)
    assert whole["evidence"] == "ab" * 6000


def test_a_root_that_is_there_already_is_not_added_again(birthmark: Birthmark, tmp_path: Path) -> None:
    file = tmp_path / "root.der"
    file.write_bytes(VendorCa.create("Example TPMs").root.der)
    add = ("tpm-roots", "add", "example", str(file))
    first = birthmark(*add, "--name", "Example TPMs", "--manufacturer", "id:45584D50")
    assert (first.status, "systemctl restart birthmark" in first.err) == (0, True), first.err
    again = birthmark(*add)
    assert (again.status, "already" in again.err) == (0, True)
    listed = birthmark("tpm-roots", "list")
    assert "Example TPMs (example)" in listed.out
    assert "id:45584D50" in listed.out
    (entry,) = json.loads(birthmark("tpm-roots", "list", "--json").out)
    assert (entry["vendor_name"], entry["manufacturers"]) == ("Example TPMs", ["id:45584D50"])


def test_garbage_is_65_and_a_missing_file_66_by_name(birthmark: Birthmark, installation: Path, tmp_path: Path) -> None:
    root = ("--folder", f"{installation}/ca/root", "--passphrase", f"file:{installation}/ca.passphrase")
    garbage, missing = tmp_path / "garbage", tmp_path / "missing"
    garbage.touch(mode=0o600)
    garbage.write_bytes(b"\x00\xffnothing")
    commands = (
        ("tpm-roots", "add", "example", "{}"),
        ("manifest", "import", "{}"),
        ("device", "revoke", "x", "--operator", "{}"),
        ("root", "sign", "{}", "--kind", "birth", *root),
    )
    for words in commands:
        for file, status in ((garbage, 65), (missing, 66)):
            done = birthmark(*(word.replace("{}", str(file)) for word in words))
            assert (done.status, str(file) in done.err) == (status, True), (words, done)


def test_a_model_of_the_same_name_that_differs_ends_with_73(birthmark: Birthmark) -> None:
    assert birthmark("model", "add", "EDGE-7", "--ek", "p384").status == 0
    assert birthmark("model", "add", "EDGE-7", "--ek", "p384").status == 0
    differs = birthmark("model", "add", "EDGE-7", "--ek", "p256", "--quote-pcrs", "7")
    said = "birthmark: model EDGE-7 is there already, with ek template p384, not p256; quote pcrs none, not 7\n"
    assert (differs.status, differs.err) == (73, said)


@pytest.mark.parametrize("words", [("--ek", "rsa1024"), ("--quote-pcrs", "24"), ("--quote-pcrs", "a")])
def test_a_model_with_impossible_options_ends_with_64(birthmark: Birthmark, words: tuple[str, ...]) -> None:
    assert birthmark("model", "add", "EDGE-7", *words).status == 64


def test_a_batch_is_opened_listed_and_closed(birthmark: Birthmark) -> None:
    birthmark("model", "add", "EDGE-7")
    assert birthmark("batch", "open", "W14", "--model", "EDGE-7", "--quota", "5", "--for", "8h").status == 0
    (batch,) = json.loads(birthmark("batch", "list", "--json").out)
    assert (batch["name"], batch["quota"], batch["used"], batch["closed_at"]) == ("W14", 5, 0, None)
    assert "open" in birthmark("batch", "list").out
    assert birthmark("batch", "close", "W14").status == 0
    assert "closed" in birthmark("batch", "list").out


def test_a_batch_without_an_end_is_refused(birthmark: Birthmark) -> None:
    birthmark("model", "add", "EDGE-7")
    assert birthmark("batch", "open", "W14", "--model", "EDGE-7", "--quota", "5", "--for", "ever").status == 64


@pytest.mark.parametrize(
    "words",
    [
        ("device", "show", "nobody"),
        ("device", "revoke", "nobody"),
        ("device", "readmit", "nobody"),
        ("device", "deny", "nobody", "--reason", "gone"),
        ("batch", "close", "nothing"),
        ("certificate", "show", "0" * 64),
    ],
)
def test_what_is_not_on_record_ends_with_1_in_one_sentence(birthmark: Birthmark, words: tuple[str, ...]) -> None:
    done = birthmark(*words)
    assert done.status == 1
    assert done.err.startswith("birthmark: ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize("noun", ["model", "manifest", "batch", "device", "refusal"])
def test_an_empty_list_is_an_empty_array_and_a_hint_for_people(birthmark: Birthmark, noun: str) -> None:
    assert json.loads(birthmark(noun, "list", "--json").out) == []
    shown = birthmark(noun, "list")
    assert (shown.status, shown.out) == (0, "")
    assert shown.err


def test_the_installations_own_certificates_are_on_record(birthmark: Birthmark) -> None:
    records = json.loads(birthmark("certificate", "list", "--json").out)
    assert sorted(record["profile"] for record in records) == [
        "broker",
        "command",
        "control",
        "deny-list",
        "security-officer",
        "security-officer",
        "server",
    ]
    pem = birthmark("certificate", "show", records[0]["sha256"]).out
    assert pem.startswith("-----BEGIN CERTIFICATE-----")


def test_an_ek_can_be_denied_before_it_was_ever_seen(birthmark: Birthmark) -> None:
    assert birthmark("device", "deny", "--ek", EK, "--reason", "stolen").status == 0
    assert birthmark("device", "deny", "--ek", "zz", "--reason", "stolen").status == 65
    assert birthmark("device", "deny", "--reason", "stolen").status == 64


def test_the_example_settings_are_settings(birthmark: Birthmark, tmp_path: Path) -> None:
    path = tmp_path / "example.toml"
    path.write_text(birthmark("config", "example", config=None).out)
    assert birthmark("config", "check", config=path).status == 0


def test_an_unknown_setting_is_refused_with_the_name_that_was_meant(birthmark: Birthmark, installation: Path) -> None:
    config = installation / "birthmark.toml"
    config.write_text(config.read_text().replace("[broker]", '[broker]\nhosst = "x"'))
    done = birthmark("config", "check")
    assert done.status == 78
    assert "broker.hosst is not a setting; did you mean broker.host?" in done.err


def test_a_missing_settings_file_says_what_to_do(birthmark: Birthmark, tmp_path: Path) -> None:
    done = birthmark("device", "list", config=tmp_path / "nowhere.toml")
    assert done.status == 66
    assert "birthmark init" in done.err


def test_a_bug_is_one_sentence_and_70(birthmark: Birthmark, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("birthmark_server.cli.workplace.settings_file.load", broken)
    done = birthmark("device", "list")
    assert done.status == 70
    assert "a fault in Birthmark itself: ZeroDivisionError: oh" in done.err
    assert "Traceback" not in done.err


def test_the_database_and_the_journal_are_found_well(birthmark: Birthmark) -> None:
    assert birthmark("database", "upgrade").status == 0
    assert json.loads(birthmark("journal", "check", "--json").out)["lines"] == 7
    assert json.loads(birthmark("journal", "replay", "--json").out)["applied"] == 0


def test_the_version_names_the_protocol(birthmark: Birthmark) -> None:
    assert "(birthmark/1)" in birthmark("version").out
    assert birthmark("--version").out == birthmark("version").out


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if not hasattr(command, "commands"):
        yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


def test_every_command_has_help_with_an_example(birthmark: Birthmark) -> None:
    every = list(commands(get_command(cli.application())))
    assert len(every) > 30
    for words in every:
        shown = birthmark(*words, "--help")
        assert shown.status == 0
        assert "Example:" in shown.out or words == ("init",), words  # which has four, each with its introduction


def test_shell_completion_is_offered(birthmark: Birthmark) -> None:
    assert "--install-completion" in birthmark("--help").out
