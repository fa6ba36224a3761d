"""A real server on SQLite for the bench, the devices that call it, and what each of them does there."""

import http.client
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_agent.csr import device_names
from birthmark_server.domain import Caller, ManifestEntry
from birthmark_server.services import Services
from birthmark_wire import ids
from birthmark_wire.enrollment import Challenge, EnrollResult
from support.server import MODEL, Client, Clock, Identity, Installation, Server, now, sha256_hex
from support.software_tpm import SoftwareTpm

NO_LIMITS: Final = """
[limits]
requests_per_s = 1000000.0
burst = 1000000
connections_per_source = 2000
[est]
most_per_day = 1000
"""
"""All devices of the bench call from one address."""

Job = Callable[[], None]


@dataclass(frozen=True, slots=True)
class BenchDevice:
    """One device on the manifest, with its TPM."""

    device_id: str
    tpm: SoftwareTpm


@dataclass(frozen=True, slots=True)
class Renewing:
    """A device with an operational certificate, and the TLS context that shows it."""

    device: BenchDevice
    ldevid: Identity
    context: ssl.SSLContext


@contextmanager
def installation() -> Iterator[Installation]:
    """An installation in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="birthmark-bench-") as folder, Installation.create(Path(folder)) as site:
        yield site


def listed(site: Installation, count: int, *, name: str = "bench") -> list[BenchDevice]:
    """Make devices and put them on the manifest."""
    devices = [BenchDevice(f"{name}-{number}", site.tpm()) for number in range(count)]
    site.store.import_manifest(
        [
            ManifestEntry(device.tpm.ek_sha256, f"{name}-{number}", MODEL.name, device.device_id, "bench", now())
            for number, device in enumerate(devices)
        ]
    )
    return devices


def renewing(site: Installation, count: int, *, name: str = "renew") -> list[Renewing]:
    """Make devices that have been through enrollment and simpleenroll, in this process: no server needs to run."""
    devices = listed(site, count, name=name)
    with site.services(Clock()) as services:
        return [_with_ldevid(site, services, device) for device in devices]


def _with_ldevid(site: Installation, services: Services, device: BenchDevice) -> Renewing:
    authority, tpm, stranger = site.pki.authority, device.tpm, Caller("bench", "127.0.0.1")
    begun = services.enrollment.begin(tpm.enroll_request(server_name="localhost").encode(), stranger)
    challenge = Challenge.decode(begun)
    answer = tpm.answer(challenge, anchor_sha256=authority.root.anchor_sha256, server_name="localhost").encode()
    born = EnrollResult.decode(services.enrollment.finish(challenge.enrollment_id, answer, stranger))
    found = services.store.certificate_by_sha256(sha256_hex(born.chain[0]))
    if found is None:
        raise LookupError("the birth certificate is not on record")
    caller = Caller("bench", "127.0.0.1", certificate=found[0], device=found[1])
    key = tpm.new_operational_key()
    csr = tpm.renewal_csr(
        key,
        device_names(device.device_id, ids.device_uri(authority.namespace.trust_domain, device.device_id)),
        nonce=services.renewal.nonce(caller).nonce,
        device_id=device.device_id,
        client_certificate=born.chain[0],
    )
    leaf = services.renewal.enroll(csr, caller).public_bytes(Encoding.DER)
    identity = Identity((leaf, *authority.chain_for(authority.fleet)), key.private)
    context = client_context(site)
    context.load_cert_chain(*identity.write(site.folder, device.device_id))
    return Renewing(device, identity, context)


def client_context(site: Installation) -> ssl.SSLContext:
    """What a device verifies the server with."""
    return ssl.create_default_context(cafile=str(site.pki.root_pem))


def enrollment(server: Server, device: BenchDevice, context: ssl.SSLContext) -> Job:
    """One attested enrollment: two requests over one fresh connection."""

    def job() -> None:
        with _connection(server.port, context) as client:
            begun = client.begin(device.tpm)
            _want(begun.status == 201, begun.body)
            answered = client.finish(device.tpm, Challenge.decode(begun.body), server.anchor_sha256)
            _want(answered.status == 200, answered.body)

    return job


def renewal(port: int, device: Renewing) -> Job:
    """One simplereenroll with its nonce: two requests over one fresh mutual TLS connection."""

    def job() -> None:
        tpm, ldevid = device.device.tpm, device.ldevid
        with _connection(port, device.context) as client:
            csr = tpm.renewal_csr(
                tpm.new_operational_key(),
                ldevid.names,
                nonce=client.nonce(),
                device_id=device.device.device_id,
                client_certificate=ldevid.der,
            )
            answered = client.est("simplereenroll", csr)
            _want(answered.status == 200, answered.body)

    return job


@contextmanager
def _connection(port: int, context: ssl.SSLContext) -> Iterator[Client]:
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)
    try:
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Client(connection)
    finally:
        connection.close()


def _want(true: bool, seen: bytes) -> None:
    if not true:
        raise AssertionError(seen.decode(errors="replace"))
