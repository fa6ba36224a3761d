"""The TOML file of `birthmark serve`: every key, its default and what it is for.

A key that nobody knows is refused with the name it was probably meant to be: a misspelt limit would otherwise not
limit anything. Relative paths start at the folder of the file. Secrets never stand in here, only where they come from
(ca.passphrase). `example()` writes the documented file from the same descriptions, so the two can't drift apart.
"""

import difflib
import ipaddress
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from birthmark_server.errors import Misconfigured
from birthmark_wire import ids

DAY_S: Final = 86_400


def _dns_name(value: str) -> str:
    return ids.trust_domain(value, field="name")


def _endpoint(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("want HOST:PORT, as in 0.0.0.0:8443 or [::]:8443")
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.fragment:
        raise ValueError("want an origin, as https://qa.example.com or http://10.0.0.5:9000")
    return value


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value))


def _loopback_endpoint(value: str) -> str:
    host = _endpoint(value).rpartition(":")[0].strip("[]")
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError("want a loopback address and a port, as 127.0.0.1:8085")
    return value


def _loopback_url(value: str) -> str:
    parts = urlsplit(_origin(value))
    if parts.scheme != "http" or parts.port is None or not ipaddress.ip_address(parts.hostname or "").is_loopback:
        raise ValueError("want plain HTTP at a loopback address, as http://127.0.0.1:15672")
    return value


DnsName = Annotated[str, AfterValidator(_dns_name)]
Origin = Annotated[str, AfterValidator(_origin)]
Network = Annotated[str, AfterValidator(_network)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
LoopbackEndpoint = Annotated[str, AfterValidator(_loopback_endpoint)]
LoopbackUrl = Annotated[str, AfterValidator(_loopback_url)]


class Section(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ServerSettings(Section):
    """The door that devices, stations and operators come to: HTTPS with client certificates."""

    listen: Endpoint = Field("0.0.0.0:8443", description="Address and port of the HTTPS listener.")
    names: list[DnsName] = Field(
        min_length=1,
        description="DNS names that devices connect to. The first one is told to devices; what a TPM signs at "
        "enrollment names one of these, so an answer made for another server is worth nothing here.",
    )
    public_url: str = Field(
        "",
        description='What devices are told, as in "https://enroll.example:8443". Empty: made from the first name and '
        "the port of `listen`.",
    )
    certificate: str = Field(description="PEM file: the server's certificate, then the Infra CA's.")
    key: str = Field(description="PEM file: the server's private key.")
    key_passphrase: str = Field(
        "", description="Where the passphrase of `key` comes from, as `[ca] passphrase`. Empty: not encrypted."
    )
    min_tls: Literal["1.2", "1.3"] = Field(
        "1.3",
        description='The oldest TLS version that is spoken. "1.2" lets in EST clients that are not there yet '
        "(strongSwan 5.9's pki), with ECDHE and AEAD suites only.",
    )
    proxy_protocol_from: list[Network] = Field(
        default=[],
        description="Addresses, or networks as 10.0.0.0/24, of TCP load balancers. Their connections must begin with a "
        "PROXY protocol header of version 2 (HAProxy: send-proxy-v2), here and at `[crl] listen`, and limits go by the "
        "address in it. Nobody else's header is believed (docs/load-balancer.md).",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Threads that do the work of requests, each many at a time. SQLite writes one at a time, and one "
        "thread costs least (docs/adr/0070). With PostgreSQL use about two per processor core.",
    )
    shutdown_grace_s: int = Field(
        10, ge=0, le=300, description="How long requests that have begun may take to finish after SIGTERM."
    )


class DatabaseSettings(Section):
    """Where everything is kept."""

    url: str = Field(
        description='"sqlite:////var/lib/birthmark/birthmark.db", or "postgresql+psycopg://USER@HOST/NAME" for many '
        "servers."
    )
    journal: str = Field(
        description="File beside the database (better: on another disk) to which issuances and revocations are "
        "written as well, so that a restored backup forgets no certificate and un-revokes nothing."
    )


class CaSettings(Section):
    """The certificate authorities, as `birthmark init` wrote them."""

    folder: str = Field(description="The folder that `birthmark init` made.")
    passphrase: str = Field(
        "",
        description="Where the passphrase of the CA keys comes from: `credential:NAME` (systemd), `file:PATH` (mode "
        "0600) or `command:PROGRAM ARGUMENT...` (as tpm2_unseal). Empty: not encrypted.",
    )
    ldevid_lifetime_s: int = Field(
        30 * DAY_S, ge=60, le=398 * DAY_S, description="How long an operational certificate (LDevID) is valid."
    )


class TpmSettings(Section):
    """What a genuine TPM is."""

    roots: str = Field(description="Folder of TPM vendor roots (`birthmark tpm-roots add|list`).")


class ShardSettings(Section):
    """One broker of several."""

    name: str = Field(
        pattern="^[a-z0-9-]{1,32}$",
        description="What it is called here. Which device goes where depends on the names, so a name stays when the "
        "machine changes.",
    )
    host: DnsName = Field(description="DNS name of this broker, as in its certificate; devices are told it.")
    port: Annotated[int, Field(ge=1, le=65_535)] = Field(8883, description="Port of its mutual-TLS listener.")
    control_host: str = Field("", description="Where the server finds it, if not at `host`.")
    control_port: int = Field(0, ge=0, le=65_535, description="And at which port, if not at `port`.")
    deny_file: str = Field(
        "",
        description="Where a copy of the deny list goes for its gate: on this machine, or a folder that both share. "
        "Empty: something else carries it there (docs/operations.md).",
    )
    drain: bool = Field(False, description="true: no device is sent there any more, those that are there move away.")


class RabbitMqSettings(Section):
    """A RabbitMQ cluster, one of whose nodes runs on this machine (docs/broker.md)."""

    door: LoopbackEndpoint = Field(
        "127.0.0.1:8085",
        description="Address and port, on loopback, where the node on this machine asks us who may do what.",
    )
    management: list[LoopbackUrl] = Field(
        ["http://127.0.0.1:15672"],
        min_length=1,
        description="The management API of the nodes, the nearest first, each at a loopback address: of this machine's "
        "node, and of others where a tunnel leads to them.",
    )
    management_password: str = Field(
        "",
        description="Where the password of its user `srv-management` comes from, as `[ca] passphrase`; all nodes of a "
        "cluster have the same one.",
    )
    nodes: list[Annotated[str, Field(pattern=r"^[a-z0-9_-]+@[A-Za-z0-9._-]+$")]] = Field(
        ["rabbit@localhost"], min_length=1, description="The names of all nodes of the cluster, as rabbit@mq-1."
    )
    amqp_port: int = Field(5672, ge=1, le=65_535, description="Port of the node's AMQP listener, which is on loopback.")


class BrokerSettings(Section):
    """The MQTT broker, as devices are told of it, and the server's own connection to it."""

    kind: Literal["mosquitto", "rabbitmq"] = Field(
        "mosquitto",
        description='What it is: "mosquitto" with our gate, or "rabbitmq", a cluster, which needs `control`, '
        "`deny_file` and `[broker.rabbitmq]`; the control certificate is not used there. For MQTT 3.1.1, and so not "
        "for our agents (docs/broker.md).",
    )
    host: DnsName = Field(description="DNS name of the broker, as in its certificate.")
    port: Annotated[int, Field(ge=1, le=65_535)] = Field(8883, description="Port of its mutual-TLS listener.")
    control: bool = Field(False, description="Whether this server connects to the broker itself.")
    control_host: str = Field("", description="Where the server finds the broker, if not at `host`.")
    control_port: int = Field(0, ge=0, le=65_535, description="And at which port, if not at `port`.")
    control_replica: str = Field(
        "server",
        pattern="^[a-z0-9-]{1,32}$",
        description="What tells this server's connection from other servers' with the same control certificate.",
    )
    control_certificate: str = Field("", description="PEM file: the control certificate and its CA's.")
    control_key: str = Field("", description="PEM file: the control key.")
    command_certificate: str = Field(
        "",
        description="PEM file: the certificate of the key that signs commands to devices, and its CA's. Empty: this "
        "server commands nothing (docs/campaigns.md).",
    )
    command_key: str = Field("", description="PEM file: the key that signs commands, on P-256.")
    deny_file: str = Field(
        "",
        description="The gate's deny file, where the broker runs on this machine (`birthmark broker config` names it): "
        "what is revoked is off the broker at once. Empty: this server tells no broker, and one whose deny list nobody "
        "renews lets nobody in.",
    )
    deny_certificate: str = Field("", description="PEM file: the certificate that signs the deny file, and its CA's.")
    deny_key: str = Field("", description="PEM file: its key.")
    deny_lease_s: int = Field(
        900,
        ge=60,
        le=7 * DAY_S,
        description="For how long a broker that hears nothing from us lets new connections in; renewed three times as "
        "often. A broker that was cut off for longer could let the revoked in.",
    )
    shards: list[ShardSettings] = Field(
        [],
        description="Several brokers, where one is not enough: a table for each, after the keys above. "
        "Each device belongs to one of them. `host`, `port`, `control_host` and `control_port` are then not used.",
    )
    rabbitmq: RabbitMqSettings = Field(
        RabbitMqSettings.model_validate({}),
        description="The cluster, where `kind` is `rabbitmq`: a table, after the keys above.",
    )

    @model_validator(mode="after")
    def _rabbitmq_is_whole(self) -> Self:
        if self.kind == "rabbitmq":
            if self.shards:
                raise ValueError("want no shards with kind = rabbitmq: its cluster is one broker")
            if self.control and not (self.deny_file and self.rabbitmq.management_password):
                raise ValueError("want deny_file and rabbitmq.management_password with kind = rabbitmq and control")
        return self

    @field_validator("shards")
    @classmethod
    def _names_differ(cls, shards: list[ShardSettings]) -> list[ShardSettings]:
        if len({shard.name for shard in shards}) != len(shards):
            raise ValueError("want a name of its own for each broker")
        if shards and all(shard.drain for shard in shards):
            raise ValueError("want at least one broker that is not drained")
        return shards

    @property
    def every(self) -> tuple[ShardSettings, ...]:
        """All brokers; the only one, called `broker`, where there are no shards."""
        if self.shards:
            return tuple(self.shards)
        only = {"host": self.host, "port": self.port}
        return (
            ShardSettings.model_validate(
                {"name": "broker", **only, "control_host": self.control_host, "control_port": self.control_port}
            ),
        )


class EnrollmentSettings(Section):
    """How a device is born."""

    challenge_ttl_s: int = Field(300, ge=10, le=300, description="How long a challenge can be answered.")
    answer_ttl_s: int = Field(
        DAY_S, ge=0, le=7 * DAY_S, description="How long a byte-identical repeat gets the stored answer again."
    )
    most_challenges_per_source: int = Field(
        8,
        ge=1,
        le=64,
        description="Unanswered challenges that one source (a station, or an address) may hold for one device's keys.",
    )


class EstSettings(Section):
    """How a device renews itself (RFC 7030)."""

    nonce_ttl_s: int = Field(300, ge=10, le=300, description="How long a nonce for TPM evidence can be used.")
    most_per_day: int = Field(
        24,
        ge=1,
        description="Certificates that one device may fetch in 24 hours: a renewal that loops must not fill the disk.",
    )


class RotationSettings(Section):
    """How devices are told to rotate over the broker (docs/campaigns.md)."""

    most_under_way: int = Field(
        1000, ge=1, description="Devices that rotate at the same time; the others are told to come later."
    )
    spread_s: int = Field(120, ge=1, le=DAY_S, description="Those come back spread over this time.")
    silence_s: int = Field(
        20, ge=5, le=DAY_S, description="A device that has accepted and says no more is told again after this time."
    )
    check_origins: list[Origin] = Field(
        default=[],
        description="Where a campaign's outside check (`--check URL`) may be: scheme, host and port, as "
        "https://qa.example.com. It is the server that asks, and it asks nobody else.",
    )


class RolloverSettings(Section):
    """How a CA is replaced (docs/rollover.md)."""

    seen_within_s: int = Field(
        30 * DAY_S,
        ge=60,
        description="A device that was seen within this time must know a new root before that one is used. Others are "
        "shown the way when they wake.",
    )


class CrlSettings(Section):
    """Certificate revocation lists over plain HTTP, where every verifier looks for them."""

    listen: str = Field("", description='Address and port, as in "0.0.0.0:8080". Empty: not served by this process.')
    lifetime_s: int = Field(7 * DAY_S, ge=600, description="nextUpdate of a list, from its making.")
    refresh_s: int = Field(
        3600,
        ge=1,
        description="A new list is made this often, at once after a restart, always well before nextUpdate, and within "
        "seconds of a revocation.",
    )


class OcspSettings(Section):
    """OCSP answers, by plain HTTP where the CRLs are: POST and GET at {public_url}/ocsp."""

    lifetime_s: int = Field(
        3600,
        ge=600,
        le=DAY_S,
        description="nextUpdate of an answer, from its making: how long a verifier may go by it after a revocation.",
    )


class RefusalSettings(Section):
    """The book of refusals (`birthmark refusal list`): how much of it stays in the database."""

    keep_s: int = Field(365 * DAY_S, ge=DAY_S, description="How long an entry is kept.")
    most_bytes: int = Field(
        256 << 20,
        ge=1 << 20,
        description="Beyond this size entries are thrown away: the oldest that name no device, then the oldest.",
    )


class LimitSettings(Section):
    """What one peer may ask of us before anything is computed for it."""

    body_bytes: int = Field(65_536, ge=8192, le=1 << 20, description="The largest request body; more is answered 413.")
    requests_per_s: float = Field(
        50.0, gt=0, description="Requests per second and source (address, IPv6 /64, or client certificate)."
    )
    burst: int = Field(200, ge=1, description="Requests that a source may make at once before that rate holds.")
    connections: int = Field(
        2000,
        ge=1,
        description="Open connections of each listener (HTTPS, CRL, front); more are closed at once. The process needs "
        "that many file descriptors for each.",
    )
    connections_per_source: int = Field(200, ge=1, description="Open connections of one address (IPv6: /64).")
    handshake_timeout_s: float = Field(10.0, gt=0, le=120, description="How long a TLS handshake may take.")
    idle_timeout_s: float = Field(
        30.0, gt=0, le=600, description="How long a connection may sit without a complete request header."
    )
    body_timeout_s: float = Field(15.0, gt=0, le=600, description="How long a request body may take to arrive.")


class FrontSettings(Section):
    """A TLS front (nginx, HAProxy) that passes the client's certificate on by RFC 9440. Off unless `listen` is set."""

    listen: str = Field(
        "",
        description="Path of a Unix socket (mode 0660) for the front. Who can open it is believed: the front must "
        "strip Client-Cert and Client-Cert-Chain from what clients send, and set X-Forwarded-For to the client's "
        "address alone (docs/tls-front.md).",
    )


class LogSettings(Section):
    """Log lines go to stderr, one per request and event."""

    format: Literal["logfmt", "json"] = Field("logfmt", description="`logfmt` (key=value) or `json`.")


class TracingSettings(Section):
    """OpenTelemetry traces, by OTLP over HTTP (docs/monitoring.md). Off unless `endpoint` is set."""

    endpoint: str = Field(
        "",
        pattern="^(https?://.+)?$",
        description='Where a collector takes them, as in "http://localhost:4318/v1/traces". Needs birthmark[tracing].',
    )
    sample: float = Field(
        1.0, ge=0.0, le=1.0, description="Which part of the traces is kept, drawn anew for each request or message."
    )
    anchors: str = Field("", description="PEM file: the CA of an https collector, if it is none of the system's.")


class Settings(Section):
    """The whole file."""

    server: ServerSettings
    database: DatabaseSettings
    ca: CaSettings
    tpm: TpmSettings
    broker: BrokerSettings
    enrollment: EnrollmentSettings = EnrollmentSettings.model_validate({})
    est: EstSettings = EstSettings.model_validate({})
    rotation: RotationSettings = RotationSettings.model_validate({})
    rollover: RolloverSettings = RolloverSettings.model_validate({})
    crl: CrlSettings = CrlSettings.model_validate({})
    ocsp: OcspSettings = OcspSettings.model_validate({})
    refusals: RefusalSettings = RefusalSettings.model_validate({})
    limits: LimitSettings = LimitSettings.model_validate({})
    front: FrontSettings = FrontSettings.model_validate({})
    log: LogSettings = LogSettings.model_validate({})
    tracing: TracingSettings = TracingSettings.model_validate({})

    @property
    def public_url(self) -> str:
        """What devices are told, without a slash at its end."""
        port = self.server.listen.rpartition(":")[2]
        return self.server.public_url.rstrip("/") or f"https://{self.server.names[0]}:{port}"


_PATHS: Final = {
    "server": ("certificate", "key"),
    "database": ("journal",),
    "ca": ("folder",),
    "tpm": ("roots",),
    "broker": (
        "control_certificate",
        "control_key",
        "command_certificate",
        "command_key",
        "deny_file",
        "deny_certificate",
        "deny_key",
    ),
    "front": ("listen",),
    "tracing": ("anchors",),
}


def load(path: Path) -> Settings:
    """Read the file or raise Misconfigured with one sentence for everything that is wrong in it."""
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Misconfigured(f"can't read the settings file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} is not TOML: {error}") from None
    return parse(tables, folder=path.resolve().parent, source=str(path))


def parse(tables: dict[str, Any], *, folder: Path, source: str = "settings") -> Settings:
    """Check the tables of a settings file; relative paths start at `folder`. Raise Misconfigured."""
    for section, keys in _PATHS.items():
        table = tables.get(section)
        if isinstance(table, dict):
            table.update(
                {key: str(folder / table[key]) for key in keys if isinstance(table.get(key), str) and table[key]}
            )
    for shard in _shard_tables(tables):
        if isinstance(shard.get("deny_file"), str) and shard["deny_file"]:
            shard["deny_file"] = str(folder / shard["deny_file"])
    try:
        return Settings.model_validate(tables)
    except ValidationError as errors:
        raise Misconfigured(f"{source}: " + "; ".join(_explain(errors))) from None


def _shard_tables(tables: dict[str, Any]) -> list[dict[str, Any]]:
    broker = tables.get("broker")
    shards = broker.get("shards") if isinstance(broker, dict) else None
    return [one for one in shards if isinstance(one, dict)] if isinstance(shards, list) else []


def _explain(errors: ValidationError) -> Iterator[str]:
    for error in errors.errors(include_url=False):
        name = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            wanted = ".".join(part for part in error["loc"] if isinstance(part, str))
            nearest = difflib.get_close_matches(wanted, _known_names(), n=1, cutoff=0.6)
            yield f"{name} is not a setting" + (f"; did you mean {nearest[0]}?" if nearest else "")
        elif error["type"] == "missing":
            yield f"{name} is missing"
        else:
            yield f"{name}: {error['msg'].removeprefix('Value error, ')}, got {error['input']!r}"


def _known_names() -> list[str]:
    names = [
        *Settings.model_fields,
        *(f"broker.shards.{key}" for key in ShardSettings.model_fields),
        *(f"broker.rabbitmq.{key}" for key in RabbitMqSettings.model_fields),
    ]
    return names + [f"{section}.{key}" for section in Settings.model_fields for key in _fields(section)]


def _fields(section: str) -> dict[str, FieldInfo]:
    model = Settings.model_fields[section].annotation
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{section} is not a table")
    return model.model_fields


_EXAMPLES: Final[dict[str, object]] = {
    "server.names": ["enroll.example"],
    "server.certificate": "/etc/birthmark/server.pem",
    "server.key": "/etc/birthmark/server.key",
    "database.url": "sqlite:////var/lib/birthmark/birthmark.db",
    "database.journal": "/var/lib/birthmark/journal",
    "ca.folder": "/etc/birthmark/ca",
    "tpm.roots": "/etc/birthmark/tpm-roots",
    "broker.host": "broker.example",
    "broker.shards.name": "mqtt-1",
    "broker.shards.host": "mqtt-1.example",
}


def example() -> str:
    """Return a settings file with every key, its description above it; what has a default is commented out."""
    return "\n".join(line for section in Settings.model_fields for line in _example_section(section))


def _example_section(section: str) -> Iterator[str]:
    model = Settings.model_fields[section].annotation
    yield f"# {(model.__doc__ or '').strip()}"
    yield f"[{section}]"
    for key, field in _fields(section).items():
        yield from _wrap(field.description or "")
        given = _EXAMPLES.get(f"{section}.{key}")
        default = field.get_default()
        value = {} if isinstance(default, Section) else default
        yield f"{key} = {_toml(given)}" if given is not None else f"# {key} = {_toml(value)}"
        if key == "shards":
            yield from _example_table("[[broker.shards]]", "broker.shards", ShardSettings)
        if key == "rabbitmq":
            yield from _example_table("[broker.rabbitmq]", "broker.rabbitmq", RabbitMqSettings)
    yield ""


def _example_table(head: str, name: str, model: type[Section]) -> Iterator[str]:
    """Yield what a table below a section may say, unlike the keys of the same names above it: who fills the file in
    with sed finds those alone."""
    yield f"## {head}"
    for key, field in model.model_fields.items():
        yield from _wrap(field.description or "", start="## #")
        yield f"## {key}={_toml(_EXAMPLES.get(f'{name}.{key}', field.get_default()))}"


def _wrap(text: str, width: int = 100, *, start: str = "#") -> Iterator[str]:
    line = start
    for word in text.split():
        if len(line) + 1 + len(word) > width:
            yield line
            line = start
        line += f" {word}"
    yield line


def _toml(value: object) -> str:
    return json.dumps(value)  # strings, numbers, booleans and lists of them are written alike in both
