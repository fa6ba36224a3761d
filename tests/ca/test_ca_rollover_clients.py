"""Across a change of roots, with judges that nobody here wrote: who pins only one root verifies what stands below the
other, by the very chain that we send, and by nothing less."""

import asyncio
import os
import pwd
import socket
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.broker.trial import find_mosquitto
from birthmark_server.ca import oids
from birthmark_server.ca.crl import build_crl
from birthmark_server.ca.path import verify_policy
from birthmark_server.ca.root_ceremony import root_revoke
from birthmark_server.domain import CertificateProfile, RevocationReason
from support.leaves import leaf_of
from support.mosquitto import running_broker
from support.mqtt_client import Client
from support.openssl import verify
from support.pki import PASSPHRASE, TRUST_DOMAIN, Leaf, Pki
from support.ports import free_port
from support.tls_door import context_of, knock
from support.two_roots import NEW, TwoRoots, make_two_roots


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> TwoRoots:
    return make_two_roots(tmp_path_factory.mktemp("two") / "ca", public_url="http://pki.fleet.example")


def root_of(two: TwoRoots, name: str) -> x509.Certificate:
    return next(root.certificate for root in two.old.authority.roots if root.name == name)


def above(two: TwoRoots, pki: Pki, leaf: Leaf) -> list[x509.Certificate]:
    return two.chain(pki, leaf.certificate)


@pytest.mark.parametrize("profile", list(CertificateProfile))
def test_openssl_verifies_every_profile_below_the_new_root_from_the_old_one(
    two: TwoRoots, tmp_path: Path, profile: CertificateProfile
) -> None:
    leaf = leaf_of(two.new, profile)
    chain, at = above(two, two.new, leaf), two.new.now
    said = verify(tmp_path, leaf.certificate, root=root_of(two, "root"), untrusted=chain, at=at)
    assert said.endswith(": OK")
    without = verify(tmp_path, leaf.certificate, root=root_of(two, "root"), untrusted=chain[:1], at=at)
    assert "unable to get local issuer certificate" in without or "unable to get issuer certificate" in without


def test_openssl_verifies_a_birth_certificate_below_the_old_root_from_the_new_one(
    two: TwoRoots, tmp_path: Path
) -> None:
    birth = two.old.birth()
    ways = [x509.load_der_x509_certificate(der) for der in two.old.authority.ways_to(two.old.authority.birth)]
    root, at = root_of(two, NEW), two.old.now
    assert verify(tmp_path, birth.certificate, root=root, untrusted=ways, at=at).endswith(": OK")
    assert "unable to get" in verify(tmp_path, birth.certificate, root=root, untrusted=ways[:1], at=at)


@pytest.mark.parametrize(
    ("profile", "policy", "other"),
    [
        (CertificateProfile.LDEVID, oids.TCG_VERIFIED_TPM_RESIDENCY, oids.CP_INFRASTRUCTURE),
        (CertificateProfile.IDEVID, oids.CP_IDEVID, oids.CP_LDEVID),
        (CertificateProfile.SECURITY_OFFICER, oids.CP_SECURITY_OFFICER, oids.CP_VIEWER),
    ],
)
def test_policies_hold_over_a_link_as_below_a_root_in_our_judgement_and_openssls(
    two: TwoRoots,
    tmp_path: Path,
    profile: CertificateProfile,
    policy: x509.ObjectIdentifier,
    other: x509.ObjectIdentifier,
) -> None:
    leaf = leaf_of(two.new, profile)
    chain = above(two, two.new, leaf)
    assert policy in verify_policy([leaf.certificate, *chain], required=policy)
    for asked, valid in ((policy, True), (other, False)):
        options = ["-policy_check", "-explicit_policy", "-policy", asked.dotted_string]
        said = verify(
            tmp_path, leaf.certificate, root=root_of(two, "root"), untrusted=chain, at=two.new.now, options=options
        )
        assert said.endswith(": OK") if valid else "no explicit policy" in said


def test_openssl_refuses_a_link_that_its_root_revoked(tmp_path: Path) -> None:
    two = make_two_roots(tmp_path / "ca")
    leaf, chain = two.new.server(), above(two, two.new, two.new.server())
    now, folder = two.new.now, two.folder
    root_revoke(
        folder=folder / "root",
        certificate=folder / f"{NEW}.by.root.pem",
        reason=RevocationReason.SUPERSEDED,
        passphrase=PASSPHRASE,
        now=now,
    )
    infra = build_crl(two.new.authority.infra, [], number=1, now=now, next_update=now + timedelta(days=7))
    for old_crl, valid in ((folder / "root.crl", True), (folder / "root" / "root.crl", False)):
        lists = [infra, (folder / f"{NEW}.crl").read_bytes(), old_crl.read_bytes()]
        crls = tmp_path / "crls.pem"
        crls.write_bytes(b"".join(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM) for der in lists))
        said = verify(
            tmp_path,
            leaf.certificate,
            root=root_of(two, "root"),
            untrusted=chain,
            at=now + timedelta(seconds=1),
            options=["-crl_check_all", "-CRLfile", str(crls)],
        )
        assert said.endswith(": OK") if valid else "certificate revoked" in said


def client_of(program: str, root: Path) -> Callable[[int], Awaitable[str]]:
    """A TLS client that pins `root` and expects localhost; what it says, and its exit code."""
    commands = {
        "openssl": lambda port: [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(root)),
            *("-no-CApath", "-no-CAstore", "-verify_return_error", "-verify_hostname", "localhost"),
            *("-servername", "localhost", "-x509_strict", "-quiet"),
        ],
        "gnutls": lambda port: [
            *("gnutls-cli", f"--port={port}", f"--x509cafile={root}", "--verify-hostname=localhost", "127.0.0.1"),
        ],
    }

    async def visit(port: int) -> str:
        client = await asyncio.create_subprocess_exec(
            *commands[program](port),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"hello\n")
        out = await asyncio.wait_for(client.stdout.read(), 20)
        client.stdin.close()
        return f"{out.decode()}\nended with {await client.wait()}"

    return visit


@pytest.mark.parametrize("program", ["openssl", "gnutls"])
@pytest.mark.parametrize("pinned", ["root", NEW])
def test_a_client_that_pins_either_root_verifies_a_server_below_the_new_one(
    two: TwoRoots, tmp_path: Path, program: str, pinned: str
) -> None:
    said, _ = knock(context_of(two.new, tmp_path), client_of(program, two.folder / f"{pinned}.pem"))
    assert "anonymous" in said  # the server's word, once the handshake is done


@pytest.mark.parametrize("program", ["openssl", "gnutls"])
def test_it_is_the_link_by_which_it_does(two: TwoRoots, tmp_path: Path, program: str) -> None:
    """Once the old root is retired the link is not shown, and who pins only that root stays away."""
    authority = two.new.authority
    was = two.standing(NEW)
    try:
        authority.follow(two.standing(NEW, retired=["root"]))
        said, _ = knock(context_of(two.new, tmp_path), client_of(program, two.folder / "root.pem"))
    finally:
        authority.follow(was)
    assert "anonymous" not in said
    assert "unable to get" in said or "issuer is unknown" in said


def context_for(leaf: Leaf, root: Path, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(root))
    context.load_cert_chain(*leaf.write(folder, "client"))
    return context


@pytest.mark.parts
def test_mosquitto_that_has_only_the_old_root_takes_a_device_below_the_new_one_by_its_chain(
    two: TwoRoots, tmp_path: Path
) -> None:
    """The cafile holds no certificate below the new root: what the device shows must lead to the old one."""
    conf = tmp_path / "mosquitto.conf"
    certificate, key = two.old.broker().write(tmp_path, "broker")
    with plain_mosquitto(conf, two.folder / "root.pem", certificate, key) as port:
        for leaf, shown, comes_up in (
            (two.new.device(), 3, True),
            (two.new.device(), 2, False),  # leaf and Fleet CA alone
            (two.old.device(), 2, True),
        ):
            context = ssl.create_default_context(cafile=str(two.folder / "root.pem"))
            pem = x509.load_pem_x509_certificates(leaf.chain_pem)[:shown]
            chain, client_key = leaf.write(tmp_path, "client")
            chain.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in pem))
            context.load_cert_chain(chain, client_key)
            client = Client(port, context, "device-1").connect()
            assert client.up is comes_up
            client.close()


@pytest.mark.parts
def test_a_sleeper_with_the_old_root_only_comes_home_to_a_broker_below_the_new_one(
    two: TwoRoots, tmp_path: Path
) -> None:
    certificate, key = two.new.broker().write(tmp_path, "broker")
    with running_broker(
        tmp_path / "mosquitto",
        certificate=certificate,
        key=key,
        roots=[root_of(two, NEW), root_of(two, "root")],
        fleet=[two.old.authority.fleet.certificate, two.new.authority.fleet.certificate],
        infra=[two.new.authority.infra.certificate],
        trust_domain=TRUST_DOMAIN,
        signer=two.new.deny_signer(),
    ) as broker:
        for leaf, pins in ((two.old.device(), "root"), (two.new.device(), NEW), (two.new.device(), "root")):
            client = Client(broker.port, context_for(leaf, two.folder / f"{pins}.pem", tmp_path), "device-1").connect()
            assert client.up
            client.close()


@contextmanager
def plain_mosquitto(conf: Path, cafile: Path, certificate: Path, key: Path) -> Iterator[int]:
    """Mosquitto with mutual TLS and nothing else: no gate, no other trust. Its port."""
    port, user = free_port(), pwd.getpwuid(os.geteuid()).pw_name
    conf.write_text(
        f"user {user}\nallow_anonymous true\nlistener {port} 127.0.0.1\ncafile {cafile}\ncertfile {certificate}\n"
        f"keyfile {key}\nrequire_certificate true\ntls_version tlsv1.3\n"
    )
    command = [find_mosquitto(), "-c", str(conf)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)
