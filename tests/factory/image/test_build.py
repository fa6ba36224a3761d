"""What a build makes: the same bytes again, a bill of materials that its schema accepts, and a block map that leaves
nothing out."""

import filecmp
import hashlib
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # its types are a package of their own
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from birthmark_server.factory.image import keys
from birthmark_server.factory.image.build import BILL, BLOCK_MAP, BOOT, IMAGE, MANIFEST
from birthmark_server.factory.image.spec import ImageSpec, read_spec
from support.device_image import CACHE, build_image, partition_bytes
from support.pki import make_pki
from support.server import now

pytestmark = [pytest.mark.parts, pytest.mark.timeout(600)]  # the first build of all fetches and compiles

SCHEMA = Path(__file__).parents[2] / "vectors" / "cyclonedx" / "bom-1.4.schema.json"
SCHEMA_URL = "http://cyclonedx.org/schema"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ImageSpec:
    """A signed image of some product."""
    folder = tmp_path_factory.mktemp("product")
    pki = make_pki(folder / "ca", public_url="http://localhost/pki", now=now())
    keys.make(folder / "keys", product="sensor-2", now=now())
    return read_spec(
        server="https://enroll.example:8443",
        anchors=pki.root_pem,
        model="sensor-2",
        arch="amd64",
        version="1.2.0",
        signing=keys.signing(folder / "keys"),
    )


@pytest.fixture(scope="module")
def built(spec: ImageSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder."""
    return build_image(spec, tmp_path_factory.mktemp("built") / "image")


@pytest.fixture(scope="module")
def root(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in its root partition."""
    folder = tmp_path_factory.mktemp("root")
    squash = folder / "root.squashfs"
    squash.write_bytes(partition_bytes(built / IMAGE, 2))
    subprocess.run(["unsquashfs", "-q", "-n", "-d", folder / "root", squash], check=True, capture_output=True)
    return folder / "root"


def test_the_same_options_give_the_same_bytes_whatever_was_kept_from_before(
    spec: ImageSpec, built: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    (cache / "amd64").mkdir(parents=True)
    fetched = [CACHE / "amd64" / name for name in ("archives", "lists", "wheels", "updated", "status")]
    subprocess.run(["cp", "-a", *fetched, cache / "amd64"], check=True)
    before = os.umask(0o077)  # a careful person's
    try:
        again = build_image(spec, tmp_path / "again", cache=cache)
    finally:
        os.umask(before)
    assert (cache / "amd64" / "base").is_dir(), "not made anew"
    for name in (IMAGE, BLOCK_MAP, BOOT, BILL, MANIFEST):
        assert filecmp.cmp(again / name, built / name, shallow=False), name


def test_another_version_is_another_disk(spec: ImageSpec) -> None:
    parts = ("disk", "esp", "root-a", "root-b", "provision", "state")
    ids = {one.uuid(part) for one in (spec, replace(spec, version="1.2.1")) for part in parts}
    assert len(ids) == 2 * len(parts)


def test_the_manifest_names_each_file_by_its_hash(built: Path) -> None:
    manifest = json.loads((built / MANIFEST).read_text())
    assert sorted([*manifest["files"], MANIFEST]) == sorted(path.name for path in built.iterdir())
    for name, said in manifest["files"].items():
        assert said == {
            "sha256": hashlib.sha256((built / name).read_bytes()).hexdigest(),
            "size": (built / name).stat().st_size,
        }


def test_the_bill_of_materials_is_cyclonedx_and_names_what_is_there(built: Path, root: Path) -> None:
    bill = json.loads((built / BILL).read_text())
    schema = json.loads(SCHEMA.read_text())
    anything = Resource.from_contents({}, default_specification=DRAFT7)  # licences and signatures: we write none
    others = ("spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json")
    registry: Registry[object] = Registry().with_resources([(f"{SCHEMA_URL}/{name}", anything) for name in others])
    jsonschema.Draft7Validator(schema, registry=registry).validate(bill)

    named = {component["name"].replace("-", "_") for component in bill["components"]}
    python = {path.name.split("-")[0] for path in (root / "usr/lib/python3/dist-packages").glob("*.dist-info")}
    assert python == {"cffi", "cryptography", "packaging", "paho_mqtt", "tpm2_pytss"}
    assert python <= named
    assert {"birthmark_agent", "libc6", "python3.11", "busybox_static"} <= named
    assert any(name.startswith("linux_image_") for name in named)


def test_the_image_trusts_the_root_that_was_named_and_carries_no_key(spec: ImageSpec, root: Path) -> None:
    assert (root / "etc/birthmark/root.pem").read_bytes() == spec.anchors
    assert 'url = "https://enroll.example:8443"' in (root / "etc/birthmark/agent.toml").read_text()
    private = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{20}")
    for path in (*(root / "etc").rglob("*"), *(root / "usr/lib/birthmark").rglob("*")):
        assert not path.is_file() or path.is_symlink() or not private.search(path.read_bytes()), path


def test_nothing_in_it_becomes_root(root: Path) -> None:
    privileged = [path for path in root.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o6000]
    assert privileged == []


def test_the_block_map_writes_all_that_a_file_system_reads_over_an_old_disk(built: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"\xa5" * (built / IMAGE).stat().st_size)
    subprocess.run(["bmaptool", "-q", "copy", "--bmap", built / BLOCK_MAP, built / IMAGE, disk], check=True)
    subprocess.run(["sgdisk", "--verify", disk], check=True, capture_output=True)
    assert partition_bytes(disk, 5) == partition_bytes(built / IMAGE, 5), "the state of an earlier life"
    checks = {1: ["fsck.vfat", "-n"], 4: ["fsck.vfat", "-n"], 5: ["e2fsck", "-f", "-n"]}
    for number, check in checks.items():
        part = tmp_path / f"part{number}"
        part.write_bytes(partition_bytes(disk, number))
        done = subprocess.run([*check, part], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    boot = subprocess.run(
        ["mtype", "-i", tmp_path / "part1", "::EFI/BOOT/BOOTX64.EFI"], capture_output=True, check=True
    ).stdout
    assert boot == (built / BOOT).read_bytes()
