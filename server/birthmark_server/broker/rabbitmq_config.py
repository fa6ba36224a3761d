"""RabbitMQ's configuration for a node of a cluster: written whole, from settings that are checked first.

    rabbitmq.conf   advanced.config   enabled_plugins   and CRLs, in a folder by OpenSSL's hash of their issuer

A certificate whose CA has no CRL there is refused by TLS. That is what keeps birth certificates out: only Fleet CAs get
one.

Rules: MQTT with mutual TLS is the only door that leads outside; AMQP and management listen on loopback. Who may do what
is asked of our server for every connection, subscription and topic (rabbitmq_door.py); nothing is cached there, so that
what is denied is denied. The username is the URI SAN of the certificate: only operational certificates have one.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type

from birthmark_server.broker.denyfile import write_durably
from birthmark_server.errors import Misconfigured

MANAGEMENT_USER: Final = "srv-management"
"""Of the one user with a password, who comes from loopback. No device is called so: the prefix is reserved."""

STATISTICS_MS: Final = 250
"""How often a node gathers who is connected. RabbitMQ's own 5 s would make every look at that so old."""

_CONF: Final = """\
# Written by Birthmark: change the settings there, not here. docs/broker.md has the reason of each line.
listeners.tcp.1 = 127.0.0.1:{amqp_port}
mqtt.listeners.tcp = none
mqtt.listeners.ssl.1 = {address}:{mqtt_port}
mqtt.ssl_cert_login = true
mqtt.allow_anonymous = false
mqtt.vhost = /
mqtt.exchange = amq.topic
mqtt.tcp_listen_options.nodelay = true
ssl_cert_login_from = subject_alternative_name
ssl_cert_login_san_type = uri
ssl_cert_login_san_index = 0
management.tcp.ip = 127.0.0.1
management.tcp.port = {management_port}
collect_statistics_interval = {statistics_ms}
management.db_cache_multiplier = 1
default_user = {user}
default_pass = {password}
loopback_users.{user} = true
auth_backends.1 = internal
auth_backends.2 = http
auth_http.http_method = post
auth_http.user_path = {auth_url}/user
auth_http.vhost_path = {auth_url}/vhost
auth_http.resource_path = {auth_url}/resource
auth_http.topic_path = {auth_url}/topic
cluster_formation.peer_discovery_backend = classic_config
{nodes}
cluster_partition_handling = pause_minority
log.console = true
log.console.level = info
log.file = false
"""

_ADVANCED: Final = """\
[{{rabbit, [{{ssl_options, [
  {{cacertfile, "{ca_bundle}"}}, {{certfile, "{certificate}"}}, {{keyfile, "{key}"}},
  {{verify, verify_peer}}, {{fail_if_no_peer_cert, true}}, {{versions, ['tlsv1.3']}},
  {{session_tickets, disabled}},
  {{crl_check, peer}}, {{crl_cache, {{ssl_crl_hash_dir, {{internal, [{{dir, "{crl_folder}"}}]}}}}}}
]}}]}},
 {{rabbitmq_mqtt, [{{ignore_colons_in_username, true}},
  {{subscription_ttl, {session_ms}}}, {{max_session_expiry_interval_seconds, {session_s}}}]}}].
"""

_PLUGINS: Final = "[rabbitmq_mqtt, rabbitmq_auth_mechanism_ssl, rabbitmq_auth_backend_http, rabbitmq_management].\n"
_SESSION_S: Final = 60 * 86_400
"""How long a session waits for its device. RabbitMQ to 3.12 and from 3.13 on call it by different names, and in
rabbitmq.conf each refuses the other's."""


@dataclass(frozen=True, slots=True)
class RabbitSettings:
    """What a node's configuration depends on. folder: its own; crl_folder: CRLs by OpenSSL's hash, read at each
    handshake. nodes: all node names of the cluster. auth_url: where our server answers, on loopback."""

    folder: Path
    certificate: Path
    key: Path
    ca_bundle: Path
    crl_folder: Path
    auth_url: str
    nodes: tuple[str, ...]
    address: str
    mqtt_port: int
    amqp_port: int
    management_port: int
    management_password: str


def write_crls(folder: Path, crls: Iterable[bytes]) -> None:
    """Make these CRLs, DER, the only ones in the folder; each is there whole or not at all. Others go first.

    Raises OSError, ValueError for what is no CRL. One that is past its nextUpdate locks its CA's devices out.
    """
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    for crl in [x509.load_der_x509_crl(der) for der in crls]:
        hashed = name_hash(crl.issuer)
        number = sum(name.startswith(hashed) for name in files)
        files[f"{hashed}.r{number}"] = crl.public_bytes(Encoding.PEM)
    for old in folder.glob("*.r*"):
        if old.name not in files:
            old.unlink()
    for name, pem in files.items():
        write_durably(folder / name, pem, mode=0o644)


def name_hash(name: x509.Name) -> str:
    """Return OpenSSL's hash of a name (X509_NAME_hash): SHA-1 over its attributes, as UTF-8 in lower case and with
    single spaces, the first four octets as a little-endian number."""
    canonical = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(one.oid, _canonical(str(one.value)), _ASN1Type.UTF8String) for one in rdn]
            )
            for rdn in name.rdns
        ]
    ).public_bytes()
    header = 2 if canonical[1] < 0x80 else 2 + (canonical[1] & 0x7F)
    digest = hashlib.sha1(canonical[header:], usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def _canonical(text: str) -> str:
    """Only ASCII is folded, and only its white space."""
    folded = "".join(character.lower() if character.isascii() else character for character in text)
    return re.sub(r"[ \t\n\v\f\r]+", " ", folded).strip(" ")


def write_config(settings: RabbitSettings) -> None:
    """Write a node's files. Raise Misconfigured for a path that can't stand in one."""
    for path in (settings.certificate, settings.key, settings.ca_bundle, settings.crl_folder):
        if not path.is_absolute() or not str(path).isprintable() or set('"\\') & set(str(path)):
            raise Misconfigured(f"want an absolute path that can stand in quotes, got {str(path)!r}")
    settings.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    nodes = "\n".join(
        f"cluster_formation.classic_config.nodes.{number} = {name}" for number, name in enumerate(settings.nodes, 1)
    )
    conf = _CONF.format(
        amqp_port=settings.amqp_port,
        address=settings.address,
        mqtt_port=settings.mqtt_port,
        management_port=settings.management_port,
        user=MANAGEMENT_USER,
        password=settings.management_password,
        auth_url=settings.auth_url,
        nodes=nodes,
        statistics_ms=STATISTICS_MS,
    )
    advanced = _ADVANCED.format(
        ca_bundle=settings.ca_bundle,
        certificate=settings.certificate,
        key=settings.key,
        crl_folder=settings.crl_folder,
        session_ms=1000 * _SESSION_S,
        session_s=_SESSION_S,
    )
    write_durably(settings.folder / "rabbitmq.conf", conf.encode(), mode=0o600)
    write_durably(settings.folder / "advanced.config", advanced.encode(), mode=0o644)
    write_durably(settings.folder / "enabled_plugins", _PLUGINS.encode(), mode=0o644)
