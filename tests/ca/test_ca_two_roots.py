"""Two roots of one name in a folder: what is believed, who issues, and what follows a leaf on the wire."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from birthmark_server.ca.authority import Authority
from birthmark_server.ca.cross_sign import cross_sign
from birthmark_server.ca.errors import AuthorityBroken, UntrustedCertificate
from birthmark_server.ca.profile import CaKind
from birthmark_server.ca.root_add import root_add
from birthmark_server.ca.root_ceremony import root_init, root_revoke
from birthmark_server.ca.roots import anchors_pem
from birthmark_server.ca.standing import Standing
from birthmark_server.domain import RevocationReason
from support.pki import PASSPHRASE, make_pki
from support.two_roots import NEW, TwoRoots, add_below, make_two_roots, reopen

NOW = datetime(2030, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> TwoRoots:
    """With CRL addresses; nobody changes the folder, and who follows anything opens it again."""
    return make_two_roots(
        tmp_path_factory.mktemp("two") / "ca",
        now=NOW,
        public_url="http://pki.fleet.example",
    )


@pytest.fixture
def authority(two: TwoRoots) -> Authority:
    return reopen(two.old).authority


def links(authority: Authority) -> set[tuple[str, str]]:
    return {(link.subject.name, link.issuer.name) for link in authority.links}


def test_both_roots_have_one_name_and_a_key_and_a_crl_of_their_own(authority: Authority) -> None:
    old, new = authority.roots
    assert (old.name, new.name) == ("root", NEW)
    assert old.certificate.subject == new.certificate.subject
    assert old.key_id != new.key_id
    assert links(authority) == {("root", NEW), (NEW, "root")}
    birth_2030 = authority.issuer_named("birth-2030").certificate
    (point,) = birth_2030.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert point.full_name is not None
    assert point.full_name[0].value == "http://pki.fleet.example/crl/root-2030.crl"


def test_what_is_taken_in_issues_nothing_until_a_server_is_told(authority: Authority) -> None:
    assert authority.root.name == "root"
    active = (authority.birth, authority.fleet, authority.infra)
    assert {authority.root_of(issuer).name for issuer in active} == {"root"}
    assert len(authority.issuers) == 6


def test_a_server_that_is_told_issues_below_the_new_root_and_believes_both(two: TwoRoots, authority: Authority) -> None:
    before = two.old.device()
    authority.follow(two.standing(NEW))
    assert (authority.root.name, authority.fleet.name) == (NEW, "fleet-2030")
    for leaf in (before, two.new.device()):
        authority.verify_leaf(leaf.der, now=two.old.now)


def test_one_ca_alone_can_be_told_apart_from_its_root(authority: Authority) -> None:
    fleet = authority.issuer_named("fleet-2030")
    authority.follow(Standing({CaKind.FLEET: fleet.sha256}))
    assert (authority.root.name, authority.fleet) == ("root", fleet)
    assert authority.root_of(authority.infra).name == "root"


def test_a_chain_below_the_new_root_shows_the_link_from_the_old_one_while_that_is_believed(
    two: TwoRoots, authority: Authority
) -> None:
    new_with_old = next(link for link in authority.links if link.subject.name == NEW)
    infra = authority.issuer_named("infra-2030")
    assert authority.chain_for(infra)[1:] == (new_with_old.der,)
    assert len(authority.chain_for(authority.infra)) == 1  # below the old root: everyone has that one, or sleeps
    authority.follow(two.standing(NEW, retired=["root"]))
    assert len(authority.chain_for(infra)) == 1


def test_who_pins_the_new_root_only_finds_a_way_to_a_ca_below_the_old_one(authority: Authority) -> None:
    old_with_new = next(link for link in authority.links if link.subject.name == "root")
    assert authority.ways_to(authority.birth)[1:] == (old_with_new.der,)


def test_below_a_retired_root_birth_certificates_alone_are_believed(two: TwoRoots, authority: Authority) -> None:
    born, device, operator = two.old.birth(), two.old.device(), two.old.server()
    authority.follow(two.standing(NEW, retired=["root"]))
    assert authority.verify_leaf(born.der, now=two.old.now).name == "SN-0001"
    for leaf in (device, operator):
        with pytest.raises(UntrustedCertificate, match="none of our authorities"):
            authority.verify_leaf(leaf.der, now=two.old.now)
    assert [root.name for root in authority.in_force.roots] == [NEW]
    assert {issuer.kind for issuer in authority.in_force.issuers if "2030" not in issuer.name} == {CaKind.BIRTH}


def test_a_birth_ca_that_is_retired_itself_is_not_believed(two: TwoRoots, authority: Authority) -> None:
    born, birth = two.old.birth(), authority.birth.name
    authority.follow(two.standing(NEW, retired=["root", birth]))
    with pytest.raises(UntrustedCertificate):
        authority.verify_leaf(born.der, now=two.old.now)
    assert authority.issuer_with(authority.issuer_named(birth).sha256) is None


def test_a_retired_root_without_a_link_leaves_its_birth_certificates_unbelieved(tmp_path: Path) -> None:
    two = make_two_roots(tmp_path / "ca", now=NOW)
    born = two.old.birth()
    (two.folder / f"root.by.{NEW}.pem").unlink()
    opened = reopen(two.old).authority
    opened.follow(two.standing(NEW, retired=["root"]))
    with pytest.raises(UntrustedCertificate):
        opened.verify_leaf(born.der, now=two.old.now)


def test_retiring_is_undone_by_the_next_standing(two: TwoRoots, authority: Authority) -> None:
    device = two.old.device()
    authority.follow(two.standing(NEW, retired=["root"]))
    authority.follow(two.standing("root"))
    assert authority.root.name == "root"
    authority.verify_leaf(device.der, now=two.old.now)


@pytest.mark.parametrize("retired", [[], ["root"], ["root", NEW]], ids=str)
def test_a_standing_that_this_folder_cannot_follow_changes_nothing(
    two: TwoRoots, authority: Authority, retired: list[str]
) -> None:
    was = authority.in_force
    active = {CaKind.FLEET: "00" * 32} if not retired else {CaKind.ROOT: authority.roots[0].sha256}
    names = {member.name: member.sha256 for member in authority.authorities()}
    with pytest.raises(AuthorityBroken, match="not in the folder"):
        authority.follow(Standing(active, frozenset(names[name] for name in retired)))
    assert authority.in_force is was


def test_readers_see_one_standing_or_the_other_whole(two: TwoRoots, authority: Authority) -> None:
    over, mixed = threading.Event(), []

    def read() -> None:
        while not over.is_set():
            force = authority.in_force
            roots = {authority.root_of(issuer).name for issuer in (force.birth, force.fleet, force.infra)}
            if roots != {force.root.name}:
                mixed.append(roots)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(200):
        authority.follow(two.standing(NEW))
        authority.follow(two.standing("root"))
    over.set()
    reader.join()
    assert not mixed


def test_every_authority_is_listed_with_its_root(authority: Authority) -> None:
    listed = [(member.name, member.kind.value, member.root) for member in authority.authorities()]
    assert listed[:2] == [("root", "root", "root"), (NEW, "root", NEW)]
    assert set(listed[5:]) == {(f"{kind}-2030", kind, NEW) for kind in ("birth", "fleet", "infra")}


def test_cacerts_hold_both_links_and_the_active_root_first(two: TwoRoots, authority: Authority) -> None:
    authority.follow(two.standing(NEW))
    certificates = authority.in_force.ca_certificates
    assert certificates[:2] == (authority.roots[1].certificate, authority.roots[0].certificate)
    assert {link.certificate for link in authority.links} < set(certificates)
    assert len(certificates) == 2 + 6 + 2


def test_the_folders_own_clients_trust_all_roots(two: TwoRoots) -> None:
    trusted = x509.load_pem_x509_certificates(anchors_pem(two.folder))
    assert trusted == [root.certificate for root in two.old.authority.roots]


def test_each_root_revokes_by_its_own_crl(tmp_path: Path) -> None:
    two = make_two_roots(tmp_path / "ca", now=NOW)
    folder = two.folder
    fleet = two.old.authority.issuer_named("fleet-2030")
    new_with_old = next(link for link in two.old.authority.links if link.subject.name == NEW)
    for root, certificate in ((NEW, f"{fleet.name}.pem"), ("root", f"{NEW}.by.root.pem")):
        published = root_revoke(
            folder=folder / root,
            certificate=folder / certificate,
            reason=RevocationReason.KEY_COMPROMISE,
            passphrase=PASSPHRASE,
            now=NOW + timedelta(hours=1),
        )
        (folder / published.crl.name).write_bytes(published.crl.read_bytes())
    opened = reopen(two.old).authority
    assert links(opened) == {("root", NEW)}
    assert opened.revoked == (fleet.certificate,)
    assert [(member.name, member.root) for member in opened.authorities() if member.revoked] == [("fleet-2030", NEW)]
    assert new_with_old.certificate.serial_number in opened.roots[0].crl.revoked
    assert opened.chain_for(opened.issuer_named("infra-2030"))[1:] == ()


def test_a_link_between_other_roots_in_a_links_place_is_refused(tmp_path: Path) -> None:
    two, other = make_two_roots(tmp_path / "ca", now=NOW), make_two_roots(tmp_path / "other", now=NOW)
    place = two.folder / f"{NEW}.by.root.pem"
    for wrong in (other.folder / place.name, two.folder / f"root.by.{NEW}.pem", two.folder / f"{NEW}.pem"):
        place.write_bytes(wrong.read_bytes())
        with pytest.raises(AuthorityBroken, match=place.name):
            Authority.load(two.folder, passphrase=None, now=NOW)


def test_a_ca_below_a_root_that_is_not_in_the_folder_is_refused(tmp_path: Path) -> None:
    pki, two = make_pki(tmp_path / "ca", now=NOW), make_two_roots(tmp_path / "two", now=NOW)
    name = pki.authority.fleet.name
    (pki.folder / f"{name}.pem").write_bytes((two.folder / "fleet-2030.pem").read_bytes())
    with pytest.raises(AuthorityBroken, match="not signed by this root"):
        Authority.load(pki.folder, passphrase=None, now=NOW)


def test_a_third_root_is_reached_from_the_first_over_the_second(tmp_path: Path) -> None:
    """Each certified only its successor: a sleeper that pins the first is shown both links."""
    two = make_two_roots(tmp_path / "ca", now=NOW)
    folder, third = two.folder, two.folder / "root-2040"
    root_init(folder=third, namespace=two.old.authority.namespace, passphrase=PASSPHRASE, now=NOW, label="2040")
    cross_sign(folder=folder / NEW, other=third / "root-2040.pem", out=third / "up.pem", passphrase=PASSPHRASE, now=NOW)
    cross_sign(folder=third, other=folder / f"{NEW}.pem", out=third / "down.pem", passphrase=PASSPHRASE, now=NOW)
    root_add(folder=folder, signed=third, now=NOW)
    for kind in (CaKind.FLEET, CaKind.INFRA):
        add_below(two.old, "root-2040", kind, label="2040")
    authority = reopen(two.old).authority
    chain = [x509.load_der_x509_certificate(der) for der in authority.chain_for(authority.issuer_named("infra-2040"))]
    by_pair = {(link.subject.name, link.issuer.name): link.certificate for link in authority.links}
    assert chain[1:] == [by_pair["root-2040", NEW], by_pair[NEW, "root"]]
    born = two.old.birth()
    names = {member.name: member.sha256 for member in authority.authorities()}
    active = {
        CaKind.ROOT: names["root-2040"],
        CaKind.FLEET: names["fleet-2040"],
        CaKind.INFRA: names["infra-2040"],
    }
    authority.follow(Standing(active, frozenset({names["root"], names[NEW]})))
    authority.verify_leaf(born.der, now=NOW)
