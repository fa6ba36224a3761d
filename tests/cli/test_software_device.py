"""`birthmark device add-software`, with requests that openssl made."""

import json
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from cli.conftest import Birthmark


def request(folder: Path, name: str, encoding: str = "PEM") -> str:
    key, csr = folder / f"{name}.key", folder / f"{name}.csr"
    make = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command = [*make, "-keyout", str(key), "-subj", f"/CN={name}", "-outform", encoding, "-out", str(csr)]
    subprocess.run(command, check=True, capture_output=True)
    return str(csr)


@pytest.mark.parametrize("encoding", ["PEM", "DER"])
def test_an_operator_vouches_for_a_device_without_a_tpm(
    birthmark: Birthmark, installation: Path, tmp_path: Path, encoding: str
) -> None:
    out = tmp_path / "box.pem"
    operator = str(installation / "operators" / "alice.pem")
    csr = request(tmp_path, "sw-box", encoding)
    done = birthmark("device", "add-software", "sw-box", "--csr", csr, "--out", str(out), "--operator", operator)
    assert (done.status, done.out) == (0, ""), done.err
    leaf, fleet = x509.load_pem_x509_certificates(out.read_bytes())
    leaf.verify_directly_issued_by(fleet)
    assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "sw-box"
    (device,) = json.loads(birthmark("device", "list", "--json").out)
    assert (device["device_id"], device["assurance"]) == ("sw-box", "none")


def test_another_id_or_no_request_is_refused_and_leaves_nothing(birthmark: Birthmark, tmp_path: Path) -> None:
    out = str(tmp_path / "box.pem")
    (tmp_path / "rubbish.csr").write_text("-----BEGIN NOTHING-----")
    for device_id, csr in [
        ("box", request(tmp_path, "box")),
        ("sw-box", str(tmp_path / "rubbish.csr")),
        ("sw-box", request(tmp_path, "sw-other")),
        ("sw-box", str(tmp_path / "missing.csr")),
    ]:
        done = birthmark("device", "add-software", device_id, "--csr", csr, "--out", out)
        assert done.status != 0
        assert "Traceback" not in done.err
    assert json.loads(birthmark("device", "list", "--json").out) == []
