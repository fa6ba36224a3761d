"""The trust store: a folder that an operator reads, extends and versions."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.enrolling import EK_KEY, FOREIGN, NOW, SERVER, VENDOR, enroll, prove_ek, showing
from birthmark_server.attestation import errors
from birthmark_server.attestation.roots import INTERMEDIATES, ROOTS, TrustStore, add, read_certificate
from birthmark_server.attestation.vendor import FirmwareRange, Vendor, parse_vendor, write_firmware, write_vendor
from birthmark_server.errors import BirthmarkError, Misconfigured
from support.software_tpm import FIRMWARE, SoftwareTpm
from support.tpm_vendor import VendorCa, build_ca

ENTRY = VENDOR.vendor
FULL_ENTRY = Vendor(
    name='Odd "quoted" name \\ and line\n',
    manufacturers=frozenset(("id:49465800", "id:53544D20")),
    require_eku=True,
    allow_sha1=True,
    enforce_ek_expiry=True,
    refused_firmware=(FirmwareRange(0x0004_0020_0000_0000, 0x0004_0021_FFFF_FFFF, "CVE-2017-15361"),),
)


def test_an_entry_is_read_as_it_was_written() -> None:
    for entry in (ENTRY, FULL_ENTRY):
        assert parse_vendor(write_vendor(entry), source="x") == entry


BAD_ENTRIES: dict[str, bytes] = {
    "not TOML": b"name = ",
    "not UTF-8": b'name = "\xff"',
    "an unknown key": write_vendor(ENTRY) + b"allow_md5 = true\n",
    "no manufacturers": write_vendor(ENTRY).replace(b'["id:54455354"]', b"[]"),
    "a manufacturer in lower case": write_vendor(FULL_ENTRY).replace(b"id:53544D20", b"id:53544d20"),
    "a manufacturer that is no text": write_vendor(ENTRY).replace(b'"id:54455354"', b"7"),
    "a flag that is text": write_vendor(ENTRY).replace(b"allow_sha1 = false", b'allow_sha1 = "no"'),
    "a flag that is missing": write_vendor(ENTRY).replace(b"require_eku = false", b""),
    "firmware of three numbers": write_vendor(FULL_ENTRY).replace(b'"4.32.0.0"', b'"4.32.0"'),
    "firmware beyond 16 bits": write_vendor(FULL_ENTRY).replace(b'"4.32.0.0"', b'"4.99999.0.0"'),
    "firmware from above to": write_vendor(FULL_ENTRY).replace(b'"4.32.0.0"', b'"5.0.0.0"'),
    "firmware without a reason": write_vendor(FULL_ENTRY).replace(b'why = "CVE-2017-15361"', b""),
}


@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_an_entry_that_can_not_be_used_is_refused_by_name(case: str) -> None:
    with pytest.raises(Misconfigured, match=r"infineon/vendor\.toml"):
        parse_vendor(BAD_ENTRIES[case], source="infineon/vendor.toml")


def test_roots_are_added_listed_and_used(tmp_path: Path) -> None:
    folder = tmp_path / "tpm-roots"
    root = add(folder, vendor_folder="test", vendor=ENTRY, certificate=VENDOR.root.der, now=NOW)
    pem = VENDOR.intermediate.certificate.public_bytes(Encoding.PEM)
    kept = add(folder, vendor_folder="test", vendor=None, certificate=b"Subject: x\n" + pem, now=NOW)
    assert (root.kind, kept.kind) == ("root", "intermediate")
    store = TrustStore.load(folder)
    assert {(entry.vendor, entry.kind, entry.subject) for entry in store.entries} == {
        ("test", "root", "CN=Test TPM Vendor Root CA"),
        ("test", "intermediate", "CN=Test TPM Vendor EK CA 1"),
    }
    prove_ek(showing(VENDOR.issue_ek(EK_KEY.public_key()), chain=()), roots=store)


def test_adding_twice_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        add(tmp_path, vendor_folder="test", vendor=ENTRY, certificate=VENDOR.root.der, now=NOW)
    before = TrustStore.load(tmp_path).version
    add(tmp_path, vendor_folder="test", vendor=None, certificate=VENDOR.root.der, now=NOW)
    assert TrustStore.load(tmp_path).version == before


def test_the_version_is_of_names_and_contents(tmp_path: Path) -> None:
    files = VENDOR.files()
    moved = {path.replace("root.der", "other.der"): data for path, data in files.items()}
    lax = replace(VENDOR, vendor=replace(ENTRY, allow_sha1=True)).files()
    assert len({TrustStore.from_files(each).version for each in (files, moved, lax, files)}) == 3
    VENDOR.write_to(tmp_path)
    assert TrustStore.load(tmp_path).version == TrustStore.from_files(files).version


def test_a_ca_below_another_becomes_a_root_only_if_the_operator_says_so(tmp_path: Path) -> None:
    certificate = showing(VENDOR.issue_ek(EK_KEY.public_key()), chain=())
    add(tmp_path, vendor_folder="test", vendor=ENTRY, certificate=VENDOR.intermediate.der, now=NOW)
    with pytest.raises(errors.EkUntrusted):
        prove_ek(certificate, roots=TrustStore.load(tmp_path))
    add(tmp_path, vendor_folder="test", vendor=None, certificate=VENDOR.intermediate.der, now=NOW, trust=True)
    prove_ek(certificate, roots=TrustStore.load(tmp_path))


def test_what_is_no_ca_is_not_added(tmp_path: Path) -> None:
    with pytest.raises(errors.ChainNotCa):
        add(tmp_path, vendor_folder="t", vendor=ENTRY, certificate=VENDOR.issue_ek(EK_KEY.public_key()), now=NOW)
    damaged = bytearray(VENDOR.root.der)
    damaged[-1] ^= 1
    with pytest.raises(errors.ChainSignature):
        add(tmp_path, vendor_folder="t", vendor=ENTRY, certificate=bytes(damaged), now=NOW)
    with pytest.raises(Misconfigured, match="self-signed"):
        add(tmp_path, vendor_folder="t", vendor=ENTRY, certificate=VENDOR.root.der, now=NOW, trust=False)
    assert list(tmp_path.iterdir()) == []


def test_an_entry_that_is_there_is_not_changed_by_adding(tmp_path: Path) -> None:
    add(tmp_path, vendor_folder="test", vendor=ENTRY, certificate=VENDOR.root.der, now=NOW)
    wider = replace(ENTRY, manufacturers=frozenset(("id:49465800",)))
    with pytest.raises(Misconfigured, match="says something else"):
        add(tmp_path, vendor_folder="test", vendor=wider, certificate=FOREIGN.root.der, now=NOW)


def test_the_same_root_under_two_vendors_is_refused(tmp_path: Path) -> None:
    add(tmp_path, vendor_folder="one", vendor=ENTRY, certificate=VENDOR.root.der, now=NOW)
    with pytest.raises(Misconfigured, match="one vendor"):
        add(tmp_path, vendor_folder="two", vendor=ENTRY, certificate=VENDOR.root.der, now=NOW)


@pytest.mark.parametrize("name", ["", "..", "a/b", "Infineon", "-x", "x" * 33])
def test_a_vendor_s_folder_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(Misconfigured, match="folder"):
        add(tmp_path, vendor_folder=name, vendor=ENTRY, certificate=VENDOR.root.der, now=NOW)


BAD_FOLDERS: dict[str, dict[str, bytes]] = {
    "a vendor without an entry": {f"v/{ROOTS}/r.der": VENDOR.root.der},
    "a file at the top": VENDOR.files() | {"README": b""},
    "a file in another place": VENDOR.files() | {"test-vendor/other/r.der": VENDOR.root.der},
    "a file too deep": VENDOR.files() | {f"test-vendor/{ROOTS}/a/r.der": VENDOR.root.der},
    "another file beside the entry": VENDOR.files() | {"test-vendor/notes.txt": b""},
    "a root that is none": VENDOR.files() | {f"test-vendor/{ROOTS}/x.der": b"x"},
    "a bundle": VENDOR.files()
    | {f"test-vendor/{INTERMEDIATES}/x.pem": VENDOR.root.certificate.public_bytes(Encoding.PEM) * 2},
    "PEM that is not base64": VENDOR.files()
    | {f"test-vendor/{ROOTS}/x.pem": b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"},
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_folder_with_anything_unexpected_is_refused(case: str) -> None:
    with pytest.raises(Misconfigured):
        TrustStore.from_files(BAD_FOLDERS[case])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="nowhere"):
        TrustStore.load(tmp_path / "nowhere")


def test_a_folder_that_can_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    VENDOR.write_to(tmp_path)

    def fail(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(Misconfigured, match="Permission denied"):
        TrustStore.load(tmp_path)


def test_hidden_files_are_not_part_of_the_store(tmp_path: Path) -> None:
    VENDOR.write_to(tmp_path)
    before = TrustStore.load(tmp_path).version
    (tmp_path / ".gitkeep").write_text("")
    assert TrustStore.load(tmp_path).version == before


def test_two_roots_of_one_name_are_both_tried() -> None:
    twin = VendorCa.create()
    files = VENDOR.files("a") | twin.files("b")
    for vendor in (VENDOR, twin):
        tpm = SoftwareTpm.create(vendor)
        prove_ek(tpm.enroll_request(server_name=SERVER), roots=TrustStore.from_files(files))


def test_a_link_that_held_is_not_checked_again_and_one_that_failed_is() -> None:
    store = VENDOR.trust_store()
    parsed = read_certificate(VENDOR.intermediate.der, source="x")
    root = read_certificate(VENDOR.root.der, source="x")
    other = read_certificate(build_ca("Other").der, source="x")
    for _ in range(2):
        store.check_link(parsed, root)
        with pytest.raises(errors.ChainSignature):
            store.check_link(parsed, other)


def test_firmware_that_the_entry_refuses_is_refused() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    for low, high, wanted in ((FIRMWARE, FIRMWARE, errors.FirmwareRefused), (FIRMWARE + 1, FIRMWARE + 9, None)):
        entry = replace(ENTRY, refused_firmware=(FirmwareRange(low, high, "TPM-FAIL"),))
        store = replace(VENDOR, vendor=entry).trust_store()
        if wanted is None:
            enroll(tpm, store)
            continue
        with pytest.raises(wanted, match=r"1\.2\.3\.4 is refused: TPM-FAIL"):
            enroll(tpm, store)
    assert write_firmware(FIRMWARE) == "1.2.3.4"


def every_refusal() -> list[type[BirthmarkError]]:
    """Return all classes of attestation.errors."""
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__]


def test_every_refusal_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in every_refusal()]
    assert len(codes) == len(set(codes)) > 40
    assert all(code == code.lower() and " " not in code for code in codes)
