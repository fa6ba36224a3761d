"""What is typed wrong is said before anything is fetched."""

from pathlib import Path

import pytest

from birthmark_server.factory.image.errors import WrongOption
from birthmark_server.factory.image.spec import ImageSpec, read_spec
from support.pki import Pki, make_pki
from support.server import now


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Whose root the devices trust."""
    return make_pki(tmp_path_factory.mktemp("pki") / "ca", public_url="http://localhost/pki", now=now())


def spec(pki: Pki, **more: object) -> ImageSpec:
    right = {
        "server": "https://enroll.example:8443",
        "anchors": pki.root_pem,
        "model": "sensor-2",
        "arch": "amd64",
        "version": "1.2.0",
    }
    return read_spec(**{**right, **more})  # type: ignore[arg-type]


def test_a_server_has_a_port_and_a_name(pki: Pki) -> None:
    assert spec(pki).server == "https://enroll.example:8443"
    assert spec(pki, server="https://enroll.example").server == "https://enroll.example:443"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("server", "http://enroll.example:8443", "--server: want https://HOST:PORT"),
        ("server", "https://enroll.example:8443/v1", "--server: want https://HOST:PORT"),
        ("server", "https://alice@enroll.example:8443", "--server: want https://HOST:PORT"),
        ("server", 'https://enroll".example:8443', "--server: want https://HOST:PORT"),
        ("server", "https://enroll.example:99999", "--server: want https://HOST:PORT"),
        ("arch", "riscv64", "--arch: want one of amd64, arm64, got 'riscv64'"),
        ("version", "1 2", "--version: want letters, digits"),
        ("version", "../1", "--version: want letters, digits"),
        ("model", 'sensor"2', "--model"),
        ("kernel", "linux-image-amd64 curl", "--kernel: want a Debian package"),
        ("kernel", "-oDir=/", "--kernel: want a Debian package"),
        ("hosts", ["enroll.example"], "--host: want NAME=ADDRESS"),
        ("hosts", ["enroll.example=here"], "--host: want NAME=ADDRESS"),
        ("hosts", ["a b=192.0.2.1"], "--host: want NAME=ADDRESS"),
    ],
)
def test_an_option_that_is_wrong_is_named(pki: Pki, option: str, value: object, said: str) -> None:
    with pytest.raises(WrongOption, match=said):
        spec(pki, **{option: value})


def test_anchors_that_are_no_certificate_are_refused(pki: Pki, tmp_path: Path) -> None:
    text = tmp_path / "root.pem"
    text.write_text("root")
    with pytest.raises(WrongOption, match=r"root\.pem has no certificate in PEM; want the installation's root\.pem"):
        spec(pki, anchors=text)


def test_a_servers_own_certificate_is_no_anchor(pki: Pki, tmp_path: Path) -> None:
    chain, _ = pki.server().write(tmp_path, "server")
    with pytest.raises(WrongOption, match="is no CA's certificate"):
        spec(pki, anchors=chain)


def test_only_certificates_of_the_anchors_file_get_into_the_image(pki: Pki, tmp_path: Path) -> None:
    _, key = pki.server().write(tmp_path, "server")
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + pki.root_pem.read_bytes())
    assert b"PRIVATE" not in spec(pki, anchors=both).anchors


def test_each_part_of_each_version_has_a_uuid_of_its_own(pki: Pki) -> None:
    one, other = spec(pki), spec(pki, version="1.2.1")
    assert one.uuid("disk") == spec(pki).uuid("disk")
    assert len({one.uuid("disk"), one.uuid("esp"), other.uuid("disk"), other.uuid("esp")}) == 4
