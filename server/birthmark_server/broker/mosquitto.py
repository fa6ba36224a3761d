"""Mosquitto's configuration: written whole, from settings that are checked first.

Mosquitto alone gets several things wrong for a fleet (docs/broker.md), so the listener is the gate plugin's: TLS proves
possession of a key certified below our root, and everything else is decided by the gate. The files:

    mosquitto.conf   ca-bundle.pem (root, Fleet and Infra CAs)   fleet-ca.pem   infra-ca.pem   openssl.cnf
    crl.pem (where CRLs are given)   sessions/ (Mosquitto's database)

Rules: public certificates and settings only, no key is copied. Each file is replaced whole. The deny file is the
server's (denyfile.py): without one the gate does not start.
"""

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_server.broker.denyfile import write_durably
from birthmark_server.broker.trust_files import BUNDLE_FILE, FLEET_FILE, INFRA_FILE, pem
from birthmark_server.errors import Misconfigured
from birthmark_wire import ids
from birthmark_wire.errors import DecodeError

_MODE: Final = 0o644
_CONNECTIONS_MOST: Final = 1_000_000  # server/mosquitto_gate/options.h

_TEMPLATE: Final = """\
# Written by `birthmark broker config`: change the settings there, not here. docs/broker.md has the reason of each line.
# Start Mosquitto with OPENSSL_CONF={folder}/openssl.cnf in its environment.
per_listener_settings false
allow_anonymous false
allow_zero_length_clientid false
user {user}
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
log_timestamp_format %Y-%m-%dT%H:%M:%S

listener {port} {address}
max_connections {max_connections}
require_certificate true
cafile {folder}/ca-bundle.pem
certfile {certificate}
keyfile {key}
{crl_line}tls_version tlsv1.3
ciphers_tls1.3 TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256

plugin {plugin}
plugin_opt_trust_domain {trust_domain}
plugin_opt_fleet_ca_file {folder}/fleet-ca.pem
plugin_opt_infra_ca_file {folder}/infra-ca.pem
plugin_opt_control_eku {control_eku}
plugin_opt_deny_file {folder}/deny
plugin_opt_deny_eku {deny_eku}
plugin_opt_max_connections {max_connections}
plugin_opt_app_clients {app_clients}

# Without it a connect takes 47 ms instead of 4.
set_tcp_nodelay true
max_keepalive {max_keepalive_s}
max_packet_size {max_packet_bytes}
# The database is the queue, the broker only carries: nothing is retained, and what waits for a client waits whole.
retain_available false
max_queued_messages 0
max_queued_bytes {max_queued_bytes}
persistent_client_expiration 60d
sys_interval 0

persistence true
persistence_location {folder}/sessions/
autosave_on_changes true
autosave_interval {autosave_changes}
"""

_OPENSSL_CNF: Final = """\
# No TLS session tickets: every connection proves its certificate anew. The gate does not rely on it.
openssl_conf = openssl_init

[openssl_init]
ssl_conf = ssl_configuration

[ssl_configuration]
system_default = tls

[tls]
MinProtocol = TLSv1.3
NumTickets = 0
Options = -SessionTicket
"""


@dataclass(frozen=True, slots=True)
class MosquittoSettings:
    """What the configuration depends on.

    folder: where everything is written; absolute. plugin: birthmark_gate.so. certificate, key: of the broker, PEM; the
    certificate file holds the Infra CA's too. roots, fleet, infra: CA certificates; Fleet CAs make devices, Infra CAs
    make control identities, that carry the extended key usage control_eku, and signers of deny lists, with deny_eku.
    crls: DER; where any are given, each Fleet and Infra CA needs its own (Mosquitto refuses the clients of a CA
    without). address: to listen on, empty for all. user: that Mosquitto becomes when started as root. app_clients: let
    client ids be ID.APP too. autosave_changes: after so many changes Mosquitto writes its sessions to the disk.
    """

    folder: Path
    plugin: Path
    certificate: Path
    key: Path
    trust_domain: str
    control_eku: str
    deny_eku: str
    roots: tuple[x509.Certificate, ...]
    fleet: tuple[x509.Certificate, ...]
    infra: tuple[x509.Certificate, ...]
    crls: tuple[bytes, ...] = ()
    address: str = ""
    port: int = 8883
    user: str = "mosquitto"
    max_connections: int = 10_000
    max_keepalive_s: int = 600
    max_packet_bytes: int = 262_144
    max_queued_bytes: int = 268_435_456
    autosave_changes: int = 1000
    app_clients: bool = False


@dataclass(frozen=True, slots=True)
class WrittenConfig:
    """Where the written configuration is, and where the gate looks for its deny file. environment: Mosquitto's."""

    conf: Path
    deny_file: Path
    environment: dict[str, str]


def write_config(settings: MosquittoSettings) -> WrittenConfig:
    """Check `settings`, write all files, and return where they are.

    Raises Misconfigured naming what can't stand. Does not prove that Mosquitto starts with it: see
    `birthmark_server.broker.trial`.
    """
    _check(settings)
    folder = settings.folder
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    _make_sessions(folder / "sessions", settings.user)
    _write(folder / BUNDLE_FILE, pem((*settings.roots, *settings.fleet, *settings.infra)))
    _write(folder / FLEET_FILE, pem(settings.fleet))
    _write(folder / INFRA_FILE, pem(settings.infra))
    _write(folder / "openssl.cnf", _OPENSSL_CNF.encode())
    if settings.crls:
        _write(folder / "crl.pem", b"".join(crl.public_bytes(Encoding.PEM) for crl in _read_crls(settings)))
    _write(folder / "mosquitto.conf", render(settings).encode())
    return WrittenConfig(
        conf=folder / "mosquitto.conf",
        deny_file=folder / "deny",
        environment={"OPENSSL_CONF": str(folder / "openssl.cnf")},
    )


def render(settings: MosquittoSettings) -> str:
    """Return mosquitto.conf."""
    return _TEMPLATE.format(
        folder=settings.folder,
        user=settings.user,
        port=settings.port,
        address=settings.address,
        certificate=settings.certificate,
        key=settings.key,
        crl_line=f"crlfile {settings.folder}/crl.pem\n" if settings.crls else "",
        plugin=settings.plugin,
        trust_domain=settings.trust_domain,
        control_eku=settings.control_eku,
        deny_eku=settings.deny_eku,
        app_clients="true" if settings.app_clients else "false",
        max_connections=settings.max_connections,
        max_keepalive_s=settings.max_keepalive_s,
        max_packet_bytes=settings.max_packet_bytes,
        max_queued_bytes=settings.max_queued_bytes,
        autosave_changes=settings.autosave_changes,
    )


def _check(settings: MosquittoSettings) -> None:
    for path in (settings.folder, settings.plugin, settings.certificate, settings.key):
        # Mosquitto reads a line up to its end and strips it: such a path would be another one, or another setting.
        if not path.is_absolute() or str(path) != str(path).strip() or not str(path).isprintable():
            raise Misconfigured(f"want an absolute path that can stand in one line, got {str(path)!r}")
    for path in (settings.plugin, settings.certificate, settings.key):
        if not path.is_file():
            raise Misconfigured(f"{path} is not there") from FileNotFoundError(path)
    try:
        ids.trust_domain(settings.trust_domain)
        x509.ObjectIdentifier(settings.control_eku)
        x509.ObjectIdentifier(settings.deny_eku)
    except (DecodeError, ValueError) as error:
        raise Misconfigured(str(error)) from None
    if not settings.address.replace(":", "").replace(".", "").replace("-", "").isalnum() and settings.address:
        raise Misconfigured(f"address: want a host name or address, got {settings.address!r}")
    for name, value, most in (
        ("port", settings.port, 65_535),
        ("max_connections", settings.max_connections, _CONNECTIONS_MOST),
        ("max_keepalive_s", settings.max_keepalive_s, 65_535),
        ("max_packet_bytes", settings.max_packet_bytes, 268_435_455),
        ("max_queued_bytes", settings.max_queued_bytes, 1 << 40),
        ("autosave_changes", settings.autosave_changes, 1_000_000),
    ):
        if not 1 <= value <= most:
            raise Misconfigured(f"{name}: want 1 to {most}, got {value}")
    if not settings.user.replace("-", "").replace("_", "").isalnum():
        raise Misconfigured(f"user: want a user name, got {settings.user!r}")
    for name in ("roots", "fleet", "infra"):
        if not getattr(settings, name):
            raise Misconfigured(f"{name}: want at least one CA certificate")
    keys = {_spki(certificate) for certificate in settings.fleet}
    if any(_spki(certificate) in keys for certificate in settings.infra):
        raise Misconfigured("a Fleet CA and an Infra CA have the same key: their certificates can't be told apart")
    if settings.crls:
        _read_crls(settings)


def _read_crls(settings: MosquittoSettings) -> list[x509.CertificateRevocationList]:
    """Return the CRLs; refuse a set by which Mosquitto would lock honest clients out."""
    try:
        crls = [x509.load_der_x509_crl(crl) for crl in settings.crls]
    except ValueError as error:
        raise Misconfigured(f"crls: {error}") from None
    for certificate in (*settings.fleet, *settings.infra):
        if not any(crl.issuer == certificate.subject for crl in crls):
            raise Misconfigured(f"crls: none of {certificate.subject.rfc4514_string()}; make an empty one")
    return crls


def _make_sessions(folder: Path, user: str) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        try:
            shutil.chown(folder, user=pwd.getpwnam(user).pw_uid)
        except KeyError:
            raise Misconfigured(f"user: there is no user {user!r} on this machine") from None


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _write(path: Path, data: bytes) -> None:
    write_durably(path, data, mode=_MODE)
