"""The manifest: what left the door, for who receives it."""

import csv
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from birthmark_server.cli.exits import Exit
from birthmark_server.domain import CertificateProfile
from birthmark_server.factory.out import jwk
from birthmark_server.factory.out.errors import ManifestWrong
from birthmark_server.factory.out.manifest import COLUMNS, leaving, sign, write_manifest, write_signers
from birthmark_server.factory.out.proof import verify_record
from birthmark_server.factory.out.verify import verify_manifest
from birthmark_server.factory.station.signer import StationKey
from birthmark_wire.encoding import JsonObject, b64, unb64
from support.factory_out import Made, make_station, payload_of
from support.pki import Pki, make_pki


def root_of(pki: Pki) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pki.root_pem.read_bytes())


def test_each_device_that_passed_is_in_it_once(made: Made, tmp_path: Path) -> None:
    path = made.manifest(tmp_path / "out")
    devices = verify_manifest(path, signers=tmp_path / "out" / "W1.st-1.signers.pem", root=root_of(made.pki))
    assert [(each.serial, each.model, each.workorder, each.station, each.state) for each in devices] == [
        (f"SN-000{number}", "model-a", "W1", "st-1", "born") for number in (1, 2, 3)
    ]
    assert {each.ek_sha256 for each in devices} == {device.tpm.ek_sha256 for device in made.plant.devices}


def test_it_has_the_shape_of_microchips(made: Made, tmp_path: Path) -> None:
    first = json.loads(made.manifest(tmp_path).read_text())[0]
    assert set(first) == {"payload", "protected", "header", "signature"}
    assert first["header"] == {"uniqueId": "SN-0001"}
    header = json.loads(unb64(first["protected"], field="protected"))
    assert (header["alg"], header["typ"], set(header)) == ("ES256", "JWT", {"alg", "kid", "typ", "x5t#S256"})
    payload = payload_of(first)
    assert (payload["version"], payload["uniqueId"], payload["groupId"]) == (3, "SN-0001", "W1")
    keys: list[dict[str, object]] = payload["publicKeySet"]["keys"]  # type: ignore[index]
    assert [key["kid"] for key in keys] == ["ek", "ak", "birth"]
    device = next(each for each in made.plant.devices if each.record and each.record.serial == "SN-0001")
    ek, ak, birth = (jwk.read_jwk(JsonObject(key)) for key in keys)
    assert ek.public_numbers() == device.tpm.ek.public_key().public_numbers()
    assert ak.public_numbers() == device.tpm.ak.private.public_key().public_numbers()
    assert birth.public_numbers() == device.tpm.birth_key.private.public_key().public_numbers()


def test_the_table_has_the_same_devices(made: Made, tmp_path: Path) -> None:
    made.manifest(tmp_path)
    with (tmp_path / "W1.st-1.manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert [(row["serial"], row["device_id"], row["operator"]) for row in rows] == [
        (f"SN-000{number}", f"dev-sn-000{number}", "alice") for number in (1, 2, 3)
    ]


def test_who_failed_is_not_in_it(stumbled: Made, tmp_path: Path) -> None:
    serials = [item["header"]["uniqueId"] for item in json.loads(stumbled.manifest(tmp_path).read_text())]
    broken = {
        device.record.serial for device in stumbled.plant.devices if device.faults.get("self_test") and device.record
    }
    assert broken
    assert len(serials) == 3
    assert not broken & set(serials)


def test_who_left_to_be_born_alone_is_in_it_as_that(tmp_path: Path, pki: Pki) -> None:
    station = make_station(tmp_path / "line", pki, 2)
    station.plant.desk.is_down = False
    runner = station.plant.runner(later=True)
    runner.bench.line.new_serial()  # a block of serial numbers, while the server answers
    station.plant.desk.is_down = True
    runner.run()
    runner.bench.line.close()
    items = json.loads(station.manifest(tmp_path / "out").read_text())
    infos = [payload_of(item)["modelInfo"] for item in items]
    assert [info["state"] for info in infos] == ["awaiting-birth"] * len(items)  # type: ignore[index]
    assert items
    assert station.factory("verify", str(tmp_path / "out" / "W1.st-1.manifest.json"), "--root", str(pki.root_pem)) == 0


Change = Callable[[list[dict[str, object]]], None]


def swap_payloads(items: list[dict[str, object]]) -> None:
    items[1]["payload"], items[2]["payload"] = items[2]["payload"], items[1]["payload"]


def another_serial(items: list[dict[str, object]]) -> None:
    members = payload_of(items[1])  # type: ignore[arg-type]
    items[1]["payload"] = b64(json.dumps(members | {"uniqueId": "SN-0009"}).encode())


def no_algorithm(items: list[dict[str, object]]) -> None:
    header = json.loads(unb64(str(items[1]["protected"]), field="protected"))
    items[1]["protected"] = b64(json.dumps(header | {"alg": "none"}).encode())


CHANGES: dict[str, tuple[Change, str]] = {
    "payloads swapped": (swap_payloads, r"device 2 \(SN-0002\): the signature is not that"),
    "a payload changed": (another_serial, r"device 2 \(SN-0002\): the signature is not that"),
    "no signature": (lambda items: items[1].update(signature=""), r"device 2 \(SN-0002\): signature: want 64 bytes"),
    "no algorithm": (no_algorithm, r"device 2 \(SN-0002\): alg: want 'ES256'"),
    "another name": (lambda items: items[1].update(header={"uniqueId": "SN-7"}), r"device 2 \(SN-7\): uniqueId: want"),
    "twice": (lambda items: items.append(items[0]), r"device 4 \(SN-0001\): uniqueId: SN-0001 is that of device 1"),
    "one more member": (lambda items: items[1].update(x=1), r"device 2 \(SN-0002\): x: is not a member"),
    "no object": (lambda items: items.insert(1, None), r"device 2: want an object"),  # type: ignore[arg-type]
    "empty": (lambda items: items.clear(), r"want a JSON array with a device in it"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_found_by_its_device(made: Made, tmp_path: Path, name: str) -> None:
    change, words = CHANGES[name]
    path = made.manifest(tmp_path / "out")
    items = json.loads(path.read_text())
    change(items)
    path.write_text(json.dumps(items))
    with pytest.raises(ManifestWrong, match=words):
        verify_manifest(path, signers=tmp_path / "out" / "W1.st-1.signers.pem", root=root_of(made.pki))


def test_a_signer_that_is_no_station_is_refused(made: Made, tmp_path: Path) -> None:
    leaf = made.pki.infra(CertificateProfile.FACTORY, "mallory")
    key = StationKey.load(*leaf.write(tmp_path, "mallory"))
    (device, *_) = leaving(verify_record(made.folder, root=root_of(made.pki)), "W1")
    manifest, signers = tmp_path / "manifest.json", tmp_path / "signers.pem"
    manifest.write_text("".join(write_manifest([device], key=key, now=datetime.now(UTC))))
    signers.write_bytes(write_signers(key))
    with pytest.raises(ManifestWrong, match="a factory certificate; want one for station"):
        verify_manifest(manifest, signers=signers, root=root_of(made.pki))


def test_a_station_of_another_installation_is_refused(made: Made, tmp_path: Path) -> None:
    other = make_pki(tmp_path / "other")
    path = made.manifest(tmp_path / "out")
    with pytest.raises(ManifestWrong, match="does not lead to this installation's root"):
        verify_manifest(path, signers=tmp_path / "out" / "W1.st-1.signers.pem", root=root_of(other))


def test_a_station_whose_certificate_had_ended_is_refused(made: Made, tmp_path: Path) -> None:
    key = made.plant.key
    (device, *_) = leaving(verify_record(made.folder, root=root_of(made.pki)), "W1")
    manifest, signers = tmp_path / "manifest.json", tmp_path / "signers.pem"
    late = datetime.now(UTC) + timedelta(days=400)
    manifest.write_text(f"[{sign(device, key=key, now=late)}]")
    signers.write_bytes(write_signers(key))
    with pytest.raises(ManifestWrong, match="signer's certificate ended at"):
        verify_manifest(manifest, signers=signers, root=root_of(made.pki))


def test_a_work_order_of_which_nothing_left_is_said(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("manifest", "--workorder", "W2", "--station", str(made.folder), "--out", str(tmp_path / "out"))
    assert made.factory(*words) == Exit.NO
    assert "nothing of work order 'W2' left station st-1 yet; it knows work orders: W1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_firmware_that_is_a_formula_is_no_formula_in_the_table(made: Made) -> None:
    from birthmark_server.factory.out.manifest import _plain

    assert [_plain(cell) for cell in ("=1+1", "@x", "firmware/1.0", "")] == ["'=1+1", "'@x", "firmware/1.0", ""]


@pytest.mark.parts
def test_jose_that_nobody_here_wrote_verifies_each_device(made: Made, tmp_path: Path) -> None:
    items = json.loads(made.manifest(tmp_path).read_text())
    public = made.plant.key.key.public_key()
    (tmp_path / "key.jwk").write_text(json.dumps(jwk.write_jwk(public, kid="station", use="sig")))
    for number, item in enumerate(items, start=1):
        (tmp_path / "one.jws").write_text(json.dumps(item))
        command = ["jose", "jws", "ver", "-i", "one.jws", "-k", "key.jwk", "-O", "-"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        assert json.loads(done.stdout)["uniqueId"] == f"SN-000{number}"
    forged = items[0] | {"payload": items[1]["payload"]}
    (tmp_path / "one.jws").write_text(json.dumps(forged))
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


@pytest.mark.parts
def test_a_device_is_verified_by_hand_as_docs_factory_says(made: Made, tmp_path: Path) -> None:
    made.manifest(tmp_path)
    page = (Path(__file__).resolve().parents[3] / "docs" / "factory.md").read_text()
    script = page.split("<!-- by hand -->\n```sh\n")[1].split("```")[0]
    (tmp_path / "root.pem").write_bytes(made.pki.root_pem.read_bytes())
    (tmp_path / "W-7.line-2.manifest.json").write_bytes((tmp_path / "W1.st-1.manifest.json").read_bytes())
    (tmp_path / "W-7.line-2.signers.pem").write_bytes((tmp_path / "W1.st-1.signers.pem").read_bytes())
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Verified OK" in done.stdout
    assert "signer.pem: OK" in done.stdout
