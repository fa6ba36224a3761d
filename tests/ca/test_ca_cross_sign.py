"""The ceremony of a root's successor: two roots certify each other, and the servers take that in."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca import files
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.ca_certificate import read_certificate
from birthmark_server.ca.ceremony import authority_add, take_in
from birthmark_server.ca.cross_sign import cross_sign
from birthmark_server.ca.errors import AuthorityBroken, CeremonyRefused, RequestRefused
from birthmark_server.ca.extensions import key_identifier
from birthmark_server.ca.layout import Layout
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import NEVER, CaKind
from birthmark_server.ca.root_add import root_add
from birthmark_server.ca.root_ceremony import root_crl, root_init, root_revoke, root_sign
from birthmark_server.domain import RevocationReason
from support.pki import PASSPHRASE, Pki, make_pki
from support.two_roots import NEW, add_below, bring_root, reopen

NOW = datetime(2030, 3, 1, 12, 0, 0, tzinfo=UTC)
URL = "http://pki.fleet.example"
NAMES = Namespace.checked(organization="Example", trust_domain="fleet.example", public_url=URL)


def make_root(folder: Path, *, label: str = "", names: Namespace = NAMES, now: datetime = NOW) -> Path:
    """Make a root and return its certificate's file."""
    made = root_init(folder=folder, namespace=names, passphrase=PASSPHRASE, now=now, label=label)
    return made.certificate


def sign(folder: Path, other: Path, out: Path) -> x509.Certificate:
    done = cross_sign(folder=folder, other=other, out=out, passphrase=PASSPHRASE, now=NOW + timedelta(days=30))
    return read_certificate(done.certificate)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path / "ca", now=NOW, public_url=URL)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- on the roots' machines


def test_a_further_root_is_told_apart_by_its_files_and_called_the_same(tmp_path: Path) -> None:
    one, two = make_root(tmp_path / "one"), make_root(tmp_path / "two", label="2030")
    assert sorted(path.name for path in two.parent.iterdir()) == [
        *("root-2030.crl", "root-2030.key", "root-2030.pem", "root.json", "transcript-0001.txt"),
    ]
    assert read_certificate(one).subject == read_certificate(two).subject
    published = root_crl(folder=two.parent, passphrase=PASSPHRASE, now=NOW)
    assert (published.crl.name, published.number) == ("root-2030.crl", 2)


@pytest.mark.parametrize("label", ["2030/..", "Two", "a.b", "x" * 33, " "])
def test_a_label_that_is_no_name_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(CeremonyRefused, match="want a label"):
        make_root(tmp_path / "root", label=label)


def test_a_link_certifies_the_others_name_and_key_since_both_roots_exist(tmp_path: Path) -> None:
    old, new = make_root(tmp_path / "old", now=NOW - timedelta(days=900)), make_root(tmp_path / "new", label="2030")
    link = sign(tmp_path / "old", new, tmp_path / "link.pem")
    other = read_certificate(new)
    assert (link.subject, link.public_key()) == (other.subject, other.public_key())
    link.verify_directly_issued_by(read_certificate(old))
    assert (link.not_valid_before_utc, link.not_valid_after_utc) == (other.not_valid_before_utc, NEVER)
    (point,) = link.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert point.full_name is not None
    assert point.full_name[0].value == f"{URL}/crl/root.crl"


def test_an_act_of_cross_signing_is_written_down(tmp_path: Path) -> None:
    make_root(tmp_path / "old")
    new = make_root(tmp_path / "new", label="2030")
    link = sign(tmp_path / "old", new, tmp_path / "link.pem")
    written = sorted((tmp_path / "old").glob("transcript-*.txt"))[-1].read_text()
    for said in (read_certificate(new), link):
        assert said.fingerprint(hashes.SHA256()).hex() in written
    assert (tmp_path / "old" / "signed" / f"{link.serial_number:x}.pem").exists()


def test_the_same_root_gets_the_same_link_again(tmp_path: Path) -> None:
    make_root(tmp_path / "old")
    new = make_root(tmp_path / "new", label="2030")
    assert sign(tmp_path / "old", new, tmp_path / "1.pem") == sign(tmp_path / "old", new, tmp_path / "2.pem")
    assert len(list((tmp_path / "old").glob("signed/*"))) == 1
    (tmp_path / "mine.pem").write_text("mine")
    with pytest.raises(CeremonyRefused, match="nothing was overwritten"):
        sign(tmp_path / "old", new, tmp_path / "mine.pem")


def test_a_link_that_was_revoked_is_not_made_again(tmp_path: Path) -> None:
    make_root(tmp_path / "old")
    new = make_root(tmp_path / "new", label="2030")
    sign(tmp_path / "old", new, tmp_path / "link.pem")
    root_revoke(
        folder=tmp_path / "old",
        certificate=tmp_path / "link.pem",
        reason=RevocationReason.SUPERSEDED,
        passphrase=PASSPHRASE,
        now=NOW,
    )
    with pytest.raises(RequestRefused, match="was revoked"):
        sign(tmp_path / "old", new, tmp_path / "again.pem")


def forged_root(template: Path, out: Path, *, change: str) -> Path:
    """A self-made certificate like a root's, but for one thing."""
    root, key = read_certificate(template), ec.generate_private_key(ec.SECP384R1())
    key_id = x509.SubjectKeyIdentifier(key_identifier(key.public_key()))
    builder = (
        x509.CertificateBuilder()
        .issuer_name(root.subject)
        .subject_name(root.subject)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(root.not_valid_before_utc)
        .not_valid_after(NOW if change == "expired" else root.not_valid_after_utc)
    )
    path_length = 5 if change == "path length" else 2
    builder = (
        builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
        .add_extension(key_id, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
    )
    signer = ec.generate_private_key(ec.SECP384R1()) if change == "signature" else key
    out.write_bytes(builder.sign(signer, hashes.SHA384()).public_bytes(Encoding.PEM))
    return out


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda old, tmp: old, "is this root itself"),
        (
            lambda old, tmp: make_root(tmp / "x", names=Namespace.checked(organization="X", trust_domain="a.b")),
            "want a root that is called",
        ),
        (lambda old, tmp: forged_root(old, tmp / "x.pem", change="path length"), "extensions are not those"),
        (lambda old, tmp: forged_root(old, tmp / "x.pem", change="signature"), "not signed by this root"),
        (lambda old, tmp: forged_root(old, tmp / "x.pem", change="expired"), "valid from"),
        (lambda old, tmp: tmp / "absent.pem", "No such file"),
        (lambda old, tmp: tmp / "old" / "root.json", "want one certificate in PEM"),
    ],
    ids=["itself", "other names", "other profile", "not self-signed", "expired", "absent", "no certificate"],
)
def test_a_root_certifies_nothing_but_another_root_of_its_names(
    tmp_path: Path, make: Callable[[Path, Path], Path], why: str
) -> None:
    old = make_root(tmp_path / "old")
    other = make(old, tmp_path)
    before = tree(tmp_path / "old")
    with pytest.raises(RequestRefused, match=why):
        sign(tmp_path / "old", other, tmp_path / "link.pem")
    assert tree(tmp_path / "old") == before
    assert not (tmp_path / "link.pem").exists()


def test_an_issuing_cas_certificate_is_no_root_to_certify(pki: Pki, tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="want another root of these names"):
        sign(pki.folder / "root", pki.folder / f"{pki.authority.fleet.name}.pem", tmp_path / "link.pem")


def test_a_root_signs_no_request_for_a_key_that_it_linked(pki: Pki, tmp_path: Path) -> None:
    """One key, one role: the new root's key can't become a Fleet CA's as well."""
    made = authority_add(folder=pki.folder, kind=CaKind.FLEET, passphrase=PASSPHRASE, now=NOW, label="2031")
    ((_, request),) = made.requests
    key = x509.load_pem_x509_csr(request.read_bytes()).public_key()
    (pki.folder / "root" / "signed" / "1.pem").write_bytes(link_for(pki, key))
    with pytest.raises(RequestRefused, match="certified that key before"):
        root_sign(
            folder=pki.folder / "root",
            request=request,
            kind=CaKind.FLEET,
            out=tmp_path / "fleet.pem",
            passphrase=PASSPHRASE,
            now=NOW,
        )


def link_for(pki: Pki, key: object) -> bytes:
    """A certificate of the old root for that key under the roots' name."""
    assert isinstance(key, ec.EllipticCurvePublicKey)
    root = pki.authority.root.certificate
    builder = x509.CertificateBuilder().issuer_name(root.subject).subject_name(root.subject).public_key(key)
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NEVER)
    return builder.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()).public_bytes(Encoding.PEM)


# -- on the server's machine


def test_a_new_root_comes_into_a_folder_in_use_and_changes_nothing_yet(pki: Pki) -> None:
    before = tree(pki.folder)
    added = root_add(folder=pki.folder, signed=bring_root(pki), now=NOW)
    assert added.name == NEW
    after = reopen(pki).authority
    assert (after.root.sha256, after.fleet.sha256) == (pki.authority.root.sha256, pki.authority.fleet.sha256)
    assert [root.name for root in after.roots] == ["root", NEW]
    assert len(after.links) == 2
    now = tree(pki.folder)
    assert {name for name in before if now[name] != before[name]} == {"authority.json"}
    assert added.sha256 in added.transcript.read_text()


def test_taking_a_root_in_twice_changes_nothing(pki: Pki) -> None:
    stick = bring_root(pki)
    root_add(folder=pki.folder, signed=stick, now=NOW)
    before = {name: data for name, data in tree(pki.folder).items() if "transcript" not in name}
    root_add(folder=pki.folder, signed=stick, now=NOW)
    assert {name: data for name, data in tree(pki.folder).items() if "transcript" not in name} == before


class Cut(Exception):
    """The power went."""


@pytest.mark.parametrize("write", range(1, 7))
def test_taking_a_root_in_can_be_cut_at_any_write(pki: Pki, monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    stick, count = bring_root(pki), 0
    real = {name: getattr(files, name) for name in ("write_new", "replace")}

    def cutting(name: str) -> Callable[..., None]:
        def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
            nonlocal count
            count += 1
            if count != write or write % 2:
                real[name](path, data, mode=mode)
            if count == write:
                raise Cut(path)

        return write_file

    with monkeypatch.context() as patch:
        for name in real:
            patch.setattr(files, name, cutting(name))
        with pytest.raises(Cut):
            root_add(folder=pki.folder, signed=stick, now=NOW)
    reopen(pki)  # the folder opens, with or without it
    root_add(folder=pki.folder, signed=stick, now=NOW)
    assert [root.name for root in reopen(pki).authority.roots] == ["root", NEW]


def remove(name: str) -> Callable[[Path, Pki], None]:
    return lambda stick, _pki: (stick / name).unlink()


def rename(stick: Path, _pki: Pki) -> None:
    for suffix in ("pem", "crl"):
        (stick / f"{NEW}.{suffix}").rename(stick / f"new.{suffix}")


def another_root(stick: Path, _pki: Pki) -> None:
    other = make_root(
        stick.parent / "another", label="2031", names=Layout.read(stick.parent / "authority.json").namespace
    )
    (stick / "root-2031.pem").write_bytes(other.read_bytes())


def other_names(stick: Path, pki: Pki) -> None:
    """The link that this root made under another CRL address than the installation's."""
    names = Namespace.checked(
        organization="Example Devices", trust_domain="fleet.example", public_url="http://x.example"
    )
    other = make_root(stick.parent / "x", label="2030", names=names)
    old = pki.folder / "root" / "root.pem"
    for file, folder, subject in (
        ("new-with-old.pem", pki.folder / "root", other),
        ("old-with-new.pem", stick.parent / "x", old),
    ):
        (stick / file).unlink()
        sign(folder, subject, stick / file)
    for suffix in ("pem", "crl"):
        (stick / f"{NEW}.{suffix}").write_bytes((stick.parent / "x" / f"{NEW}.{suffix}").read_bytes())


def revoked(stick: Path, pki: Pki) -> None:
    published = root_revoke(
        folder=pki.folder / NEW,
        certificate=stick / "old-with-new.pem",
        reason=RevocationReason.SUPERSEDED,
        passphrase=PASSPHRASE,
        now=NOW,
    )
    (stick / f"{NEW}.crl").write_bytes(published.crl.read_bytes())


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (remove("new-with-old.pem"), "want links in both directions"),
        (remove("old-with-new.pem"), "want links in both directions"),
        (remove(f"{NEW}.crl"), "No such file"),
        (remove(f"{NEW}.pem"), "want one new root"),
        (rename, r"want the name that birthmark root init --label gave it|want a label"),
        (another_root, "want one new root, .* got 2"),
        (other_names, "extensions are not those of a link"),
        (revoked, "is revoked"),
        (
            lambda stick, pki: (stick / f"{NEW}.crl").write_bytes((pki.folder / "root.crl").read_bytes()),
            "not signed by",
        ),
    ],
    ids=[
        "no NewWithOld",
        "no OldWithNew",
        "no CRL",
        "no root",
        "renamed",
        "two roots",
        "other names",
        "revoked",
        "CRL",
    ],
)
def test_a_root_that_is_not_wholly_proven_is_not_taken_in(
    pki: Pki, spoil: Callable[[Path, Pki], object], why: str
) -> None:
    stick = bring_root(pki)
    spoil(stick, pki)
    before = {name: data for name, data in tree(pki.folder).items() if "/" not in name}
    with pytest.raises((AuthorityBroken, CeremonyRefused), match=why):
        root_add(folder=pki.folder, signed=stick, now=NOW)
    assert {name: data for name, data in tree(pki.folder).items() if "/" not in name} == before


def test_a_root_comes_in_while_a_cas_request_is_still_on_its_way(pki: Pki, tmp_path: Path) -> None:
    made = authority_add(folder=pki.folder, kind=CaKind.FLEET, passphrase=PASSPHRASE, now=NOW, label="next")
    root_add(folder=pki.folder, signed=bring_root(pki), now=NOW)
    ((_, request),) = made.requests
    root, stick = pki.folder / NEW, tmp_path / "stick"
    stick.mkdir()
    root_sign(folder=root, request=request, kind=CaKind.FLEET, out=stick / "f.pem", passphrase=PASSPHRASE, now=NOW)
    for suffix in ("pem", "crl"):
        (stick / f"{NEW}.{suffix}").write_bytes((root / f"{NEW}.{suffix}").read_bytes())
    take_in(folder=pki.folder, signed=stick, now=NOW)
    authority = reopen(pki).authority
    assert authority.root_of(authority.issuer_named("fleet-next")).name == NEW


def test_cas_below_a_root_that_was_not_taken_in_are_refused(pki: Pki) -> None:
    bring_root(pki)
    with pytest.raises(CeremonyRefused, match="birthmark init --add root"):
        add_below(pki, NEW, CaKind.FLEET, label="2030")


def test_a_ca_that_the_new_root_signed_under_another_crl_address_is_refused(pki: Pki, tmp_path: Path) -> None:
    """What the root's certificate does not tell of its names shows in what it signs."""
    root_add(folder=pki.folder, signed=bring_root(pki), now=NOW)
    path = pki.folder / NEW / "root.json"
    path.write_text(path.read_text().replace(URL, "http://elsewhere.example"))
    with pytest.raises(AuthorityBroken, match="extensions are not those"):
        add_below(pki, NEW, CaKind.FLEET, label="2030")


def test_what_lies_beside_the_roots_in_what_is_brought_must_be_theirs(pki: Pki, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "fleet.pem").write_bytes((pki.folder / f"{pki.authority.fleet.name}.pem").read_bytes())
    with pytest.raises(CeremonyRefused, match="no root's certificate"):
        take_in(folder=pki.folder, signed=stick, now=NOW)
    other = make_root(tmp_path / "other")
    (stick / "root.pem").write_bytes(other.read_bytes())
    with pytest.raises(AuthorityBroken, match=r"fleet\.pem: not signed by a root in"):
        take_in(folder=pki.folder, signed=stick, now=NOW)


def test_a_folder_from_before_there_were_links_opens_as_it_is(pki: Pki) -> None:
    """Its settings file has no word of further roots, and gets none until there is one."""
    assert "more_roots" not in (pki.folder / "authority.json").read_text()
    opened = Authority.load(pki.folder, passphrase=PASSPHRASE, now=NOW)
    assert (len(opened.roots), opened.links) == (1, ())
    assert opened.chain_for(opened.fleet) == opened.ways_to(opened.fleet)
