"""Which trust bundles a device takes: each reason to refuse one; what is on the disk; chains below several roots."""

import hashlib
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birthmark_agent.chain import verify_chain
from birthmark_agent.enrollment import verify_birth_chain
from birthmark_agent.errors import Misconfigured, UnusableAnswer
from birthmark_agent.files import Files
from birthmark_agent.trust import TRUST_FILE, Trust, read_trust, write_trust
from birthmark_agent.trust_bundle import (
    TrustRefused,
    TrustStale,
    TrustUnlinked,
    TrustUnsigned,
    check_version,
    read_bundle,
    verify_bundle,
)
from birthmark_server.ca.issuer import to_der
from birthmark_server.domain import CertificateProfile
from birthmark_wire.rotation import COMMAND_TYPE
from birthmark_wire.trust import MOST_VERSION, BundleIssuer, IssuerKind, TrustBundle
from support.new_root import DAY, NewRoot, Signed, bundle, ca_like, like, root_like, sign_bundle
from support.pki import Leaf, Pki, make_pki

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki") / "ca", now=NOW)


@pytest.fixture(scope="module")
def new(pki: Pki) -> NewRoot:
    return NewRoot.of(pki)


@pytest.fixture(scope="module")
def signer(pki: Pki) -> Leaf:
    return pki.infra(CertificateProfile.COMMAND, "srv-command")


@pytest.fixture
def flashed(pki: Pki) -> Trust:
    return Trust(0, pki.root_pem.read_text())


def take(jws: bytes, pinned: Trust, *, at: datetime | None = NOW) -> Trust:
    """What the agent does with a bundle, but for the disk."""
    arrived = read_bundle(jws)
    check_version(arrived, pinned=pinned)
    verify_bundle(arrived, pinned=pinned, at=at)
    return Trust.of(arrived.message.payload)


# -- what is taken


def test_a_root_is_staged_becomes_the_first_and_the_old_one_goes(new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    links = (new.new_with_old, new.old_with_new)
    old_der, new_der = new.old.der, new.new.der
    staged = take(sign_bundle(bundle(1, old_der, new_der, links=links), signer), flashed)
    assert staged.anchors_pem == ssl.DER_cert_to_PEM_cert(old_der) + ssl.DER_cert_to_PEM_cert(new_der)
    younger = new.below(signer)
    active = take(sign_bundle(bundle(2, new_der, old_der, links=links), younger), staged)
    last = take(sign_bundle(bundle(3, new_der), new.below(signer, linked=False)), active)
    assert (last.version, last.anchors_pem) == (3, new.pem)


def test_who_slept_through_all_of_it_takes_the_new_root_alone_by_its_link(
    new: NewRoot, signer: Leaf, flashed: Trust
) -> None:
    issuers = (BundleIssuer(IssuerKind.FLEET, new.fleet.der), BundleIssuer(IssuerKind.INFRA, b"passed over"))
    after = bundle(9, new.new.der, links=(new.old_with_new, new.new_with_old), issuers=issuers)
    assert take(sign_bundle(after, new.below(signer)), flashed).version == 9


def test_without_a_clock_it_is_judged_when_it_was_issued(new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    jws = sign_bundle(bundle(1, new.old.der, new.new.der, links=(new.new_with_old,)), signer)
    assert take(jws, flashed, at=None).version == 1
    with pytest.raises(TrustUnsigned, match="does not stand"):
        take(jws, flashed, at=NOW + timedelta(days=36_500))


# -- trust-unsigned


@pytest.mark.parametrize(
    "profile", [CertificateProfile.CONTROL, CertificateProfile.OPERATOR, CertificateProfile.DENY_LIST]
)
def test_no_other_role_orders_roots(pki: Pki, flashed: Trust, new: NewRoot, profile: CertificateProfile) -> None:
    leaf = pki.infra(profile, "ann-1" if profile is CertificateProfile.OPERATOR else "srv-x")
    with pytest.raises(TrustUnsigned, match="not one of those that command"):
        take(sign_bundle(bundle(1, new.old.der), leaf), flashed)


def test_a_device_orders_none(pki: Pki, flashed: Trust, new: NewRoot) -> None:
    with pytest.raises(TrustUnsigned, match="not one of those that command"):
        take(sign_bundle(bundle(1, new.old.der), pki.device("dev-2")), flashed)


def test_a_signer_below_the_new_root_without_its_link_is_nobody_to_who_pins_the_old_one(
    new: NewRoot, signer: Leaf, flashed: Trust
) -> None:
    after = bundle(1, new.new.der, links=(new.new_with_old,))
    with pytest.raises(TrustUnsigned, match="by the roots that are pinned"):
        take(sign_bundle(after, new.below(signer, linked=False)), flashed)


def test_a_bundle_that_drops_all_roots_of_its_signer_is_refused(new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    with pytest.raises(TrustUnsigned, match="by the roots of the bundle"):
        take(sign_bundle(bundle(1, new.new.der, links=(new.new_with_old,)), signer), flashed)


def test_what_was_changed_on_its_way_is_unsigned(new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    header, payload, signature = sign_bundle(bundle(1, new.old.der), signer).split(b".")
    _h, other, _s = sign_bundle(bundle(2, new.old.der), signer).split(b".")
    with pytest.raises(TrustUnsigned, match="the signature is not its signer's"):
        take(b".".join((header, other, signature)), flashed)
    assert take(b".".join((header, payload, signature)), flashed).version == 1


def test_a_signed_message_of_another_kind_is_no_bundle(new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    with pytest.raises(TrustUnsigned, match="no signed bundle"):
        take(sign_bundle(bundle(1, new.old.der), signer, message_type=COMMAND_TYPE), flashed)


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(TrustUnsigned, match="no signed bundle"):
        read_bundle(data)


@given(garbage=st.binary(min_size=1, max_size=300), place=st.sampled_from(["root", "link"]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_signed_bundle_with_anything_in_place_of_certificates_is_taken_or_refused(
    garbage: bytes, place: str, new: NewRoot, signer: Leaf, flashed: Trust
) -> None:
    roots = (new.old.der, garbage) if place == "root" else (new.old.der, new.new.der)
    with pytest.raises(TrustUnlinked):
        take(sign_bundle(bundle(1, *roots, links=(garbage,)), signer), flashed)


# -- trust-stale


def test_versions_rise(new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    links = (new.new_with_old,)
    third = take(sign_bundle(bundle(3, new.old.der, new.new.der, links=links), signer), flashed)
    for version in (1, 2, 3):
        with pytest.raises(TrustStale):
            take(sign_bundle(bundle(version, new.old.der), signer), third)


def test_no_version_uses_up_those_to_come(new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    room = int(NOW.timestamp())
    for version in (room + 2 * 86_400, MOST_VERSION):
        jws = sign_bundle(bundle(version, new.old.der), signer)
        with pytest.raises(TrustStale, match="none can be above"):
            take(jws, flashed)
        with pytest.raises(TrustStale, match="none can be above"):
            take(jws, flashed, at=None)
    assert take(sign_bundle(bundle(room, new.old.der), signer), flashed).version == room


# -- trust-unlinked


def refuse(roots: tuple[bytes, ...], links: tuple[bytes, ...], signer: Leaf, pinned: Trust, match: str) -> None:
    with pytest.raises(TrustUnlinked, match=match):
        take(sign_bundle(bundle(1, *roots, links=links), signer), pinned)


def test_a_root_without_a_link_is_refused(new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    refuse((new.old.der, new.new.der), (), signer, flashed, "no link by a pinned root")
    refuse((new.old.der, new.new.der), (new.old_with_new,), signer, flashed, "no link by a pinned root")


def test_a_link_counts_only_if_a_pinned_root_signed_it(pki: Pki, new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    thief = root_like(new.old.certificate)  # the old root's very name
    by_itself = to_der(like(new.new.certificate, by=thief))
    below = Signed(new.infra.certificate, new.infra.key)
    by_a_ca = to_der(like(new.new.certificate, by=below))
    for link in (by_itself, by_a_ca, new.new.der):
        refuse((new.old.der, new.new.der), (link,), signer, flashed, "no link by a pinned root")
    leaf_as_link = pki.infra(CertificateProfile.COMMAND, "srv-y").der
    refuse((new.old.der, new.new.der), (leaf_as_link,), signer, flashed, "no link by a pinned root")


def test_a_root_that_only_another_new_root_vouches_for_is_refused(new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    third = root_like(new.old.certificate)
    links = (new.new_with_old, to_der(like(third.certificate, by=new.new)))
    refuse((new.old.der, new.new.der, third.der), links, signer, flashed, "no link by a pinned root")


def test_a_link_must_be_a_cas_and_valid(new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    model = new.new.certificate
    for link in (
        like(model, by=new.old, without=(x509.BasicConstraints,)),
        like(model, by=new.old, without=(x509.KeyUsage,)),
        like(model, by=new.old, without=(x509.BasicConstraints, x509.KeyUsage)),
        like(model, by=new.old, not_before=NOW - 9 * DAY, not_after=NOW - DAY),
        like(model, by=new.old, not_before=NOW + DAY, not_after=NOW + 9 * DAY),
    ):
        refuse((new.old.der, model.public_bytes(Encoding.DER)), (to_der(link),), signer, flashed, "no link")


def test_who_holds_an_issuing_cas_key_makes_no_root_of_it(pki: Pki, new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    for certificate in (
        pki.authority.infra.certificate,
        pki.authority.fleet.certificate,
        pki.authority.birth.certificate,
    ):
        ca = ca_like(certificate, by=new.old)  # its key is on a server; the pinned root signed its certificate
        usurper = like(certificate, by=Signed(ca.certificate, ca.key), public=ca.key.public_key())
        freed = like(certificate, by=ca, public=ca.key.public_key(), without=(x509.ExtendedKeyUsage,))
        for root in (usurper, freed):
            refuse((new.old.der, to_der(root)), (ca.der,), signer, flashed, "no link by a pinned root")


def test_a_new_root_must_be_a_ca_signed_by_itself_and_valid(new: NewRoot, signer: Leaf, flashed: Trust) -> None:
    model, own = new.new.certificate, new.new
    for root, why in (
        (like(model, by=new.old), "signed by itself"),
        (like(model, by=own, without=(x509.BasicConstraints,)), "not a CA's"),
        (like(model, by=own, without=(x509.KeyUsage,)), "not a CA's"),
        (like(model, by=own, not_before=NOW + DAY, not_after=NOW + 9 * DAY), "is not valid at"),
        (like(model, by=own, not_before=NOW - 9 * DAY, not_after=NOW - DAY), "is not valid at"),
    ):
        refuse((new.old.der, to_der(root)), (new.new_with_old,), signer, flashed, why)


# -- on the disk


def test_what_was_taken_is_pinned_over_restarts(tmp_path: Path, pki: Pki, new: NewRoot) -> None:
    files = Files.at(tmp_path / "state")
    assert read_trust(files, flashed=pki.root_pem) == Trust(0, pki.root_pem.read_text())
    written = write_trust(files, bundle(4, new.new.der, links=(new.new_with_old,)).encode())
    assert read_trust(files, flashed=pki.root_pem) == written
    assert (written.version, written.anchors_pem, written.links) == (4, new.pem, (new.new_with_old,))
    assert read_trust(files, flashed=tmp_path / "gone") == written
    (tmp_path / "state" / TRUST_FILE).unlink()
    with pytest.raises(Misconfigured, match="can't be read"):
        read_trust(files, flashed=tmp_path / "gone")


def test_a_damaged_file_leaves_what_was_flashed(
    tmp_path: Path, pki: Pki, new: NewRoot, caplog: pytest.LogCaptureFixture
) -> None:
    files = Files.at(tmp_path / "state")
    write_trust(files, bundle(4, new.new.der).encode())
    path = tmp_path / "state" / TRUST_FILE
    good = path.read_bytes()
    flashed = Trust(0, pki.root_pem.read_text())
    for bad in (b"", b"garbage", good[:-1], good[:70], good[:200] + b"A" + good[201:], good + b"\n"):
        path.write_bytes(bad)
        assert read_trust(files, flashed=pki.root_pem) == flashed
    foreign = b'{"protocol":"birthmark/9"}'
    path.write_bytes(hashlib.sha256(foreign).hexdigest().encode() + b"\n" + foreign)
    assert read_trust(files, flashed=pki.root_pem) == flashed
    path.write_bytes(good)
    assert read_trust(files, flashed=pki.root_pem).version == 4
    assert caplog.text.count("trust-bundle-unusable") == 7


# -- chains below several roots


def spki_of(leaf: Leaf) -> bytes:
    return leaf.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_chain_may_end_in_any_pinned_root_and_keeps_its_link(pki: Pki, new: NewRoot) -> None:
    leaf = pki.device("dev-1")
    younger = new.below(leaf, linked=False)
    link, back = (x509.load_der_x509_certificate(der) for der in (new.new_with_old, new.old_with_new))
    cacerts = [new.new.certificate, pki.authority.fleet.certificate, new.fleet.certificate, back, link]
    both = [new.new.certificate, new.old.certificate]
    pool = [younger.certificate, *cacerts]
    wanted = (younger.der, new.fleet.der, new.new_with_old)
    for anchors in (both, both[:1], both[1:], both[::-1]):
        assert verify_chain(pool, spki=spki_of(leaf), anchors=anchors) == wanted
    bare = [younger.certificate, new.fleet.certificate]
    assert verify_chain(bare, spki=spki_of(leaf), anchors=both) == wanted[:2]
    with pytest.raises(UnusableAnswer, match="no path from"):
        verify_chain(bare, spki=spki_of(leaf), anchors=both[1:])
    elder = [leaf.certificate, pki.authority.fleet.certificate]
    assert verify_chain(elder, spki=spki_of(leaf), anchors=both) == (leaf.der, to_der(elder[1]))


def test_a_birth_certificate_outlives_its_root_by_the_bundles_links(pki: Pki, new: NewRoot) -> None:
    birth = pki.birth("SN-1")
    chain = (birth.der, to_der(pki.authority.birth.certificate))
    after = [new.new.certificate]
    with pytest.raises(UnusableAnswer, match="no path from"):
        verify_birth_chain(chain, spki=spki_of(birth), anchors=after)
    linked = (*chain, new.old_with_new)
    assert verify_birth_chain(chain, spki=spki_of(birth), anchors=after, links=(new.old_with_new,)) == linked


def test_the_codes_are_the_protocols(new: NewRoot, signer: Leaf) -> None:
    assert {kind.code for kind in TrustRefused.__subclasses__()} == {"trust-unsigned", "trust-stale", "trust-unlinked"}
    payload = bundle(1, new.old.der)
    assert replace(payload, version=2) != payload
    assert TrustBundle.decode(payload.encode()) == payload
