"""What `birthmark doctor` finds, one fault at a time, and what it says to do."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from birthmark_server.ca.authority import Authority
from birthmark_server.cli import checks
from birthmark_server.cli.workplace import open_database
from birthmark_server.settings import load
from cli.conftest import Birthmark
from support.ports import free_port
from support.tpm_vendor import VendorCa


def findings(birthmark: Birthmark, what: str) -> list[dict[str, Any]]:
    return [finding for finding in json.loads(birthmark("doctor", "--json").out) if finding["what"] == what]


def test_it_ends_with_1_and_says_what_to_do_when_something_is_wrong(birthmark: Birthmark) -> None:
    done = birthmark("doctor")
    assert done.status == 1
    assert "no TPM can prove itself" in done.out
    assert "tpm-roots add" in done.out


def test_everything_that_init_made_is_well(birthmark: Birthmark) -> None:
    for what in ("settings", "file modes", "database", "operators", "journal", "clock", "server certificate"):
        assert [finding["state"] for finding in findings(birthmark, what)] == ["well"], what


def test_an_installation_that_lacks_the_operators_it_needs(birthmark: Birthmark, tmp_path: Path) -> None:
    birthmark("operator", "revoke", "alice", "--reason", "superseded")
    (finding,) = findings(birthmark, "operators")
    assert (finding["state"], "a board swap needs two" in finding["seen"]) == ("soon", True)
    birthmark("operator", "add", "carol", "--role", "operator", "--folder", str(tmp_path))
    assert findings(birthmark, "operators")[0]["state"] == "well"
    birthmark("operator", "revoke", "bob", "--reason", "superseded")
    (finding,) = findings(birthmark, "operators")
    assert (finding["state"], "none of them a security officer" in finding["seen"]) == ("soon", True)


def test_a_key_that_others_may_read(birthmark: Birthmark, installation: Path) -> None:
    (installation / "server.key").chmod(0o640)
    (finding,) = findings(birthmark, "file modes")
    assert (finding["state"], finding["advice"]) == ("wrong", f"chmod 600 {installation / 'server.key'}")


def test_a_ca_folder_that_others_may_change(birthmark: Birthmark, installation: Path) -> None:
    (installation / "ca").chmod(0o777)
    assert any("may be changed by others" in finding["seen"] for finding in findings(birthmark, "file modes"))


def test_a_database_that_is_not_there(birthmark: Birthmark, installation: Path) -> None:
    (installation / "data" / "birthmark.db").unlink()
    (finding,) = findings(birthmark, "database")
    assert finding["state"] == "wrong"


def test_a_lost_passphrase(birthmark: Birthmark, installation: Path) -> None:
    (installation / "ca.passphrase").unlink()
    (finding,) = findings(birthmark, "authorities")
    assert finding["state"] == "wrong"
    assert "ca.passphrase" in finding["seen"]


def test_a_journal_from_the_future_means_a_wrong_clock(birthmark: Birthmark, installation: Path) -> None:
    settings = load(installation / "birthmark.toml")
    past = datetime.now(UTC) - timedelta(days=365)
    found = {one.what: one for one in checks._journal(settings, past)}
    assert found["clock"].state is checks.State.WRONG
    assert "timedatectl" in found["clock"].advice


@pytest.mark.parametrize(("days", "state"), [(400, "wrong"), (350, "soon"), (0, "well")])
def test_a_certificate_that_ends(birthmark: Birthmark, installation: Path, days: int, state: str) -> None:
    settings = load(installation / "birthmark.toml")
    (finding,) = checks._server_certificate(settings, datetime.now(UTC) + timedelta(days=days))
    assert finding.state.value == state


def test_a_server_name_that_its_certificate_does_not_bear(birthmark: Birthmark, installation: Path) -> None:
    config = installation / "birthmark.toml"
    config.write_text(config.read_text().replace('names = ["localhost"]', 'names = ["localhost", "enroll.example"]'))
    assert any("does not name enroll.example" in one["seen"] for one in findings(birthmark, "server certificate"))


def test_a_broker_that_is_not_running(birthmark: Birthmark, installation: Path) -> None:
    config = installation / "birthmark.toml"
    config.write_text(config.read_text().replace("# port = 8883", f"port = {free_port()}"))
    (finding,) = findings(birthmark, "broker")
    assert finding["state"] == "wrong"
    assert "is Mosquitto running?" in finding["advice"]


def test_a_broker_whose_name_has_no_address(birthmark: Birthmark, installation: Path) -> None:
    config = installation / "birthmark.toml"
    text = config.read_text()
    assert "[broker]" in text
    config.write_text(text.replace("[broker]", '[broker]\ncontrol_host = "mqtt.invalid"'))
    (finding,) = findings(birthmark, "broker")
    assert finding["advice"].startswith("mqtt.invalid has no address here")


def test_a_server_that_is_not_running_is_no_fault_of_the_installation(birthmark: Birthmark, installation: Path) -> None:
    config = installation / "birthmark.toml"
    config.write_text(config.read_text().replace('# listen = "0.0.0.0:8443"', f'listen = "127.0.0.1:{free_port()}"'))
    (finding,) = findings(birthmark, "server")
    assert finding["state"] == "soon"


def test_a_tpm_vendors_root_is_added_and_seen(birthmark: Birthmark, tmp_path: Path) -> None:
    root = tmp_path / "vendor.pem"
    root.write_bytes(_vendor_root().public_bytes(Encoding.PEM))
    words = ("tpm-roots", "add", "acme", str(root), "--name", "Acme", "--manufacturer", "id:41434D45")
    assert birthmark(*words).status == 0
    (entry,) = json.loads(birthmark("tpm-roots", "list", "--json").out)
    assert (entry["vendor"], entry["kind"]) == ("acme", "root")
    (finding,) = findings(birthmark, "TPM roots")
    assert finding["state"] == "well"


@pytest.mark.parametrize(
    ("option", "kind"), [((), "intermediate"), (("--trust",), "root"), (("--intermediate",), "intermediate")]
)
def test_a_ca_below_another_is_a_root_only_where_that_is_asked_for(
    birthmark: Birthmark, tmp_path: Path, option: tuple[str, ...], kind: str
) -> None:
    below = tmp_path / "below.der"
    below.write_bytes(VendorCa.create().intermediate.der)
    words = ("tpm-roots", "add", "acme", str(below), "--name", "Acme", "--manufacturer", "id:41434D45")
    assert birthmark(*words, *option).status == 0
    (entry,) = json.loads(birthmark("tpm-roots", "list", "--json").out)
    assert entry["kind"] == kind


def test_a_tpm_vendor_must_say_which_tpms_are_its_own(birthmark: Birthmark, tmp_path: Path) -> None:
    root = tmp_path / "vendor.pem"
    root.write_bytes(_vendor_root().public_bytes(Encoding.PEM))
    assert birthmark("tpm-roots", "add", "acme", str(root), "--name", "Acme").status == 64
    assert birthmark("tpm-roots", "add", "acme", str(root), "--manufacturer", "ACME").status == 78
    assert birthmark("tpm-roots", "add", "acme", str(tmp_path / "nowhere.pem")).status == 66


def _vendor_root() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Acme TPM Root")])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=9999))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def test_keys_whose_passphrase_only_the_service_gets_are_not_opened(
    birthmark: Birthmark, installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    config = installation / "birthmark.toml"
    config.write_text(config.read_text().replace(f"file:{installation}/ca.passphrase", "credential:birthmark-ca"))
    (finding,) = findings(birthmark, "CA keys")
    assert (finding["state"], "keys were not" in finding["seen"]) == ("well", True)
    assert findings(birthmark, "root CRL")


def test_a_sealed_passphrase_that_was_left_lying_about(birthmark: Birthmark, installation: Path) -> None:
    config = installation / "birthmark.toml"
    config.write_text(config.read_text().replace(f"file:{installation}/ca.passphrase", "credential:birthmark-ca"))
    (finding,) = findings(birthmark, "CA passphrase")
    assert (finding["state"], finding["advice"].startswith("shred -u")) == ("soon", True)
    (installation / "ca.passphrase").unlink()
    assert findings(birthmark, "CA passphrase") == []


def test_a_crl_that_grows_stale(birthmark: Birthmark, installation: Path) -> None:
    settings = load(installation / "birthmark.toml")
    authority = Authority.load(Path(settings.ca.folder), passphrase=None, now=datetime.now(UTC))
    name = authority.fleet.name
    (finding,) = findings(birthmark, f"CRL of {name}")
    assert (finding["state"], finding["seen"]) == ("soon", "none was made yet")
    with open_database(settings.database.url, journal=Path(settings.database.journal)) as store:
        store.next_crl(authority.fleet.sha256, at=datetime.now(UTC) - timedelta(days=3))
        (finding,) = findings(birthmark, f"CRL of {name}")
        assert finding["state"] == "well"
        store.next_crl(authority.fleet.sha256, at=datetime.now(UTC) - timedelta(days=4))
    (finding,) = findings(birthmark, f"CRL of {name}")
    assert finding["state"] == "wrong"
    assert "grows stale" in finding["seen"]
