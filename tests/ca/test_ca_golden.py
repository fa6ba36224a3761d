"""Fixed inputs give fixed bytes: what the field sees changes only on purpose."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from cryptography import x509

from birthmark_server.ca.ca_certificate import read_certificate, verify_ca, verify_link, verify_root
from birthmark_server.ca.errors import ProfileViolation
from birthmark_server.ca.hardware import hardware_module_name, hardware_serial
from birthmark_server.ca.layout import link_file
from birthmark_server.ca.profile import CaKind
from birthmark_server.domain import CertificateProfile
from birthmark_server.roles import PROFILE_OF
from support.ek_certificate import ek_certificate

FOLDER = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_certificates", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_profile_gives_its_golden_bytes(generator: ModuleType) -> None:
    golden = json.loads((FOLDER / "tbs.json").read_text())
    assert {name.value: tbs.hex() for name, tbs in generator.prepare_all().items()} == golden
    assert set(golden) == {profile.value for profile in CertificateProfile}


@pytest.mark.parametrize("kind", list(CaKind))
def test_every_ca_is_as_its_golden_certificate(generator: ModuleType, kind: CaKind) -> None:
    root = read_certificate(FOLDER / "root.pem")
    certificate = root if kind is CaKind.ROOT else read_certificate(FOLDER / f"{kind}-2026.pem")
    verify_ca(certificate, kind=kind, namespace=generator.NAMESPACE, root=root, now=generator.NOW)


def test_a_link_is_as_its_golden_certificates_and_bytes(generator: ModuleType) -> None:
    roots = {name: read_certificate(generator.LINKS / f"{name}.pem") for name in ("root", "root-2030")}
    for certificate in roots.values():
        verify_root(certificate, namespace=generator.NAMESPACE, now=generator.NOW)
    for subject, issuer in (("root", "root-2030"), ("root-2030", "root")):
        verify_link(
            read_certificate(generator.LINKS / link_file(subject, issuer)),
            subject=roots[subject],
            issuer=roots[issuer],
            namespace=generator.NAMESPACE,
            issuer_name=issuer,
            now=generator.NOW,
        )
    assert generator.link_tbs().hex() == (generator.LINKS / "tbs.hex").read_text().strip()


def test_a_root_from_before_there_were_links_is_believed(generator: ModuleType) -> None:
    root = read_certificate(FOLDER / "root.pem")
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 1
    verify_root(root, namespace=generator.NAMESPACE, now=generator.NOW)


def test_an_infra_ca_from_before_roles_and_commands_is_believed_and_certifies_neither_them_nor_commands(
    generator: ModuleType,
) -> None:
    earlier = FOLDER / "without-roles"
    root, infra = read_certificate(earlier / "root.pem"), read_certificate(earlier / "infra-2026.pem")
    verify_ca(infra, kind=CaKind.INFRA, namespace=generator.NAMESPACE, root=root, now=generator.NOW)
    issuer = generator.issuer(CaKind.INFRA, folder=earlier)
    requests = generator.requests()
    assert issuer.prepare(requests[CertificateProfile.OPERATOR], now=generator.NOW).tbs
    for profile in (*PROFILE_OF.values(), CertificateProfile.COMMAND):
        with pytest.raises(ProfileViolation, match="birthmark init --add infra"):
            issuer.prepare(requests[profile], now=generator.NOW)


def test_the_hardware_module_name_of_a_listed_ek_byte_for_byte(generator: ModuleType) -> None:
    tbs = generator.prepare_all()[CertificateProfile.IDEVID]
    extension = bytes.fromhex(
        "3042"  # Extension
        "0603551d11"  # id-ce-subjectAltName, not critical
        "043b"
        "3039"  # GeneralNames
        "a037"  # otherName [0]
        "06082b06010505070804"  # id-on-hardwareModuleName
        "a02b"  # value [0] EXPLICIT
        "3029"  # HardwareModuleName
        "06056781050102"  # hwType 2.23.133.1.2
        "0420"  # hwSerialNum, 32 octets
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    )
    assert extension in tbs


def test_the_hardware_serial_of_a_certified_ek_names_maker_and_certificate() -> None:
    der = ek_certificate(manufacturer="id:49465800", key_id=bytes(range(20)), serial_number=0x0102AB)
    serial = hardware_serial(ek_sha256="ab" * 32, ek_certificate=der)
    assert serial == b"49465800:000102030405060708090a0b0c0d0e0f10111213:102ab"
    assert hardware_module_name(serial).value.endswith(b"\x04\x37" + serial)


@pytest.mark.parametrize("manufacturer", ["", "IFX", "id:494658", "id:4946580G"])
def test_an_ek_certificate_that_names_no_maker_counts_as_absent(manufacturer: str) -> None:
    der = ek_certificate(manufacturer=manufacturer, key_id=bytes(20), serial_number=1)
    assert hardware_serial(ek_sha256="ab" * 32, ek_certificate=der) == bytes.fromhex("ab" * 32)


def test_an_ek_certificate_that_cannot_be_read_counts_as_absent() -> None:
    assert hardware_serial(ek_sha256="ab" * 32, ek_certificate=b"\x30\x03\x02\x01\x01") == bytes.fromhex("ab" * 32)
    assert hardware_serial(ek_sha256="ab" * 32, ek_certificate=None) == bytes.fromhex("ab" * 32)
