"""Every other table of the file."""

from typing import Literal

from pydantic import Field

from birthmark_server.settings.values import DAY_S, DnsName, Endpoint, Network, Origin, Section


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
