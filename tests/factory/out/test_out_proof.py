"""A station's record, verified by who has nothing but the folder and the root."""

import json
from pathlib import Path

import pytest
from cryptography import x509

from birthmark_server.cli.exits import Exit
from birthmark_server.factory.out.errors import RecordUnproven
from birthmark_server.factory.out.proof import verify_record
from birthmark_server.factory.station.errors import RecordDamaged
from support.factory_out import Made
from support.pki import make_pki


def root_of(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def line_of(made: Made, kind: str, place: int = 0) -> int:
    """The index of the place-th line of this kind."""
    lines = made.record.read_bytes().splitlines()
    return [number for number, line in enumerate(lines) if json.loads(line)["kind"] == kind][place]


def changed(line: bytes, **members: object) -> bytes:
    return json.dumps(json.loads(line) | members).encode()


def test_a_record_that_holds_says_what_is_in_it(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert made.factory("verify", str(made.folder), "--root", str(made.pki.root_pem)) == Exit.DONE
    told = capsys.readouterr().out
    assert "record.jsonl: holds; record of station st-1" in told
    assert "3 devices, 3 born" in told


def test_a_changed_byte_is_found_by_its_line(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.record.write_bytes(made.record.read_bytes().replace(b'"operator":"alice"', b'"operator":"bobby"', 1))
    assert made.factory("verify", str(made.folder), "--root", str(made.pki.root_pem)) == Exit.DATA
    assert "record.jsonl, line " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "members", "words"),
    [
        ("entry", {"ek_sha256": "0" * 64}, "the signed ek_sha256 is"),
        ("entry", {"image_sha256": "0" * 64}, "the signed image_sha256 is"),
        ("entry", {"serial": "SN-0003"}, "the signed serial is"),
        ("begun", {"station": "st-2"}, "the signed station is 'st-1', the line's 'st-2'"),
    ],
)
def test_a_record_written_anew_is_not_what_was_signed(
    made: Made, kind: str, members: dict[str, object], words: str
) -> None:
    place = line_of(made, kind)

    def change(lines: list[bytes]) -> None:
        lines[place] = changed(lines[place], **members)

    made.rewrite(change)
    wrong = line_of(made, "entry") + 1
    with pytest.raises(RecordUnproven, match=rf"record\.jsonl, line {wrong}: {words}"):
        verify_record(made.folder, root=root_of(made.pki.root_pem))


def test_birth_certificates_that_changed_places_are_found(made: Made) -> None:
    first, second = line_of(made, "born"), line_of(made, "born", 1)

    def change(lines: list[bytes]) -> None:
        certificates = [json.loads(lines[place])["certificate"] for place in (first, second)]
        lines[first] = changed(lines[first], certificate=certificates[1])

    made.rewrite(change)
    with pytest.raises(RecordUnproven, match=rf"line {first + 1}: want a birth certificate of SN-000"):
        verify_record(made.folder, root=root_of(made.pki.root_pem))


def test_another_installations_root_proves_nothing(made: Made, tmp_path: Path) -> None:
    other = make_pki(tmp_path / "other")
    with pytest.raises(RecordUnproven, match="does not lead to this installation's root"):
        verify_record(made.folder, root=root_of(other.root_pem))


def test_an_empty_record_proves_nothing(made: Made) -> None:
    made.record.write_bytes(b"")
    with pytest.raises(RecordUnproven, match="is empty"):
        verify_record(made.folder, root=root_of(made.pki.root_pem))


def test_a_folder_without_a_record_is_named(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.record.unlink()
    assert made.factory("verify", str(made.folder), "--root", str(made.pki.root_pem)) == Exit.NO_INPUT
    assert "record.jsonl: No such file or directory" in capsys.readouterr().err


def test_a_record_cut_in_the_middle_of_a_line_is_whole_up_to_there(made: Made) -> None:
    lines = len(made.record.read_bytes().splitlines())
    made.record.write_bytes(made.record.read_bytes()[:-5])
    assert verify_record(made.folder, root=root_of(made.pki.root_pem)).lines == lines - 1


def test_a_record_line_that_is_no_json_is_damaged(made: Made) -> None:
    made.record.write_bytes(made.record.read_bytes() + b"{}\n")
    with pytest.raises(RecordDamaged, match="n: is missing"):
        verify_record(made.folder, root=root_of(made.pki.root_pem))
