"""A root's successor by the command line alone: made, linked both ways, taken in, and CAs below it."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca.authority import Authority
from birthmark_server.cli.broker_files import lacking
from birthmark_server.rollover.record import first_record
from cli.conftest import Birthmark
from cli.on_record import open_database
from support.two_roots import NEW, make_two_roots


@pytest.fixture
def secret(installation: Path) -> tuple[str, str]:
    return "--passphrase", f"file:{installation / 'ca.passphrase'}"


@pytest.fixture
def stick(birthmark: Birthmark, installation: Path, secret: tuple[str, str], tmp_path: Path) -> Path:
    """What is carried from both roots' machines to the server."""
    old, new, stick = installation / "ca" / "root", tmp_path / "vault-2", tmp_path / "stick"
    names = Authority.load(installation / "ca", passphrase=None, now=datetime.now(UTC)).namespace
    domains = [word for domain in names.dns_domains for word in ("--dns-domain", domain)]
    made = birthmark(
        "root", "init", "--folder", str(new), "--label", "2030", "--organization", names.organization,
        "--trust-domain", names.trust_domain, *domains, *secret, config=None,
    )  # fmt: skip
    assert (made.status, "cross-sign" in made.err) == (0, True), made.err
    stick.mkdir()
    for file in (f"{NEW}.pem", f"{NEW}.crl"):
        shutil.copy(new / file, stick)
    shutil.copy(old / "root.pem", tmp_path)
    for other, folder in ((stick / f"{NEW}.pem", old), (tmp_path / "root.pem", new)):
        done = birthmark("root", "cross-sign", str(other), "--folder", str(folder), *secret, config=None)
        assert done.status == 0, done.err
    shutil.move(tmp_path / f"root.by.{NEW}.pem", stick)
    assert sorted(path.name for path in stick.iterdir()) == [
        *(f"{NEW}.by.root.pem", f"{NEW}.crl", f"{NEW}.pem", f"root.by.{NEW}.pem"),
    ]
    return stick


def opened(installation: Path) -> Authority:
    return Authority.load(installation / "ca", passphrase=None, now=datetime.now(UTC))


def take_in(birthmark: Birthmark, installation: Path, stick: Path) -> None:
    done = birthmark("init", str(installation), "--add", "root", "--signed", str(stick), config=None)
    assert (done.status, f"{NEW} is taken in" in done.err) == (0, True), done.err


def test_a_successor_is_taken_in_and_cas_below_it(
    birthmark: Birthmark, installation: Path, secret: tuple[str, str], stick: Path, tmp_path: Path
) -> None:
    before = opened(installation)
    take_in(birthmark, installation, stick)
    add = ("init", str(installation), "--add", "infra")
    assert birthmark(*add, "--label", "2030", config=None).status == 0
    new, request = tmp_path / "vault-2", installation / "ca" / "infra-2030.csr"
    words = ("--kind", "infra", "--folder", str(new), "--out", str(new / "infra-2030.pem"), *secret)
    assert birthmark("root", "sign", str(request), *words, config=None).status == 0
    done = birthmark(*add, "--signed", str(new), config=None)
    assert done.status == 0, done.err
    after = opened(installation)
    assert after.root_of(after.issuer_named("infra-2030")).name == NEW
    assert (after.root.sha256, after.infra.sha256) == (before.root.sha256, before.infra.sha256)
    assert birthmark("config", "check").status == 0
    found = {finding["what"] for finding in json.loads(birthmark("doctor", "--json").out)}
    assert {"root CRL", f"{NEW} CRL"} <= found


def test_a_root_that_was_not_linked_is_not_taken_in(birthmark: Birthmark, installation: Path, stick: Path) -> None:
    (stick / f"root.by.{NEW}.pem").unlink()
    done = birthmark("init", str(installation), "--add", "root", "--signed", str(stick), config=None)
    assert (done.status, "want links in both directions" in done.err) == (73, True), done.err
    assert len(opened(installation).roots) == 1


def test_a_root_is_not_asked_for_on_the_servers_machine(birthmark: Birthmark, installation: Path) -> None:
    done = birthmark("init", str(installation), "--add", "root", config=None)
    assert "machine of its own: birthmark root init" in done.err


@pytest.mark.parametrize("word", ["absent.pem", "birthmark.toml"])
def test_what_is_no_root_is_not_certified(
    birthmark: Birthmark, installation: Path, secret: tuple[str, str], word: str
) -> None:
    folder = str(installation / "ca" / "root")
    done = birthmark("root", "cross-sign", str(installation / word), "--folder", folder, *secret, config=None)
    assert done.status == (66 if word == "absent.pem" else 65), done.err


def test_the_broker_gets_both_roots(birthmark: Birthmark, installation: Path, stick: Path, tmp_path: Path) -> None:
    take_in(birthmark, installation, stick)
    gate = tmp_path / "birthmark_gate.so"
    gate.touch()
    words = ("--gate", str(gate), "--user", "nobody", "--no-trial", "--json")
    done = birthmark("broker", "config", str(tmp_path / "mosquitto"), *words)
    assert done.status == 0, done.err
    bundle = x509.load_pem_x509_certificates((tmp_path / "mosquitto" / "ca-bundle.pem").read_bytes())
    assert {root.certificate for root in opened(installation).roots} < set(bundle)


def test_a_brokers_certificate_without_what_belongs_behind_it_is_told(
    birthmark: Birthmark, installation: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "birthmark_gate.so"
    gate.touch()
    broker, words = installation / "broker" / "broker.pem", ("--gate", str(gate), "--user", "nobody", "--no-trial")
    whole = birthmark("broker", "config", str(tmp_path / "mosquitto"), *words)
    assert (whole.status, "lacks" in whole.err) == (0, False), whole.err
    leaf, *_ = x509.load_pem_x509_certificates(broker.read_bytes())
    broker.write_bytes(leaf.public_bytes(Encoding.PEM))
    alone = birthmark("broker", "config", str(tmp_path / "mosquitto"), *words)
    assert (alone.status, "broker.pem lacks the certificate of infra-" in alone.err) == (0, True), alone.err


def test_a_link_that_a_brokers_certificate_lacks_is_named(tmp_path: Path) -> None:
    two = make_two_roots(tmp_path / "ca")
    chain, _ = two.new.broker().write(tmp_path, "broker")
    assert lacking(two.new.authority, chain) == []
    leaf, infra, _link = x509.load_pem_x509_certificates(chain.read_bytes())
    chain.write_bytes(leaf.public_bytes(Encoding.PEM) + infra.public_bytes(Encoding.PEM))
    assert lacking(two.new.authority, chain) == ["a link from an older root"]
    two.new.authority.follow(two.standing(NEW, retired=["root"]))
    assert lacking(two.new.authority, chain) == []


def test_a_broker_is_given_no_ca_that_the_record_does_not_believe(
    birthmark: Birthmark, installation: Path, stick: Path, tmp_path: Path
) -> None:
    store, at = open_database(installation), datetime.now(UTC)
    store.authorities.found(first_record(opened(installation), now=at), at=at, by="service:server")
    store.close()
    take_in(birthmark, installation, stick)
    gate, folder = tmp_path / "birthmark_gate.so", tmp_path / "mosquitto"
    gate.touch()

    def believed() -> set[x509.Certificate]:
        words = ("--gate", str(gate), "--user", "nobody", "--no-trial", "--json")
        done = birthmark("broker", "config", str(folder), *words)
        assert done.status == 0, done.err
        return set(x509.load_pem_x509_certificates((folder / "ca-bundle.pem").read_bytes()))

    old, new = (root.certificate for root in opened(installation).roots)
    assert believed() & {old, new} == {old}
    assert birthmark("ca", "stage", NEW).status == 0
    assert believed() & {old, new} == {old, new}
    assert birthmark("ca", "withdraw", NEW).status == 0
    assert believed() & {old, new} == {old}
