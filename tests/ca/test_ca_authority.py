"""Opening a CA folder, and telling from a certificate who its holder is."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given
from hypothesis import strategies as st

from birthmark_server.ca import oids
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.crl import build_crl
from birthmark_server.ca.errors import (
    AuthorityBroken,
    CertificateExpired,
    CertificateNotYetValid,
    KeyUnusable,
    UntrustedCertificate,
)
from birthmark_server.ca.profile import BACKDATED, NEVER, CaKind
from birthmark_server.ca.requests import LDevIdRequest
from birthmark_server.ca.signer import BuilderKey
from birthmark_server.domain import CertificateProfile
from birthmark_server.errors import Misconfigured
from support.leaves import leaf_of
from support.pki import PASSPHRASE, Pki, make_pki


def forge(pki: Pki, template: x509.Certificate, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
    """A certificate like `template`, signed by the same issuing CA, with these extensions in place of its own."""
    issuer = next(i for i in pki.authority.issuers if i.certificate.subject == template.issuer)
    builder = (
        x509.CertificateBuilder()
        .issuer_name(template.issuer)
        .subject_name(template.subject)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(pki.now)
        .not_valid_after(pki.now + timedelta(days=1))
    )
    replaced = {value.oid: (value, critical) for value, critical in extensions}
    for extension in template.extensions:
        value, critical = replaced.pop(extension.oid, (extension.value, extension.critical))
        builder = builder.add_extension(value, critical=critical)
    for value, critical in replaced.values():
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(BuilderKey.over(issuer.signer), hashes.SHA256()).public_bytes(Encoding.DER)


def refused(pki: Pki, der: bytes) -> str:
    with pytest.raises(UntrustedCertificate) as refusal:
        pki.authority.verify_leaf(der, now=pki.now)
    return str(refusal.value)


def test_an_expired_certificate_is_told_from_a_foreign_one(pki: Pki) -> None:
    leaf = pki.device(lifetime=timedelta(hours=1))
    verify = pki.authority.verify_leaf
    verify(leaf.der, now=pki.now + timedelta(hours=1))
    with pytest.raises(CertificateExpired):
        verify(leaf.der, now=pki.now + timedelta(hours=1, seconds=1))
    with pytest.raises(CertificateNotYetValid):
        verify(leaf.der, now=pki.now - BACKDATED - timedelta(seconds=1))


def test_a_birth_certificate_never_expires(pki: Pki) -> None:
    assert pki.authority.verify_leaf(pki.birth().der, now=NEVER).profile is CertificateProfile.IDEVID


def test_a_certificate_of_another_installation_is_not_ours(pki: Pki, tmp_path: Path) -> None:
    other = make_pki(tmp_path / "other", now=pki.now, public_url="http://pki.fleet.example")
    assert "none of our authorities" in refused(pki, other.device().der)


def test_a_copy_of_our_certificate_under_another_key_is_not_ours(pki: Pki, tmp_path: Path) -> None:
    """Names and key identifiers are copied easily; the signature decides."""
    leaf, key = pki.device().certificate, ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .issuer_name(leaf.issuer)
        .subject_name(leaf.subject)
        .public_key(key.public_key())
        .serial_number(leaf.serial_number)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
    )
    for extension in leaf.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    copy = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    assert "not signed by" in refused(pki, copy)


def test_our_own_ca_certificates_are_no_leaves(pki: Pki) -> None:
    for certificate in (pki.authority.root.certificate, *(issuer.certificate for issuer in pki.authority.issuers)):
        refused(pki, certificate.public_bytes(Encoding.DER))


def test_two_roles_in_one_certificate_are_none(pki: Pki) -> None:
    station = leaf_of(pki, CertificateProfile.STATION).certificate
    both = x509.ExtendedKeyUsage([oids.CLIENT_AUTH, oids.KP_STATION, oids.KP_OPERATOR])
    assert "station and operator" in refused(pki, forge(pki, station, (both, False)))


def test_a_role_is_never_a_name(pki: Pki) -> None:
    operator = leaf_of(pki, CertificateProfile.OPERATOR).certificate
    plain = x509.ExtendedKeyUsage([oids.CLIENT_AUTH])
    assert "those of none" in refused(pki, forge(pki, operator, (plain, False)))


@pytest.mark.parametrize(
    "extension",
    [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (x509.KeyUsage(True, False, False, False, False, True, False, False, False), True),
        (x509.KeyUsage(False, False, False, False, True, False, False, False, False), True),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://fleet.example/device/other")]), False),
        (x509.SubjectAlternativeName([x509.DNSName("device-1")]), False),
    ],
    ids=["ca", "keyCertSign", "no digitalSignature", "unknown critical", "another device's URI", "no URI"],
)
def test_a_leaf_that_is_more_than_a_leaf_is_refused(pki: Pki, extension: tuple[x509.ExtensionType, bool]) -> None:
    refused(pki, forge(pki, pki.device().certificate, extension))


def test_a_certificate_of_an_older_profile_keeps_its_role(pki: Pki) -> None:
    """Certificates outlive the software that issued them: an extension more or less takes nothing away."""
    extra = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    old = forge(pki, pki.device().certificate, (extra, False))
    assert pki.authority.verify_leaf(old, now=pki.now).profile is CertificateProfile.LDEVID


@given(st.binary(max_size=400))
def test_any_bytes_are_verified_or_refused(pki: Pki, data: bytes) -> None:
    with pytest.raises(UntrustedCertificate):
        pki.authority.verify_leaf(data, now=pki.now)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # a changed byte may make it negative
@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
@example(position=12, change=1)  # the version: `cryptography` says so by an exception that is no ValueError
@example(position=15, change=128)  # a negative serial number
def test_a_certificate_with_any_byte_changed_is_refused(pki: Pki, position: int, change: int) -> None:
    der = bytearray(_LEAF or _remember(pki))
    der[position % len(der)] ^= change
    with pytest.raises(UntrustedCertificate):
        pki.authority.verify_leaf(bytes(der), now=pki.now)


_LEAF = bytearray()


def _remember(pki: Pki) -> bytes:
    _LEAF[:] = pki.device().der
    return bytes(_LEAF)


def test_an_authority_opened_without_a_passphrase_verifies_and_signs_nothing(pki: Pki) -> None:
    authority = Authority.load(pki.folder, passphrase=None, now=pki.now)
    leaf = pki.device()
    assert authority.verify_leaf(leaf.der, now=pki.now).name == "device-1"
    token = authority.fleet.prepare(LDevIdRequest(leaf.key.public_key(), "device-1", True), now=pki.now)
    with pytest.raises(KeyUnusable, match="verifying only"):
        authority.fleet.issue(token)


def test_a_wrong_passphrase_opens_nothing(pki: Pki) -> None:
    with pytest.raises(KeyUnusable, match="passphrase"):
        Authority.load(pki.folder, passphrase=b"not the right one", now=pki.now)


@pytest.mark.parametrize("name", ["root.pem", "root.crl", "fleet-2025.pem", "fleet-2025.key", "authority.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    pki = make_pki(tmp_path / "ca")
    year = pki.authority.fleet.name.removeprefix("fleet-")
    path = tmp_path / "ca" / name.replace("2025", year)
    path.unlink()
    with pytest.raises((AuthorityBroken, KeyUnusable), match=path.name):
        Authority.load(tmp_path / "ca", passphrase=PASSPHRASE, now=pki.now)


def test_a_key_beside_another_certificate_is_refused(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "ca")
    fleet, birth = pki.authority.fleet.name, pki.authority.birth.name
    (pki.folder / f"{fleet}.key").write_bytes((pki.folder / f"{birth}.key").read_bytes())
    with pytest.raises(AuthorityBroken, match="the key is not the certificate's"):
        Authority.load(pki.folder, passphrase=PASSPHRASE, now=pki.now)


def test_a_settings_file_with_an_unknown_member_is_refused(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "ca")
    path = pki.folder / "authority.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "extra": 1}))
    with pytest.raises(AuthorityBroken, match="extra"):
        Authority.load(pki.folder, passphrase=PASSPHRASE, now=pki.now)


def test_an_authority_that_the_root_revoked_is_not_there(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "ca")
    old, leaf = pki.authority.fleet, pki.device()
    pki.add(CaKind.FLEET, label="next")
    pki.revoke(old.name)
    authority = Authority.load(pki.folder, passphrase=PASSPHRASE, now=pki.now)
    assert authority.fleet.name == "fleet-next"
    assert (authority.issuer_with(old.sha256), authority.revoked) == (None, (old.certificate,))
    assert old.certificate.public_bytes(Encoding.PEM) not in authority.bundle_pem()
    with pytest.raises(UntrustedCertificate, match="none of our authorities"):
        authority.verify_leaf(leaf.der, now=pki.now)


@pytest.mark.parametrize("kind", [CaKind.BIRTH, CaKind.FLEET, CaKind.INFRA])
def test_a_folder_whose_only_authority_of_a_kind_is_revoked_does_not_open(tmp_path: Path, kind: CaKind) -> None:
    pki = make_pki(tmp_path / "ca")
    pki.revoke(next(issuer.name for issuer in pki.authority.issuers if issuer.kind is kind))
    with pytest.raises(Misconfigured, match=f"no {kind} CA"):
        Authority.load(pki.folder, passphrase=None, now=pki.now)


def test_a_root_crl_that_is_not_the_roots_is_refused(tmp_path: Path) -> None:
    pki, other = make_pki(tmp_path / "ca"), make_pki(tmp_path / "other")
    path = pki.folder / "root.crl"
    genuine = path.read_bytes()
    changed = bytearray(genuine)
    changed[-1] ^= 1
    of_leaves = build_crl(pki.authority.fleet, [], number=9, now=pki.now, next_update=pki.now + timedelta(days=1))
    for data in ((other.folder / "root.crl").read_bytes(), bytes(changed), of_leaves, b"", b"garbage", genuine[:-1]):
        path.write_bytes(data)
        with pytest.raises(AuthorityBroken, match=r"root\.crl"):
            Authority.load(pki.folder, passphrase=PASSPHRASE, now=pki.now)
    path.write_bytes(genuine)
    Authority.load(pki.folder, passphrase=PASSPHRASE, now=pki.now)


def test_a_certificate_in_the_place_of_another_kind_is_refused(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "ca")
    fleet, birth = pki.authority.fleet.name, pki.authority.birth.name
    for suffix in ("key", "pem"):
        (pki.folder / f"{fleet}.{suffix}").write_bytes((pki.folder / f"{birth}.{suffix}").read_bytes())
    with pytest.raises(AuthorityBroken, match="extensions are not those"):
        Authority.load(pki.folder, passphrase=PASSPHRASE, now=pki.now)


def test_the_bundle_for_a_tls_server_holds_the_root_and_the_chosen_cas(pki: Pki) -> None:
    assert len(x509.load_pem_x509_certificates(pki.authority.bundle_pem())) == 4
    fleet = x509.load_pem_x509_certificates(pki.authority.bundle_pem(CaKind.FLEET))
    assert fleet == [pki.authority.root.certificate, pki.authority.fleet.certificate]
