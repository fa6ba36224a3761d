"""A real enrollment server for tests: an installation in a temporary folder and `birthmark serve` as a process.

    with Installation.create(tmp_path) as site, site.start() as server:
        device = site.listed_device("SN-1")
        born = server.enroll(device)

The database is SQLite in the folder, or whatever URL is given. Everything else (CA, TPM vendor, operators' acts) is
reached in this process, through the same store as the server's.
"""

import base64
import hashlib
import http.client
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7

from birthmark_agent.csr import Names, device_names
from birthmark_server import settings as settings_file
from birthmark_server.ca.authority import Authority
from birthmark_server.domain import CertificateProfile, DeviceModel, ManifestEntry
from birthmark_server.rollover.service import RolloverService
from birthmark_server.services import Services, open_services
from birthmark_server.store.open import open_store
from birthmark_server.store.protocol import Store
from birthmark_server.store.sql.store import SqlStore
from birthmark_wire import ids
from birthmark_wire.encoding import read_json
from birthmark_wire.enrollment import ACTIVATION_SUFFIX, ENROLLMENTS_PATH, JSON_MIME, Challenge, Claim, EnrollResult
from birthmark_wire.est import BASE_PATH, PKCS10_MIME, NonceAnswer
from support.pki import PASSPHRASE, Leaf, Pki, make_pki
from support.ports import free_port
from support.software_tpm import SoftwareKey, SoftwareTpm, VendorCa

MODEL = DeviceModel(name="model-a", ek_template="p256")
READY_WITHIN_S = 60.0

SERVE = """
import sys
from pathlib import Path
from birthmark_server import app, settings
sys.exit(app.run(settings.load(Path(sys.argv[1]))))
"""
"""What `birthmark serve` does, without the command line around it."""


@dataclass(frozen=True)
class Reply:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The problem document's code."""
        return read_json(self.body).text("code")

    def certificates(self) -> list[x509.Certificate]:
        """The certificates of a certs-only PKCS #7 in base64."""
        return list(pkcs7.load_der_pkcs7_certificates(base64.b64decode(self.body)))


@dataclass(frozen=True)
class Identity:
    """A certificate chain (PEM) and its key, as a device holds them."""

    chain: tuple[bytes, ...]
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        """The leaf, DER."""
        return self.chain[0]

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf."""
        return x509.load_der_x509_certificate(self.der)

    @property
    def names(self) -> Names:
        """The leaf's subject and alternative names, as a renewal repeats them."""
        alt_name = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return Names(self.certificate.subject.public_bytes(), alt_name.public_bytes())

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write NAME.pem and NAME.key; return both paths."""
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(b"".join(_pem(der) for der in self.chain))
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return chain, key


@dataclass
class Installation:
    """CA, TPM vendor, database and settings of one installation; its server runs by `start`."""

    folder: Path
    pki: Pki
    vendor: VendorCa
    store: Store
    database_url: str
    port: int
    crl_port: int
    _written: int = field(default=0, repr=False)

    @classmethod
    @contextmanager
    def create(cls, folder: Path, *, database_url: str = "") -> "Iterator[Installation]":
        """Make an installation in `folder`; without a URL its database is SQLite in there."""
        crl_port = free_port()
        pki = make_pki(folder / "ca", public_url=f"http://localhost:{crl_port}/pki")
        vendor = VendorCa.create()
        vendor.write_to(folder / "tpm-roots")
        url = database_url or f"sqlite:///{folder / 'birthmark.db'}"
        store = open_store(url, journal=folder / "journal.operator", create=True)
        try:
            store.add_model(MODEL, by="alice")
            yield cls(folder, pki, vendor, store, url, free_port(), crl_port)
        finally:
            store.close()

    # -- what operators do

    def tpm(self) -> SoftwareTpm:
        """A device's TPM that nobody has heard of."""
        return SoftwareTpm.create(self.vendor)

    def listed_device(self, serial: str = "SN-1") -> SoftwareTpm:
        """A device that the manifest lists, with id `dev-SERIAL` in lower case."""
        tpm = self.tpm()
        self.list_ek(tpm.ek_sha256, serial)
        return tpm

    def list_ek(self, ek_sha256: str, serial: str) -> None:
        """Put one EK on the manifest."""
        entry = ManifestEntry(ek_sha256, serial, MODEL.name, f"dev-{serial.lower()}", "test", now())
        self.store.import_manifest([entry])

    def infra(self, profile: CertificateProfile, name: str) -> Leaf:
        """A station's or operator's certificate, on record."""
        leaf = self.pki.infra(profile, name)
        self.store.add_infrastructure_certificate(leaf.record, by="alice")
        return leaf

    def put_to_use(self, name: str) -> None:
        """Have an authority that was brought into the CA folder issue, whoever does not know it yet."""
        assert isinstance(self.store, SqlStore)
        rollover = RolloverService(
            store=self.store.authorities,
            authority=lambda: Authority.load(self.pki.folder, passphrase=None, now=now()),
            now=now,
        )
        rollover.stage(name, by="alice")
        rollover.activate(name, by="alice", force=True)

    def broker_lines(self, port: int, *, replica: str = "server") -> str:
        """Lines of [broker] for a server that is connected to one at `port`, and commands devices."""
        lines = f'port = {port}\ncontrol = true\ncontrol_replica = "{replica}"\n'
        for profile in (CertificateProfile.CONTROL, CertificateProfile.COMMAND):
            if not (self.folder / f"{profile}.pem").exists():
                self.infra(profile, f"srv-{profile}").write(self.folder, profile.value)
            at = self.folder / profile
            lines += f'{profile}_certificate = "{at}.pem"\n{profile}_key = "{at}.key"\n'
        return lines

    def deny_lines(self, deny_file: Path) -> str:
        """More lines of [broker], for a server on the broker's machine: it writes what the gate there goes by."""
        signer, key = self.infra(CertificateProfile.DENY_LIST, "srv-deny-list").write(self.folder, "deny-list")
        return f'deny_file = "{deny_file}"\ndeny_certificate = "{signer}"\ndeny_key = "{key}"\n'

    # -- the server

    def settings(self, *, port: int = 0, extra: str = "", server: str = "", broker: str = "") -> Path:
        """Write a settings file and return its path. extra: more TOML; server, broker: more lines for those tables."""
        self._written += 1
        chain, key = self.pki.server().write(self.folder, f"server{self._written}")
        secret = self.folder / "passphrase"
        secret.write_bytes(PASSPHRASE)
        secret.chmod(0o600)
        path = self.folder / f"birthmark{self._written}.toml"
        path.write_text(
            f"""
[server]
listen = "127.0.0.1:{port or self.port}"
names = ["localhost"]
certificate = "{chain}"
key = "{key}"
{server}
[database]
url = "{self.database_url}"
journal = "{self.folder / f"journal.{self._written}"}"
[ca]
folder = "{self.pki.folder}"
passphrase = "file:{secret}"
[tpm]
roots = "{self.folder / "tpm-roots"}"
[broker]
host = "localhost"
{broker}
{extra}
"""
        )
        return path

    @contextmanager
    def services(self, clock: "Clock", *, extra: str = "", broker: str = "") -> "Iterator[Services]":
        """What stands behind the doors, in this process, with a clock that the test sets."""
        services = open_services(settings_file.load(self.settings(extra=extra, broker=broker)), now=clock)
        try:
            yield services
        finally:
            services.store.close()

    @contextmanager
    def start(self, *, port: int = 0, extra: str = "", server: str = "", broker: str = "") -> "Iterator[Server]":
        """Run `birthmark serve` until the end of the with block, and see that it ends well."""
        settings = self.settings(port=port, extra=extra, server=server, broker=broker)
        log = settings.with_suffix(".log")
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(settings)],
                stderr=stderr,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            )
        running = Server(self, process, port or self.port, log)
        try:
            running.wait_until_ready()
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
        assert code == 0, log.read_text()


@dataclass
class Clock:
    """The time, as a test sets it."""

    at: datetime = field(default_factory=lambda: now())

    def __call__(self) -> datetime:
        """Return it."""
        return self.at

    def forward(self, **span: float) -> None:
        """Let time pass: `forward(minutes=5)`."""
        self.at += timedelta(**span)


@dataclass
class Server:
    """A running server, and requests to it."""

    site: Installation
    process: "subprocess.Popen[bytes]"
    port: int
    log_file: Path

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self.log_file.read_text()

    def wait_until_ready(self) -> None:
        """Return when it serves; fail with its log if it ends or takes too long."""
        until = time.monotonic() + READY_WITHIN_S
        while "event=serving" not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < until, self.log
            time.sleep(0.02)

    def wait_log(self, text: str, *, count: int = 1, timeout_s: float = 60) -> None:
        """Return when `text` stands in its log `count` times."""
        until = time.monotonic() + timeout_s
        while self.log.count(text) < count:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < until, f"no {text!r} x {count} in:\n{self.log}"
            time.sleep(0.02)

    @contextmanager
    def connect(self, identity: Identity | Leaf | None = None) -> "Iterator[Client]":
        """Open one HTTPS connection, with this certificate or without one."""
        context = ssl.create_default_context(cafile=str(self.site.pki.root_pem))
        if identity is not None:
            context.load_cert_chain(*identity.write(self.site.folder, f"client-{time.monotonic_ns()}"))
        connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=20)
        try:
            yield Client(connection)
        finally:
            connection.close()

    def ask(
        self, method: str, path: str, body: bytes = b"", *, by: Identity | Leaf | None = None, **headers: str
    ) -> Reply:
        """One request on a connection of its own. Headers: `content_type="..."`."""
        with self.connect(by) as client:
            return client.ask(method, path, body, **headers)

    # -- what devices do

    def enroll(self, tpm: SoftwareTpm, *, by: Leaf | None = None, claim: Claim | None = None) -> Identity:
        """A whole enrollment; return the IDevID with the birth key."""
        with self.connect(by) as client:
            begun = client.begin(tpm, claim=claim)
            assert begun.status == 201, begun.body
            finished = client.finish(tpm, Challenge.decode(begun.body), self.anchor_sha256)
            assert finished.status == 200, finished.body
        return Identity(EnrollResult.decode(finished.body).chain, tpm.birth_key.private)

    @property
    def anchor_sha256(self) -> bytes:
        """SHA-256 of the root certificate."""
        return self.site.pki.authority.root.anchor_sha256

    def first_ldevid(self, tpm: SoftwareTpm, idevid: Identity, device_id: str) -> Identity:
        """EST simpleenroll; return the LDevID. Asks again once where the server says when, as an agent does."""
        key, reply = self.est(tpm, idevid, device_id, self.first_names(device_id), "simpleenroll")
        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
            time.sleep(int(reply.headers["Retry-After"]))
            key, reply = self.est(tpm, idevid, device_id, self.first_names(device_id), "simpleenroll")
        assert reply.status == 200, reply.body
        return Identity(self.chain(reply), key.private)

    def renew(self, tpm: SoftwareTpm, ldevid: Identity, device_id: str) -> Identity:
        """EST simplereenroll; return the next LDevID."""
        key, reply = self.est(tpm, ldevid, device_id, ldevid.names, "simplereenroll")
        assert reply.status == 200, reply.body
        return Identity(self.chain(reply), key.private)

    def first_names(self, device_id: str) -> Names:
        """What a first operational request asks to be called."""
        return device_names(device_id, ids.device_uri(self.site.pki.authority.namespace.trust_domain, device_id))

    def chain(self, reply: Reply) -> tuple[bytes, ...]:
        """The chain that an EST answer makes, with the CA that signed it."""
        (leaf,) = reply.certificates()
        return (leaf.public_bytes(Encoding.DER), *self.site.pki.authority.chain_for(self.site.pki.authority.fleet))

    def est(
        self, tpm: SoftwareTpm, by: Identity, device_id: str, names: Names, operation: str, *, with_nonce: bytes = b""
    ) -> tuple[SoftwareKey, Reply]:
        """One EST enrollment with evidence; return the new key and the answer as it came."""
        key = tpm.new_operational_key()
        with self.connect(by) as client:
            nonce = with_nonce or client.nonce()
            csr = tpm.renewal_csr(key, names, nonce=nonce, device_id=device_id, client_certificate=by.der)
            return key, client.est(operation, csr)


@dataclass
class Client:
    """Requests over one connection."""

    connection: http.client.HTTPSConnection

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        """Send one request; return the answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body=body or None, headers=named)
        response = self.connection.getresponse()
        return Reply(response.status, dict(response.getheaders()), response.read())

    def begin(self, tpm: SoftwareTpm, *, server_name: str = "localhost", claim: Claim | None = None) -> Reply:
        """The first request of an enrollment."""
        body = tpm.enroll_request(server_name=server_name, claim=claim).encode()
        return self.ask("POST", ENROLLMENTS_PATH, body, content_type=JSON_MIME)

    def finish(self, tpm: SoftwareTpm, challenge: Challenge, anchor_sha256: bytes) -> Reply:
        """The second one."""
        answer = tpm.answer(challenge, anchor_sha256=anchor_sha256, server_name="localhost")
        return self.activate(challenge.enrollment_id, answer.encode())

    def activate(self, enrollment_id: str, body: bytes) -> Reply:
        """The second request with any body."""
        return self.ask("POST", f"{ENROLLMENTS_PATH}/{enrollment_id}{ACTIVATION_SUFFIX}", body, content_type=JSON_MIME)

    def nonce(self) -> bytes:
        """An EST nonce."""
        reply = self.ask("GET", f"{BASE_PATH}/nonce")
        assert reply.status == 200, reply.body
        return NonceAnswer.decode(reply.body).nonce

    def est(self, operation: str, csr: bytes, *, accept: str = "application/problem+json") -> Reply:
        """POST a CSR to an EST operation."""
        body = base64.b64encode(csr)
        return self.ask("POST", f"{BASE_PATH}/{operation}", body, content_type=PKCS10_MIME, accept=accept)


def now() -> datetime:
    """The time, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def sha256_hex(data: bytes) -> str:
    """SHA-256 as `domain` writes it."""
    return hashlib.sha256(data).hexdigest()


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
