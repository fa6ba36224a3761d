"""The server's doors across a change of roots: who is let in, what is served, and to which root a birth is bound."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import sentinel

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7, pkcs12

from birthmark_agent.enrollment import verify_birth_chain
from birthmark_server.attestation.errors import AttestBinding
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.roots import Root
from birthmark_server.cli.infrastructure import issue_infrastructure
from birthmark_server.domain import Caller, CertificateProfile
from birthmark_server.roles import Role
from birthmark_server.web.api.bodies import NewOperator
from birthmark_server.web.api.operators import certify
from birthmark_server.web.doors import OPERATORS, Call, Router, identify
from birthmark_server.web.errors import CertificateUnknown
from birthmark_server.web.est import est_routes
from birthmark_server.web.tls import FreshContexts, server_context
from birthmark_wire.enrollment import EnrollResult
from birthmark_wire.est import BASE_PATH
from support.core import STRANGER, Core
from support.pki import Leaf
from support.server import Clock, Installation
from support.tls_door import knock
from support.two_roots import NEW, TwoRoots, make_two_roots, stand, succeed_root


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    clock = Clock()
    with Installation.create(tmp_path) as site:
        succeed_root(site)
        with site.services(clock) as services:
            services.crls.refresh()
            yield Core(site, services, clock)


def root_named(authority: Authority, name: str) -> Root:
    return next(root for root in authority.roots if root.name == name)


def birth(core: Core, pinned: bytes) -> EnrollResult:
    """Enroll a device that pins the root with this SHA-256; what it is answered."""
    tpm, _ = core.listed()
    challenge = core.begin(tpm)
    answer = tpm.answer(challenge, anchor_sha256=pinned, server_name="localhost").encode()
    result = core.finish(challenge, answer, STRANGER)
    for name in ("root", NEW):  # the chain is good for a device that pins either
        anchor = root_named(core.services.authority, name).certificate
        verify_birth_chain(result.chain, spki=tpm.birth_key.spki, anchors=[anchor])
    return result


@pytest.mark.parametrize("active", ["root", NEW])
@pytest.mark.parametrize("pinned", ["root", NEW])
def test_a_birth_is_bound_to_whichever_root_the_device_pins(core: Core, active: str, pinned: str) -> None:
    authority = core.services.authority
    stand(core.services, active)
    result = birth(core, root_named(authority, pinned).anchor_sha256)
    issuer = authority.issuer_of(result.chain[0])
    assert (issuer, authority.root_of(issuer).name) == (authority.birth, active)
    assert result.anchors == tuple(root.der for root in authority.in_force.roots)


@pytest.mark.parametrize("pinned", ["retired", "unknown"])
def test_a_birth_that_is_bound_to_a_root_that_is_not_believed_is_refused(core: Core, pinned: str) -> None:
    authority = core.services.authority
    stand(core.services, NEW, retired=["root"])
    anchor = bytes(32) if pinned == "unknown" else root_named(authority, "root").anchor_sha256
    with pytest.raises(AttestBinding):
        birth(core, anchor)


def test_a_device_born_below_a_retired_root_still_gets_its_next_certificate(core: Core) -> None:
    authority = core.services.authority
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    stand(core.services, NEW, retired=["root"])
    authority.verify_leaf(idevid.der, now=core.clock())
    ldevid = core.first_ldevid(tpm, idevid, device_id)
    assert authority.issuer_of(ldevid.der).name == "fleet-2030"


def test_each_root_has_its_list_at_its_own_address(core: Core) -> None:
    router = Router(core.services.crls.routes())
    for root in core.services.authority.roots:
        route, argument = router.find("GET", f"/pki/crl/{root.name}.crl")
        answer = route.handler(Call("r", "192.0.2.1", argument=argument), Caller("r", "192.0.2.1"))
        crl = x509.load_der_x509_crl(answer.body)
        assert crl.is_signature_valid(root.certificate.public_key())  # type: ignore[arg-type]


def test_cacerts_follow_what_is_in_force(core: Core) -> None:
    authority = core.services.authority
    routes = est_routes(
        core.services.renewal,
        ca_certificates=lambda: authority.in_force.ca_certificates,
        csrattrs=b"",
        broker_of=sentinel.broker_of,
    )
    route, _ = Router(routes).find("GET", f"{BASE_PATH}/cacerts")

    def cacerts() -> list[x509.Certificate]:
        answer = route.handler(Call("r", "192.0.2.1"), STRANGER)
        return list(pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.body)))

    links = {link.certificate for link in authority.links}
    old, new = (root.certificate for root in authority.roots)
    before = cacerts()
    assert links < set(before)
    assert (old in before, new in before) == (True, False)  # the new one is not staged yet
    stand(core.services, NEW, retired=["root"])
    after = cacerts()
    assert old not in after
    assert new in after
    fleets = [issuer.certificate for issuer in authority.issuers if issuer.kind == "fleet"]
    assert [certificate in after for certificate in fleets] == [False, True]
    old_with_new = next(link.certificate for link in authority.links if link.issuer.name == NEW)
    assert old_with_new in after  # who has a birth certificate below the old root is still verified


def test_what_is_issued_below_the_new_root_comes_with_the_link_from_the_old_one(core: Core) -> None:
    """To the infrastructure by `certificate issue`, to an operator over the API, and into a browser's file."""
    authority = core.services.authority
    stand(core.services, NEW)
    above = tuple(map(x509.load_der_x509_certificate, authority.chain_for(authority.infra)))
    assert len(above) == 2
    issued = issue_infrastructure(
        authority,
        core.store,
        profile=CertificateProfile.BROKER,
        name="b",
        hosts=["localhost"],
        by="x",
        now=core.clock(),
    )
    assert tuple(x509.load_pem_x509_certificates(issued.chain_pem)[1:]) == above
    data, passphrase = issued.pkcs12("b")
    _, _, more = pkcs12.load_key_and_certificates(data, passphrase.encode())
    assert set(more) == set(above)
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    asked = NewOperator(name="carol", role=Role.VIEWER, csr=request.public_bytes(Encoding.PEM).decode())
    made = certify(authority, core.store, asked, by="alice", now=core.clock())
    assert tuple(x509.load_pem_x509_certificates(made.chain.encode())[1:]) == above


def test_a_certificate_on_record_whose_ca_is_retired_opens_no_door(core: Core) -> None:
    authority = core.services.authority
    leaf = core.site.infra(CertificateProfile.SECURITY_OFFICER, "alice")
    call = Call("r", "192.0.2.1", certificate=leaf.der)

    def enter() -> Caller:
        return identify(core.store, OPERATORS, call, issuers=authority.in_force.by_sha256, now=core.clock())

    assert enter().certificate is not None
    stand(core.services, NEW, retired=[authority.infra.name])
    with pytest.raises(CertificateUnknown):
        enter()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> TwoRoots:
    return make_two_roots(tmp_path_factory.mktemp("two") / "ca")


def test_the_next_handshake_goes_by_what_is_in_force(two: TwoRoots, tmp_path: Path) -> None:
    """Clients of both roots' CAs are let in; once the old Fleet CA is retired its devices fail their handshake."""
    authority = two.new.authority
    chain, key = two.new.server().write(tmp_path, "server")
    contexts = FreshContexts(
        lambda: server_context(
            certificate=chain,
            key=key,
            key_passphrase=None,
            issuers=[issuer.certificate for issuer in authority.in_force.issuers],
        ),
        believed=lambda: authority.in_force,
    )

    async def come(port: int, leaf: Leaf, name: str) -> str:
        certificate, client_key = leaf.write(tmp_path, name)
        client = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", "-no-CApath", "-no-CAstore"),
            *("-CAfile", str(two.folder / "root.pem"), "-cert", str(certificate), "-key", str(client_key)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"hello\n" + b"." * 4000)
        out = await asyncio.wait_for(client.stdout.read(), 20)
        client.stdin.close()
        await client.wait()
        return "let in" if b"certificate\n" in out.splitlines(keepends=True) else "refused"

    async def visit(port: int) -> str:
        said = [await come(port, two.old.device(), "old"), await come(port, two.new.device(), "new")]
        authority.follow(two.standing(NEW, retired=["root"]))
        said += [await come(port, two.old.device(), "old"), await come(port, two.new.device(), "new")]
        authority.follow(two.standing(NEW))
        return ", ".join([*said, await come(port, two.old.device(), "old")])

    said, _ = knock(contexts, visit)
    assert said == "let in, let in, refused, let in, let in"
