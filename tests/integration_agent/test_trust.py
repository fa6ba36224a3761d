"""A device takes the roots that its server orders and its old root vouches for, over the broker or from the server; it
refuses every other attempt, and what it pins survives."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from birthmark_agent import trust_updates
from birthmark_agent.homecoming import Homecoming
from birthmark_agent.trust import TRUST_FILE
from birthmark_server.broker.trust_files import TrustSet
from birthmark_server.ca.issuer import to_der
from birthmark_server.domain import CertificateProfile
from birthmark_wire.rotation import JobAnswer, JobRequest
from birthmark_wire.trust import TRUST_CONTENT_TYPE, TRUST_PATH, TrustAck
from support.agent_here import on_fillable_disk, running
from support.agent_site import AgentSite, Device
from support.new_root import NewRoot, Signed, bundle, like, root_like, sign_bundle
from support.pki import Leaf
from support.rotation_peer import RotationPeer
from support.server import Server

pytestmark = pytest.mark.parts


@pytest.fixture(scope="module")
def new(site: AgentSite) -> NewRoot:
    return NewRoot.of(site.installation.pki)


@pytest.fixture(scope="module")
def signer(site: AgentSite) -> Leaf:
    return site.installation.pki.infra(CertificateProfile.COMMAND, "srv-command")


def staged(new: NewRoot, version: int = 1) -> bytes:
    """Both roots, the old one first; not signed yet."""
    links = (new.new_with_old, new.old_with_new)
    return bundle(version, new.old.der, new.new.der, links=links).encode()


def pinned(device: Device) -> tuple[int, int]:
    """Version and number of roots, as another process reads them."""
    identities = device.identities()
    return identities.trust.version, len(identities.anchors)


def test_a_pushed_bundle_is_on_the_disk_before_it_is_answered_and_is_shown(
    site: AgentSite, server: Server, new: NewRoot, signer: Leaf
) -> None:
    device = site.device("TRUST-1")
    with RotationPeer.running(site) as peer, device.running() as agent:
        peer.wait_for(device, "hello")
        assert pinned(device) == (0, 1)
        jws = sign_bundle(staged(new), signer)
        assert peer.trust_ack(device, jws) == TrustAck(1)
        assert pinned(device) == (1, 2)
        assert peer.trust_ack(device, jws) == TrustAck(1)  # the very same again
        assert agent.log.count("trust-bundle-taken") == 1
        assert agent.log.count(" connected ") == 1  # the live session went on
        agent.renew()
        agent.wait_log(" renewed ")  # the new connection is judged by both roots
    seen = {
        one["check"]: one["seen"] for one in json.loads(device.cli("doctor", "--json", check=False).stdout)["checks"]
    }
    assert seen["trust anchor"].startswith("bundle 1: CN=Example Devices Root CA")
    for root in (new.old, new.new):
        assert root.certificate.fingerprint(SHA256()).hex()[:16] in seen["trust anchor"]
    steps = json.loads(device.cli("trace", "--json").stdout)["steps"]
    assert steps[2]["evidence"]["trust"].startswith("bundle 1, 2 roots; this one is ")


def test_every_other_attempt_is_refused_by_its_code_and_changes_nothing(
    site: AgentSite, server: Server, new: NewRoot, signer: Leaf
) -> None:
    pki, device = site.installation.pki, site.device("TRUST-2")
    thief, old, other = root_like(new.old.certificate), new.old.der, new.new.der
    foreign = like(new.new.certificate, by=Signed(new.infra.certificate, new.infra.key))
    header, _payload, signature = sign_bundle(staged(new, 9), signer).split(b".")
    changed = b".".join((header, sign_bundle(staged(new, 8), signer).split(b".")[1], signature))
    attempts = [
        ("trust-unsigned", b"garbage"),
        ("trust-unsigned", b""),
        ("trust-unsigned", changed),
        ("trust-unsigned", sign_bundle(b'{"protocol":"birthmark/1"}', signer)),
        ("trust-unsigned", sign_bundle(staged(new, 9), pki.infra(CertificateProfile.CONTROL, "srv-thief"))),
        ("trust-unsigned", sign_bundle(staged(new, 9), pki.device("dev-thief"))),
        ("trust-unsigned", sign_bundle(staged(new, 9), new.below(signer, linked=False))),
        ("trust-unsigned", sign_bundle(bundle(9, other, links=(new.new_with_old,)), signer)),
        ("trust-stale", sign_bundle(staged(new, 4), signer)),
        ("trust-stale", sign_bundle(bundle(5, old), signer)),
        ("trust-unlinked", sign_bundle(bundle(9, old, other), signer)),
        ("trust-unlinked", sign_bundle(bundle(9, old, thief.der, links=(new.new_with_old,)), signer)),
        ("trust-unlinked", sign_bundle(bundle(9, old, other, links=(to_der(foreign),)), signer)),
        ("trust-unlinked", sign_bundle(bundle(9, old, b"no certificate"), signer)),
    ]
    with RotationPeer.running(site) as peer, device.running() as agent:
        peer.wait_for(device, "hello")
        fifth = sign_bundle(bundle(5, old, links=(new.new_with_old,)), signer)
        assert peer.trust_ack(device, fifth) == TrustAck(5)
        before = (device.state / TRUST_FILE).read_bytes()
        for code, attempt in attempts:
            answer = peer.trust_ack(device, attempt)
            assert (answer.version, answer.code) == (5, code), answer
            assert answer.detail
            assert (device.state / TRUST_FILE).read_bytes() == before
        assert peer.trust_ack(device, fifth) == TrustAck(5)
        assert agent.log.count(" connected ") == 1


def test_a_full_disk_is_answered_and_the_next_push_taken(
    site: AgentSite, server: Server, new: NewRoot, signer: Leaf
) -> None:
    device = site.device("TRUST-3")
    disk, identities = on_fillable_disk(device)
    with RotationPeer.running(site) as peer:
        Homecoming(identities).find()
        with running(identities):
            peer.wait_for(device, "hello")
            disk.full = True
            jws = sign_bundle(staged(new), signer)
            answer = peer.trust_ack(device, jws)
            assert (answer.version, answer.code) == (0, "storage-failed")
            assert pinned(device) == (0, 1)
            disk.full = False
            assert peer.trust_ack(device, jws) == TrustAck(1)
            assert pinned(device) == (1, 2)


def test_what_could_not_be_kept_is_tried_again_by_itself(
    site: AgentSite, server: Server, new: NewRoot, signer: Leaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_updates, "_HELD_S", 0.3)
    device = site.device("TRUST-4")
    disk, identities = on_fillable_disk(device)
    with RotationPeer.running(site) as peer:
        Homecoming(identities).find()
        with running(identities):
            peer.wait_for(device, "hello")
            disk.full = True
            assert peer.trust_ack(device, sign_bundle(staged(new), signer)).code == "storage-failed"
            disk.full = False
            peer.wait_for(device, "trust", where=lambda said: said == TrustAck(1))


def test_a_certificate_of_a_ca_below_the_new_root_opens_a_broker_that_knows_the_old_one_alone(
    site: AgentSite, server: Server, new: NewRoot, signer: Leaf
) -> None:
    device, authority = site.device("TRUST-6"), site.installation.pki.authority
    link = x509.load_der_x509_certificate(new.new_with_old)
    given = TrustSet.checked(
        roots=[authority.root.certificate, new.new.certificate],
        fleet=[authority.fleet.certificate, new.fleet.certificate],
        infra=[authority.infra.certificate],
        links=[link],
    )
    given.install(site.broker.settings.folder)
    with RotationPeer.running(site) as peer, device.running():
        peer.wait_for(device, "hello")
        for pins in (1, 2):  # as it was flashed; and with both roots, where the path ends before the link
            if pins == 2:
                assert peer.trust_ack(device, sign_bundle(staged(new), signer)) == TrustAck(1)
            assert len(device.identities().anchors) == pins
            peer.silent_about.add("csr")
            peer.heard.clear()
            job = peer.order(device)
            request = peer.wait_for(device, "csr")
            assert isinstance(request, JobRequest)
            key = x509.load_der_x509_csr(request.csr).public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            model = site.installation.pki.device(device.device_id).certificate
            chain = (to_der(like(model, by=new.fleet, public=key)), new.fleet.der, new.new_with_old)
            peer.send(device, "cert", JobAnswer(job, chain).encode())
            peer.wait_active(device, job)
            slot = device.identities().slots.best()
            assert slot is not None
            assert slot.identity.chain == chain


@contextmanager
def door(site: AgentSite, answers: dict[str, bytes]) -> Iterator[int]:
    """An HTTPS server with the installation's certificate that gives `answers`, 404 for all else that is asked, and
    hands to the installation's server what is posted (the question for the time); its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.answer(200 if body else 404, TRUST_CONTENT_TYPE, body or b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            context = ssl.create_default_context(cafile=str(site.installation.pki.root_pem))
            server = HTTPSConnection("localhost", site.installation.port, context=context)
            server.request("POST", self.path, body, {"Content-Type": self.headers["Content-Type"]})
            given = server.getresponse()
            self.answer(given.status, str(given.getheader("Content-Type")), given.read())
            server.close()

        def answer(self, status: int, mime: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", mime)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*site.installation.pki.server().write(site.folder, "door"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield listener.server_address[1]
        finally:
            listener.shutdown()
            thread.join()


def go_to(device: Device, port: int) -> None:
    """Let the device's settings name another port of the server; EST stays where its birth record says."""
    text = device.config.read_text()
    old = f"https://localhost:{device.site.installation.port}"
    assert old in text
    device.config.write_text(text.replace(old, f"https://localhost:{port}"))


def test_after_a_renewal_over_est_the_server_is_asked_for_its_bundle(
    site: AgentSite, server: Server, new: NewRoot, signer: Leaf
) -> None:
    device = site.device("TRUST-7")
    device.cli("enroll")
    answers: dict[str, bytes] = {}
    with door(site, answers) as port:
        go_to(device, port)
        device.cli("renew")
        assert pinned(device) == (0, 1)  # 404: there is none
        answers[TRUST_PATH] = b"garbage"
        (device.state / "backoff-trust").unlink()
        device.cli("renew")  # what it makes of that stands in its log
        assert pinned(device) == (0, 1)
        answers[TRUST_PATH] = sign_bundle(staged(new, 3), signer)
        (device.state / "backoff-trust").unlink()
        device.cli("renew")
        assert pinned(device) == (3, 2)


def test_a_broker_that_is_refused_by_the_old_root_sends_the_device_to_the_server(
    site: AgentSite, server: Server, new: NewRoot, signer: Leaf
) -> None:
    device = site.device("TRUST-8")
    device.cli("enroll")
    settings = site.broker.settings
    before = settings.certificate.read_bytes(), settings.key.read_bytes()
    moved = new.below(site.installation.pki.broker(), linked=False)
    answers = {TRUST_PATH: sign_bundle(bundle(1, new.new.der, new.old.der, links=(new.new_with_old,)), signer)}
    site.broker.stop()
    settings.certificate.write_bytes(moved.chain_pem)
    settings.key.write_bytes(moved.key_pem)
    site.broker.start()
    try:
        with door(site, answers) as port:
            go_to(device, port)
            (device.state / "backoff-trust").unlink(missing_ok=True)  # it asked when it was enrolled
            with device.running() as agent:
                agent.wait_log(" connected ")
                assert "its certificate does not stand" in agent.log
                assert agent.log.index("trust-bundle-taken") < agent.log.index(" connected ")
        assert pinned(device) == (1, 2)
    finally:
        site.broker.stop()
        settings.certificate.write_bytes(before[0])
        settings.key.write_bytes(before[1])
        site.broker.start()
