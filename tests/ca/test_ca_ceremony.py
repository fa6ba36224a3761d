"""Ceremonies: two machines and files between them, interrupted, repeated, and refused."""

import hashlib
import itertools
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from birthmark_server.ca import files
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.ceremony import (
    authority_add,
    authority_complete,
    authority_init,
    demo_init,
    is_complete,
)
from birthmark_server.ca.errors import (
    AuthorityBroken,
    CeremonyRefused,
    KeyUnusable,
    PassphraseUnavailable,
    RequestRefused,
)
from birthmark_server.ca.extensions import ca_constants
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CRITICAL, CaKind
from birthmark_server.ca.root_ceremony import crl_number, root_crl, root_init, root_revoke, root_sign
from birthmark_server.domain import RevocationReason
from support.openssl import verify

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ROOT_PASSPHRASE = b"a passphrase for the root's safe"
PASSPHRASE = b"another passphrase, for the server"
NAMES = Namespace.checked(organization="Example", trust_domain="fleet.example", dns_domains=("fleet.example",))


def make_root(folder: Path, names: Namespace = NAMES) -> Path:
    root_init(folder=folder, namespace=names, passphrase=ROOT_PASSPHRASE, now=NOW)
    return folder


def make_requests(folder: Path, names: Namespace = NAMES) -> dict[CaKind, Path]:
    made = authority_init(folder=folder, namespace=names, passphrase=PASSPHRASE, now=NOW)
    return dict(made.requests)


def sign(root: Path, kind: CaKind, request: Path, out: Path) -> Path:
    signed = root_sign(folder=root, request=request, kind=kind, out=out, passphrase=ROOT_PASSPHRASE, now=NOW)
    return signed.certificate


def sign_all(root: Path, requests: dict[CaKind, Path], out: Path) -> list[Path]:
    out.mkdir(exist_ok=True)
    return [sign(root, kind, request, out / f"{kind}.pem") for kind, request in requests.items()]


def complete(folder: Path, root: Path, certificates: list[Path]) -> None:
    authority_complete(
        folder=folder, root=root / "root.pem", root_crl=root / "root.crl", certificates=certificates, now=NOW
    )


def test_root_and_server_on_two_machines_with_files_between_them(tmp_path: Path) -> None:
    root = make_root(tmp_path / "safe")
    requests = make_requests(tmp_path / "server")
    assert not is_complete(tmp_path / "server")
    complete(tmp_path / "server", root, sign_all(root, requests, tmp_path / "stick"))
    assert is_complete(tmp_path / "server")
    authority = Authority.load(tmp_path / "server", passphrase=PASSPHRASE, now=NOW)
    assert [issuer.name for issuer in authority.issuers] == ["birth-2026", "fleet-2026", "infra-2026"]
    assert not authority.demo
    assert not (tmp_path / "server" / "root.key").exists()
    assert isinstance(authority.root.certificate.public_key().curve, ec.SECP384R1)  # type: ignore[union-attr]


def test_the_demonstration_makes_all_in_one_place_and_says_so(tmp_path: Path) -> None:
    authority = demo_init(folder=tmp_path / "ca", namespace=NAMES, passphrase=PASSPHRASE, now=NOW)
    assert authority.demo
    assert "demonstration" in (tmp_path / "ca" / "DEMONSTRATION.txt").read_text()
    again = demo_init(folder=tmp_path / "ca", namespace=NAMES, passphrase=PASSPHRASE, now=NOW + timedelta(days=400))
    assert again.root.anchor_sha256 == authority.root.anchor_sha256


def test_no_file_of_a_ceremony_is_readable_by_others_if_it_is_secret(tmp_path: Path) -> None:
    demo_init(folder=tmp_path / "ca", namespace=NAMES, passphrase=PASSPHRASE, now=NOW)
    keys = sorted((tmp_path / "ca").rglob("*.key"))
    assert len(keys) == 4
    for key in keys:
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert key.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_transcripts_name_every_file_and_chain_to_each_other(tmp_path: Path) -> None:
    root = make_root(tmp_path / "safe")
    sign_all(root, make_requests(tmp_path / "server"), tmp_path / "stick")
    transcripts = sorted(root.glob("transcript-*.txt"))
    assert [path.name for path in transcripts] == [f"transcript-{n:04d}.txt" for n in range(1, 5)]
    for before, after in itertools.pairwise(transcripts):
        assert hashlib.sha256(before.read_bytes()).hexdigest() in after.read_text()
    fingerprint = x509.load_pem_x509_certificate((root / "root.pem").read_bytes()).fingerprint(hashes.SHA256()).hex()
    assert fingerprint in transcripts[0].read_text()
    assert hashlib.sha256((tmp_path / "server" / "birth-2026.csr").read_bytes()).hexdigest() in "".join(
        path.read_text() for path in transcripts
    )


def test_a_ceremony_that_is_done_is_never_done_over(tmp_path: Path) -> None:
    root = make_root(tmp_path / "safe")
    before = (root / "root.key").read_bytes()
    with pytest.raises(CeremonyRefused, match="holds a root already"):
        make_root(root)
    assert (root / "root.key").read_bytes() == before
    requests = make_requests(tmp_path / "server")
    out = tmp_path / "birth.pem"
    out.write_text("mine")
    with pytest.raises(CeremonyRefused, match="is there already"):
        sign(root, CaKind.BIRTH, requests[CaKind.BIRTH], out)
    assert out.read_text() == "mine"


def test_other_names_in_a_folder_that_was_begun_are_refused(tmp_path: Path) -> None:
    make_requests(tmp_path / "server")
    with pytest.raises(CeremonyRefused, match="organization 'Example', now 'Others'"):
        make_requests(tmp_path / "server", Namespace.checked(organization="Others", trust_domain="fleet.example"))


class Cut(Exception):
    """The power went."""


def cut_at(monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    """Let the `write`th file write of a ceremony fail, before or after the file is in place, as a power cut would."""
    real, count = files.write_new, 0

    def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        nonlocal count
        count += 1
        if count == write:
            if write % 2:
                real(path, data, mode=mode)
            raise Cut(path)
        real(path, data, mode=mode)

    monkeypatch.setattr(files, "write_new", write_new)


@pytest.mark.parametrize("write", range(1, 22))
def test_a_ceremony_cut_at_any_write_finishes_when_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    def run() -> Authority:
        return demo_init(folder=tmp_path / "ca", namespace=NAMES, passphrase=PASSPHRASE, now=NOW)

    with monkeypatch.context() as patch:
        cut_at(patch, write)
        try:
            run()
        except Cut:
            pass
        else:
            pytest.fail(f"the ceremony has fewer than {write} writes: shorten the list")
    assert {issuer.kind for issuer in run().issuers} == {CaKind.BIRTH, CaKind.FLEET, CaKind.INFRA}
    assert not list((tmp_path / "ca").rglob(".*"))


def request_with(
    names: Namespace,
    kind: CaKind,
    *,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    common_name: str = "Example Fleet CA 2026",
    organization: str = "Example",
    extra: x509.ExtensionType | None = None,
) -> bytes:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension in ca_constants(kind, names):
        builder = builder.add_extension(extension, critical=CRITICAL[extension.oid])
    if extra is not None:
        builder = builder.add_extension(extra, critical=False)
    request = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return request.public_bytes(Encoding.PEM)


OTHER_DOMAIN = Namespace.checked(organization="Example", trust_domain="other.example", dns_domains=("fleet.example",))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: request_with(NAMES, CaKind.BIRTH), "other extensions"),
        (lambda: request_with(OTHER_DOMAIN, CaKind.FLEET), "other extensions"),
        (lambda: request_with(NAMES, CaKind.FLEET, extra=x509.OCSPNoCheck()), "other extensions"),
        (lambda: request_with(NAMES, CaKind.FLEET, organization="Others"), "want the subject"),
        (lambda: request_with(NAMES, CaKind.FLEET, common_name="Example Birth CA 2026"), "begins with"),
        (lambda: request_with(NAMES, CaKind.FLEET, key=rsa.generate_private_key(65537, 2048)), "P-256 or P-384"),
        (lambda: request_with(NAMES, CaKind.FLEET, key=ec.generate_private_key(ec.SECP521R1())), "P-256 or P-384"),
        (lambda: b"not a request", "PKCS #10"),
    ],
)
def test_the_root_signs_nothing_but_what_a_profile_says(tmp_path: Path, make: Callable[[], bytes], why: str) -> None:
    root = make_root(tmp_path / "safe")
    request = tmp_path / "fleet.csr"
    request.write_bytes(make())
    with pytest.raises(RequestRefused, match=why):
        sign(root, CaKind.FLEET, request, tmp_path / "out.pem")
    assert not (tmp_path / "out.pem").exists()
    assert not list(root.glob("signed/*"))


def test_the_root_refuses_a_request_that_its_key_did_not_sign(tmp_path: Path) -> None:
    root = make_root(tmp_path / "safe")
    der = bytearray(x509.load_pem_x509_csr(request_with(NAMES, CaKind.FLEET)).public_bytes(Encoding.DER))
    der[-1] ^= 1
    request = tmp_path / "fleet.csr"
    request.write_bytes(x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM))
    with pytest.raises(RequestRefused, match="not signed by its own key"):
        sign(root, CaKind.FLEET, request, tmp_path / "out.pem")


def test_the_root_certifies_a_key_once_and_hands_out_that_certificate_again(tmp_path: Path) -> None:
    root = make_root(tmp_path / "safe")
    request = make_requests(tmp_path / "server")[CaKind.FLEET]
    one = sign(root, CaKind.FLEET, request, tmp_path / "one.pem")
    two = sign(root, CaKind.FLEET, request, tmp_path / "two.pem")
    assert one.read_bytes() == two.read_bytes()
    assert len(list(root.glob("signed/*"))) == 1


def test_the_root_gives_a_key_that_it_certified_no_second_role(tmp_path: Path) -> None:
    root = make_root(tmp_path / "safe")
    key = ec.generate_private_key(ec.SECP256R1())
    for kind, title in ((CaKind.FLEET, "Example Fleet CA 2026"), (CaKind.BIRTH, "Example Birth CA 2026")):
        (tmp_path / f"{kind}.csr").write_bytes(request_with(NAMES, kind, key=key, common_name=title))
    sign(root, CaKind.FLEET, tmp_path / "fleet.csr", tmp_path / "fleet.pem")
    with pytest.raises(RequestRefused, match="certified that key before"):
        sign(root, CaKind.BIRTH, tmp_path / "birth.csr", tmp_path / "birth.pem")


def test_certificates_of_another_root_are_not_taken_in(tmp_path: Path) -> None:
    root, other = make_root(tmp_path / "safe"), make_root(tmp_path / "other")
    requests = make_requests(tmp_path / "server")
    certificates = sign_all(other, requests, tmp_path / "stick")
    with pytest.raises(AuthorityBroken, match="not signed by this root"):
        complete(tmp_path / "server", root, certificates)


def test_a_certificate_that_nobody_asked_for_is_not_taken_in(tmp_path: Path) -> None:
    root = make_root(tmp_path / "safe")
    make_requests(tmp_path / "server")
    foreign = sign_all(root, make_requests(tmp_path / "elsewhere"), tmp_path / "stick")
    with pytest.raises(AuthorityBroken, match="not asked for"):
        complete(tmp_path / "server", root, foreign)


def test_certificates_may_come_one_by_one(tmp_path: Path) -> None:
    root = make_root(tmp_path / "safe")
    certificates = sign_all(root, make_requests(tmp_path / "server"), tmp_path / "stick")
    with pytest.raises(AuthorityBroken, match="still without a certificate: fleet-2026, infra-2026"):
        complete(tmp_path / "server", root, certificates[:1])
    complete(tmp_path / "server", root, certificates[1:])
    assert is_complete(tmp_path / "server")


def test_a_weak_passphrase_makes_no_key(tmp_path: Path) -> None:
    with pytest.raises(PassphraseUnavailable, match="at least 16"):
        demo_init(folder=tmp_path / "ca", namespace=NAMES, passphrase=b"short", now=NOW)
    assert not list(tmp_path.rglob("*.key"))


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca").chmod(0o777)
    with pytest.raises(CeremonyRefused, match="chmod go-w"):
        demo_init(folder=tmp_path / "ca", namespace=NAMES, passphrase=PASSPHRASE, now=NOW)


def test_the_root_revokes_an_issuing_ca(tmp_path: Path) -> None:
    root = make_root(tmp_path / "safe")
    sign_all(root, make_requests(tmp_path / "server"), tmp_path / "stick")
    fleet = tmp_path / "stick" / "fleet.pem"
    published = root_revoke(
        folder=root,
        certificate=fleet,
        reason=RevocationReason.KEY_COMPROMISE,
        passphrase=ROOT_PASSPHRASE,
        now=NOW + timedelta(days=1),
    )
    assert (published.number, crl_number(root / "root.crl")) == (2, 2)
    crl = x509.load_der_x509_crl((root / "root.crl").read_bytes())
    certificate = x509.load_pem_x509_certificate(fleet.read_bytes())
    entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise
    (tmp_path / "crl.pem").write_bytes(crl.public_bytes(Encoding.PEM))
    said = verify(
        tmp_path,
        certificate,
        root=x509.load_pem_x509_certificate((root / "root.pem").read_bytes()),
        at=NOW + timedelta(days=2),
        options=["-crl_check", "-CRLfile", str(tmp_path / "crl.pem")],
    )
    assert "certificate revoked" in said
    assert root_crl(folder=root, passphrase=ROOT_PASSPHRASE, now=NOW + timedelta(days=3)).number == 3
    with pytest.raises(RequestRefused, match="was revoked"):
        sign(root, CaKind.FLEET, tmp_path / "server" / "fleet-2026.csr", tmp_path / "again.pem")


def test_next_years_birth_ca_comes_into_a_folder_in_use(tmp_path: Path) -> None:
    server, root = tmp_path / "server", make_root(tmp_path / "safe")
    complete(server, root, sign_all(root, make_requests(server), tmp_path / "stick"))
    later = NOW + timedelta(days=365)
    made = authority_add(folder=server, kind=CaKind.BIRTH, passphrase=PASSPHRASE, now=later)
    again = authority_add(folder=server, kind=CaKind.BIRTH, passphrase=PASSPHRASE, now=later)
    assert made.requests == again.requests == ((CaKind.BIRTH, server / "birth-2027.csr"),)
    waiting = Authority.load(server, passphrase=PASSPHRASE, now=later)
    assert waiting.birth.name == "birth-2026"  # until the root has signed, all is as it was
    with pytest.raises(AuthorityBroken, match="still without a certificate: birth-2027"):
        complete(server, root, [])
    root_sign(
        folder=root,
        request=server / "birth-2027.csr",
        kind=CaKind.BIRTH,
        out=tmp_path / "new.pem",
        passphrase=ROOT_PASSPHRASE,
        now=later,
    )
    authority_complete(
        folder=server,
        root=root / "root.pem",
        root_crl=root / "root.crl",
        certificates=[tmp_path / "new.pem"],
        now=later,
    )
    authority = Authority.load(server, passphrase=PASSPHRASE, now=later)
    assert [issuer.name for issuer in authority.issuers if issuer.kind is CaKind.BIRTH] == ["birth-2026", "birth-2027"]
    assert authority.birth.name == "birth-2027"
    assert not (server / "authority.next.json").exists()


def test_a_ca_is_added_under_a_free_name_and_the_passphrase_of_the_others(tmp_path: Path) -> None:
    server, root = tmp_path / "server", make_root(tmp_path / "safe")
    complete(server, root, sign_all(root, make_requests(server), tmp_path / "stick"))
    with pytest.raises(CeremonyRefused, match="birth-2026 already"):
        authority_add(folder=server, kind=CaKind.BIRTH, passphrase=PASSPHRASE, now=NOW)
    with pytest.raises(KeyUnusable):
        authority_add(folder=server, kind=CaKind.BIRTH, passphrase=b"another", now=NOW, label="b")
    with pytest.raises(CeremonyRefused, match="root"):
        authority_add(folder=server, kind=CaKind.ROOT, passphrase=PASSPHRASE, now=NOW, label="b")
    assert not (server / "authority.next.json").exists()


def test_only_a_crl_of_this_root_comes_in_and_none_older_than_the_one_that_is_kept(tmp_path: Path) -> None:
    server, root, other = tmp_path / "server", make_root(tmp_path / "safe"), make_root(tmp_path / "other")
    certificates = sign_all(root, make_requests(server), tmp_path / "stick")
    bring = partial(authority_complete, folder=server, root=root / "root.pem", certificates=certificates, now=NOW)
    with pytest.raises(AuthorityBroken, match="not signed by this root"):
        bring(root_crl=other / "root.crl")
    assert not (server / "root.crl").exists()
    first = tmp_path / "first.crl"
    first.write_bytes((root / "root.crl").read_bytes())
    bring(root_crl=first)
    root_crl(folder=root, passphrase=ROOT_PASSPHRASE, now=NOW + timedelta(days=1))
    bring(root_crl=root / "root.crl")
    assert crl_number(server / "root.crl") == 2
    with pytest.raises(CeremonyRefused, match="number 2, is kept"):
        bring(root_crl=first)


def test_a_certificate_that_was_revoked_on_its_way_does_not_come_in(tmp_path: Path) -> None:
    server, root = tmp_path / "server", make_root(tmp_path / "safe")
    certificates = sign_all(root, make_requests(server), tmp_path / "stick")
    root_revoke(
        folder=root,
        certificate=certificates[0],
        reason=RevocationReason.KEY_COMPROMISE,
        passphrase=ROOT_PASSPHRASE,
        now=NOW,
    )
    with pytest.raises(AuthorityBroken, match="revoked by this root's CRL 2"):
        complete(server, root, certificates)


def test_the_root_revokes_only_what_it_signed(tmp_path: Path) -> None:
    root, other = make_root(tmp_path / "safe"), make_root(tmp_path / "other")
    sign_all(other, make_requests(tmp_path / "server"), tmp_path / "stick")
    with pytest.raises(RequestRefused, match="was not signed by the root"):
        root_revoke(
            folder=root,
            certificate=tmp_path / "stick" / "fleet.pem",
            reason=RevocationReason.SUPERSEDED,
            passphrase=ROOT_PASSPHRASE,
            now=NOW,
        )


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    demo_init(folder=tmp_path / "ca", namespace=NAMES, passphrase=PASSPHRASE, now=NOW)
    (tmp_path / "ca" / "fleet-2026.key").chmod(0o640)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        Authority.load(tmp_path / "ca", passphrase=PASSPHRASE, now=NOW)
