"""What the gate makes of a certificate, asked of the C code itself: certificates that our CA would never issue."""

import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtensionOID

from birthmark_server.ca import oids
from support.broker_pki import CONTROL_EKU, TRUST_DOMAIN, BrokerPki, Ca, Leaf
from support.mosquitto import build_gate

pytestmark = pytest.mark.parts

LONGEST = "a" * 64
Identify = Callable[..., list[str]]


@pytest.fixture(scope="module")
def identify(pki: BrokerPki, tmp_path_factory: pytest.TempPathFactory) -> Identify:
    """Return a function that asks the gate about a certificate: [status, role, id, serial, not_after]."""
    program = build_gate("test/identify")
    folder = tmp_path_factory.mktemp("identify")

    def ask(
        leaf: Leaf | bytes,
        *,
        now: datetime | None = None,
        fleet: Sequence[Ca] = (pki.fleet,),
        infra: Sequence[Ca] = (pki.infra,),
    ) -> list[str]:
        files = [_pem(folder / "fleet.pem", fleet), _pem(folder / "infra.pem", infra)]
        der = folder / "leaf.der"
        der.write_bytes(leaf if isinstance(leaf, bytes) else leaf.certificate.public_bytes(Encoding.DER))
        at = str(int((now or datetime.now(UTC)).timestamp()))
        done = subprocess.run(
            [program, *files, TRUST_DOMAIN, CONTROL_EKU, at, der], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return ask


def _pem(path: Path, authorities: Sequence[Ca]) -> Path:
    path.write_bytes(b"".join(ca.certificate.public_bytes(Encoding.PEM) for ca in authorities))
    return path


def test_a_device_is_its_id_its_serial_and_its_end(pki: BrokerPki, identify: Identify) -> None:
    leaf = pki.device("dev-1")
    end = int(leaf.certificate.not_valid_after_utc.timestamp())
    assert identify(leaf) == ["ok", "device", "dev-1", leaf.serial, str(end)]


def test_a_control_identity_is_one_by_its_key_purpose(pki: BrokerPki, identify: Identify) -> None:
    assert identify(pki.control("srv-a"))[:3] == ["ok", "control", "srv-a"]


def test_bytes_that_are_no_certificate_are_nobody(identify: Identify) -> None:
    assert identify(b"\x30\x03\x02\x01\x00")[0] == "no-certificate"


@pytest.mark.parametrize("name", ["a", LONGEST, "0", "-", "sw-1"])
def test_every_id_of_the_alphabet_is_taken(pki: BrokerPki, identify: Identify, name: str) -> None:
    assert identify(pki.device(name))[0] == "ok"


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["dev-1", "dev-1"],
        ["dev-1", "dev-2"],
        ["Dev-1"],
        ["dev_1"],
        ["dev 1"],
        ["dev/1"],
        ["+"],
        ["#"],
        ["dev-1.app"],
        ["dév"],
        ["dev-1\0"],
        ["dev\0-1"],
        [(_ASN1Type.BMPString, "dev-1")],
        [(_ASN1Type.UniversalString, "dev-1")],
    ],
    ids=repr,
)
def test_a_name_that_is_not_exactly_one_id_is_refused(
    pki: BrokerPki, identify: Identify, names: list[str | tuple[_ASN1Type, str]]
) -> None:
    assert identify(pki.leaf(pki.fleet, names, uris=[pki.uri("dev-1")]))[0] == "bad-name"


@pytest.mark.parametrize("string_type", [_ASN1Type.PrintableString, _ASN1Type.UTF8String, _ASN1Type.IA5String])
def test_an_id_may_come_in_any_string_of_single_bytes(
    pki: BrokerPki, identify: Identify, string_type: _ASN1Type
) -> None:
    leaf = pki.leaf(pki.fleet, [(string_type, "dev-1")], uris=[pki.uri("dev-1")])
    assert identify(leaf)[:3] == ["ok", "device", "dev-1"]


@pytest.mark.parametrize(
    ("uris", "hosts"),
    [
        ([], []),
        ([], ["dev-1"]),
        (["spiffe://fleet.test/device/dev-2"], []),
        (["spiffe://fleet.test/device/dev-1/"], []),
        (["spiffe://fleet.test/device/dev-10"], []),
        (["spiffe://fleet.test/device/dev-"], []),
        (["spiffe://fleet.test/dev-1"], []),
        (["spiffe://FLEET.TEST/device/dev-1"], []),
        (["spiffe://fleet.test.evil.test/device/dev-1"], []),
        (["https://fleet.test/device/dev-1"], []),
        (["spiffe://fleet.test/device/dev-1", "spiffe://fleet.test/device/dev-2"], []),
        (["spiffe://fleet.test/device/dev-2", "spiffe://fleet.test/device/dev-1"], []),
        (["spiffe://fleet.test/device/dev-1", "spiffe://fleet.test/device/dev-1"], []),
    ],
    ids=repr,
)
def test_a_uri_that_is_not_exactly_the_ids_is_refused(
    pki: BrokerPki, identify: Identify, uris: list[str], hosts: list[str]
) -> None:
    assert identify(pki.leaf(pki.fleet, ["dev-1"], uris=uris, hosts=hosts))[0] == "bad-uri"


@pytest.mark.parametrize(
    "oid", [ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.EXTENDED_KEY_USAGE], ids=["SAN", "EKU"]
)
@pytest.mark.parametrize("content", [b"", b"\x30\x03\x86\x7f\x01", b"\x30\x80", b"\x04\x00"], ids=repr)
@pytest.mark.parametrize("authority", ["fleet", "infra"])
def test_a_broken_extension_makes_nobody_of_its_holder(
    pki: BrokerPki, identify: Identify, oid: x509.ObjectIdentifier, content: bytes, authority: str
) -> None:
    broken = x509.UnrecognizedExtension(oid, content)
    whole = [] if oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME else [pki.uri("srv-a")]
    leaf = pki.leaf(getattr(pki, authority), ["srv-a"], uris=whole, extensions=[broken])
    assert identify(leaf)[0] != "ok"


def test_a_reserved_id_is_no_devices(pki: BrokerPki, identify: Identify) -> None:
    assert identify(pki.device("srv-a"))[0] == "reserved-name"
    assert identify(pki.device("srv"))[0] == "ok"


def test_a_signature_by_another_key_of_the_same_name_is_refused(pki: BrokerPki, identify: Identify) -> None:
    forged = pki.leaf(pki.fleet, ["dev-1"], uris=[pki.uri("dev-1")], signer=pki.foreign)
    assert identify(forged)[0] == "unknown-issuer"


def test_a_signature_by_our_key_under_another_name_is_refused(pki: BrokerPki, identify: Identify) -> None:
    renamed = Ca(Ca.make("Another Fleet CA", parent=pki.root).certificate, pki.fleet.key)
    assert identify(pki.device("dev-1", ca=renamed))[0] == "unknown-issuer"


@pytest.mark.parametrize("authority", ["birth", "root", "foreign"])
def test_an_issuer_that_is_neither_fleet_nor_infra_is_refused(
    pki: BrokerPki, identify: Identify, authority: str
) -> None:
    assert identify(pki.device("dev-1", ca=getattr(pki, authority)))[0] == "unknown-issuer"


def test_each_of_several_fleet_cas_makes_devices(pki: BrokerPki, identify: Identify) -> None:
    younger = Ca.make("Test Fleet CA 2", parent=pki.root)
    same_name = Ca.make("Test Fleet CA", parent=pki.root)
    both = (pki.fleet, younger, same_name)
    for ca in both:
        assert identify(pki.device("dev-1", ca=ca), fleet=both)[0] == "ok"


def test_validity_is_held_to_the_second(pki: BrokerPki, identify: Identify) -> None:
    leaf = pki.device("dev-1")
    begin, end = leaf.certificate.not_valid_before_utc, leaf.certificate.not_valid_after_utc
    second = timedelta(seconds=1)
    assert identify(leaf, now=begin)[0] == "ok"
    assert identify(leaf, now=begin - second)[0] == "not-yet-valid"
    assert identify(leaf, now=end)[0] == "ok"
    assert identify(leaf, now=end + second)[0] == "expired"


def test_a_certificate_that_outlives_its_issuer_is_refused(pki: BrokerPki, identify: Identify) -> None:
    now = datetime.now(UTC)
    short = Ca.make("Test Fleet CA", parent=pki.root, not_after=now + timedelta(hours=1))
    leaf = pki.device("dev-1", ca=short)
    assert identify(leaf, fleet=[short])[0] == "ok"
    assert identify(leaf, fleet=[short], now=now + timedelta(hours=2))[0] == "issuer-expired"


@pytest.mark.parametrize("serial", [1, 0x0F, 0x10, 0x80, 0xFF00, 2**159 - 1])
def test_a_serial_number_is_lower_case_hex_without_leading_zeros(
    pki: BrokerPki, identify: Identify, serial: int
) -> None:
    leaf = pki.leaf(pki.fleet, ["dev-1"], uris=[pki.uri("dev-1")], serial=serial)
    assert identify(leaf)[3] == f"{serial:x}"


@pytest.mark.parametrize(
    ("names", "purposes", "status"),
    [
        (["srv-a"], [], "not-control"),
        (["srv-a"], [oids.KP_OPERATOR], "not-control"),
        (["srv-a"], [oids.KP_SERVER, oids.KP_BROKER, oids.KP_STATION], "not-control"),
        (["srv-a"], [oids.CP_INFRASTRUCTURE], "not-control"),
        (["srv-a"], [oids.KP_OPERATOR, oids.KP_CONTROL], "ok"),
        (["control"], [oids.KP_CONTROL], "bad-name"),
        (["srv-a", "srv-b"], [oids.KP_CONTROL], "bad-name"),
    ],
    ids=str,
)
def test_the_role_decides_among_the_infrastructure(
    pki: BrokerPki, identify: Identify, names: list[str], purposes: list[x509.ObjectIdentifier], status: str
) -> None:
    assert identify(pki.leaf(pki.infra, names, purposes=purposes))[0] == status


def test_a_refusal_names_no_id_that_could_not_be_one(pki: BrokerPki, identify: Identify) -> None:
    assert identify(pki.leaf(pki.birth, ["x\nbirthmark gate: all is well"]))[:3] == ["unknown-issuer", "control", "-"]
