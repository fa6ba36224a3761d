"""`birthmark-agent trace`: one mutual TLS handshake, in seven steps, each with the evidence of this very connection.

    1 connect               the name resolved, TCP open
    2 server certificate    what the peer showed
    3 its verification      up to the pinned root, for the name that we asked for, with the peer's own signature
    4 client certificate    what we showed, signed for by the key in the TPM
    5 its verification      by the peer: TLS 1.3 says nothing when it is content, so its first answer proves it
    6 access                MQTT's CONNACK, or HTTP's status
    7 encrypted exchange    a message that the peer acknowledged

The steps are read off what tls_tap overheard; a step that was not reached is not shown. Nothing is changed: no message
that waits for this device is acknowledged, no will is left, and the agent that runs keeps its session.
"""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_agent import tls_tap
from birthmark_agent.chain import find_path
from birthmark_agent.errors import AgentError, UnusableAnswer
from birthmark_agent.guest import ANSWER_WITHIN_S, guest_session
from birthmark_agent.homecoming import Homecoming
from birthmark_agent.http import PROBLEM_MIME, HttpsConnection, TlsFailed, Unreachable, split_url
from birthmark_agent.identity import Identities
from birthmark_agent.mqtt import BrokerRefused, ConnectionLost, drive_until, status_payload, wait_live
from birthmark_agent.slots import Identity
from birthmark_agent.status import Report, is_running, read_report, stamp
from birthmark_agent.tls import TlsKey
from birthmark_agent.tls_tap import Message, Tap, certificates_in, signature_scheme
from birthmark_agent.tpm.signer import TpmSigner
from birthmark_wire import est, topics
from birthmark_wire.tpm_templates import STORAGE_KEY_HANDLE

_NAMES = (
    "connect",
    "server certificate",
    "its verification",
    "client certificate",
    "its verification",
    "access",
    "encrypted exchange",
)


class NoCertificate(AgentError):
    """There is nothing to show."""

    code = "no-certificate"
    advice = "run `birthmark-agent enroll` first"


Evidence = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ms: from the end of the step before. reason: why it failed, empty where it did not."""

    number: int
    name: str
    ms: float
    evidence: Evidence
    reason: str = ""


@dataclass(frozen=True)
class Trace:
    """The steps that were reached; only the last one can have failed. peer: `broker` or `server`, and where it is."""

    peer: str
    where: str
    note: str
    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """Whether all seven steps went well."""
        return len(self.steps) == len(_NAMES) and not self.steps[-1].reason

    def as_json(self) -> dict[str, object]:
        """Return what --json prints."""
        steps = [
            {
                "step": step.number,
                "name": step.name,
                "ok": not step.reason,
                "ms": round(step.ms, 2),
                "evidence": dict(step.evidence),
                "reason": step.reason,
            }
            for step in self.steps
        ]
        return {"ok": self.ok, "peer": self.peer, "where": self.where, "note": self.note, "steps": steps}

    def lines(self) -> list[str]:
        """Return what a person sees."""
        lines = [f"{self.peer} {self.where}", *([self.note] if self.note else []), ""]
        for step in self.steps:
            head = f"{step.number} {step.name:19} {'FAILED' if step.reason else 'ok':6} {step.ms:7.1f} ms"
            evidence = [*step.evidence, *([("reason", step.reason)] if step.reason else [])]
            for index, (name, value) in enumerate(evidence or [("", "")]):
                lines.append(f"{head if index == 0 else '':41}  {name:11} {value}".rstrip())
        total = sum(step.ms for step in self.steps)
        verdict = "mutual TLS stands" if self.ok else f"stopped at step {len(self.steps)}"
        return [*lines, "", f"{verdict}; {total:.1f} ms"]


@dataclass
class _Seen:
    """What one connection left behind, beside what the tap overheard. *_s: time.perf_counter()'s, 0 if not reached.
    server_says: why the server would refuse our certificate, where the broker cut the connection without a word."""

    host: str
    port: int
    began_s: float = 0.0
    access_s: float = 0.0
    done_s: float = 0.0
    address: str = ""
    cipher: str = ""
    access: Evidence = ()
    exchange: Evidence = ()
    failure: AgentError | None = None
    server_says: str = ""
    tap: Tap = field(default_factory=Tap)

    def note_socket(self, tls: ssl.SSLSocket | None) -> None:
        """Keep what only an open socket can say."""
        if tls is not None and (cipher := tls.cipher()) is not None:
            host, port = tls.getpeername()[:2]
            self.address = f"{host}:{port}"
            self.cipher = f"{tls.version()}, {cipher[0]}, {cipher[2]} bits"


class _TimedKey:
    """The TPM's key with a stopwatch."""

    def __init__(self, key: TlsKey) -> None:
        self._key = key
        self.signatures = 0
        self.ms = 0.0

    @property
    def spki(self) -> bytes:
        return self._key.spki

    def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
        began_s = time.perf_counter()
        try:
            return self._key.sign_digest(digest, hash_name)
        finally:
            self.signatures += 1
            self.ms += (time.perf_counter() - began_s) * 1000


def trace(identities: Identities, *, server: bool) -> Trace:
    """Connect to the broker, or to the server, with the current operational certificate, and tell how it went.

    While the agent runs, the broker is its own: then the server is traced instead, and the note says so.
    Raise AgentError only for what comes before any connection: settings, storage, no certificate at all.
    """
    note = ""
    if not server and is_running(identities.settings.state):
        server, note = True, _why_the_server(read_report(identities))
    slot = identities.slots.best()
    if slot is None:
        raise NoCertificate("this device has no operational certificate")
    identity = slot.identity
    key = _TimedKey(TpmSigner.operational(identities.settings.tcti, identity.key_pem))
    context = identities.operational_context(identity, key)
    seen = _Seen(*_address(identities, identity, server=server))
    seen.tap.put_on(context)
    seen.began_s = time.perf_counter()
    try:
        (_ask_server if server else _ask_broker)(identities, identity, context, seen)
    except AgentError as error:
        seen.failure = error
        if not server and _cut_without_a_word(seen):
            seen.server_says = _ask_why(identities, identity)
    steps = _steps(identities, identity, key, seen)
    return Trace("server" if server else "broker", f"{seen.host}:{seen.port}", note, steps)


def _why_the_server(report: Report) -> str:
    if report.connected:
        return "the agent runs and holds the session with the broker: this is the server's handshake"
    why = f", last failure {report.failure_code}: {report.failure_reason}" if report.failure_current else ""
    return (
        f"the agent runs and is not connected to the broker ({report.phase}{why}): this is the server's handshake; "
        "stop the agent to trace the broker's"
    )


# -- the connection


def _address(identities: Identities, identity: Identity, *, server: bool) -> tuple[str, int]:
    if server:
        return split_url(identities.est_url())[:2]
    return identities.broker_of(identity)[1:]


def _ask_broker(identities: Identities, identity: Identity, context: ssl.SSLContext, seen: _Seen) -> None:
    session = guest_session(identities, identity, context)
    device_id = session.device_id
    try:
        session.open(will=False)
        seen.note_socket(session.tls)
        wait_live(session, timeout_s=ANSWER_WITHIN_S)
        seen.access_s = time.perf_counter()
        present = "kept since the last connection" if session.session_present else "new"
        seen.access = (("MQTT", f"CONNACK Success, client id {device_id}"), ("session", present))
        payload = status_payload("tracing", "birthmark-agent trace")
        sent = session.publish("status", payload)
        if not drive_until([session], sent.is_published, timeout_s=ANSWER_WITHIN_S):
            session.raise_failure()
            raise Unreachable(f"no PUBACK in {ANSWER_WITHIN_S:g} s")
        seen.done_s = time.perf_counter()
        topic = topics.up(device_id, "status")
        seen.exchange = (("published", f"{topic}, {len(payload)} bytes, QoS 1, acknowledged"), ("session", seen.cipher))
    finally:
        session.close(announce=False)


def _ask_server(identities: Identities, _identity: Identity, context: ssl.SSLContext, seen: _Seen) -> None:
    path = f"{split_url(identities.est_url())[2]}/{est.NONCE}"
    with HttpsConnection(
        seen.host, seen.port, context=context, timeout_s=identities.settings.server.timeout_s
    ) as https:
        https.open()
        seen.note_socket(https.tls)
        answer = https.request("GET", path, accept=f"{est.NONCE_MIME}, {PROBLEM_MIME}")
    seen.access_s = seen.done_s = time.perf_counter()
    seen.access = (("HTTP", f"{answer.status} for GET {path}"),)
    seen.exchange = (("received", f"{len(answer.body)} bytes, {answer.content_type}"), ("session", seen.cipher))


def _cut_without_a_word(seen: _Seen) -> bool:
    shown = seen.tap.find(tls_tap.CERTIFICATE, sent=True) is not None
    return shown and isinstance(seen.failure, TlsFailed | ConnectionLost | BrokerRefused)


def _ask_why(identities: Identities, identity: Identity) -> str:
    try:
        reason = Homecoming(identities).ask_why(identity)
    except AgentError as silence:
        return f"the server can't be asked why: {silence}"
    return f"the server would refuse it too: {reason}" if reason else "the server has nothing against it"


# -- from what was seen to the steps


def _steps(identities: Identities, identity: Identity, key: _TimedKey, seen: _Seen) -> tuple[Step, ...]:
    """Return the steps up to the first one that was not reached, which carries the reason."""
    tap, steps = seen.tap, list[Step]()
    hello, shown = tap.find(tls_tap.CLIENT_HELLO, sent=True), tap.find(tls_tap.CERTIFICATE, sent=False)
    proof, asked = tap.find(tls_tap.CERTIFICATE_VERIFY, sent=False), tap.find(tls_tap.CERTIFICATE_REQUEST, sent=False)
    ours, finished = tap.find(tls_tap.CERTIFICATE_VERIFY, sent=True), tap.find(tls_tap.FINISHED, sent=True)
    answered_s = tap.first_data_at_s if not isinstance(seen.failure, TlsFailed) else 0.0
    reached: list[tuple[float, Callable[[], Evidence]]] = [
        (hello.at_s if hello else 0.0, lambda: (("peer", f"{seen.host}:{seen.port} {_at(seen.address)}"),)),
        (shown.at_s if shown else 0.0, lambda: _server_certificate(certificates_in(shown) if shown else ())),
        (proof.at_s if proof and _verified(seen) else 0.0, lambda: _server_proof(identities, seen, shown, proof)),
        (finished.at_s if finished and ours else 0.0, lambda: _client_certificate(identity, key, ours)),
        (answered_s, lambda: (("proof", "the peer answered under the new keys, and sent no alert"),)),
        (seen.access_s, lambda: seen.access),
        (seen.done_s, lambda: seen.exchange),
    ]
    before_s = seen.began_s
    for number, (at_s, evidence) in enumerate(reached, start=1):
        if not at_s:
            steps.append(_failed_step(number, before_s, asked=asked is not None or number != 4, seen=seen, shown=shown))
            break
        steps.append(Step(number, _NAMES[number - 1], max(at_s - before_s, 0.0) * 1000, evidence()))
        before_s = at_s
    return tuple(steps)


def _verified(seen: _Seen) -> bool:
    return not (isinstance(seen.failure, TlsFailed) and not seen.failure.peer)


def _failed_step(number: int, before_s: float, *, asked: bool, seen: _Seen, shown: Message | None) -> Step:
    reason = str(seen.failure or "the connection ended")
    if not asked and seen.failure is None:
        reason = "the peer did not ask for a client certificate"
    if number == 5 and (alert := seen.tap.refusal()):
        reason = f"the peer sent the alert {alert}"
    if seen.server_says:
        reason = f"{reason}; {seen.server_says}"
    evidence = _server_certificate(certificates_in(shown)) if number == 3 and shown else ()
    return Step(number, _NAMES[number - 1], (time.perf_counter() - before_s) * 1000, evidence, reason)


def _server_certificate(chain: tuple[bytes, ...]) -> Evidence:
    leaf = x509.load_der_x509_certificate(chain[0])
    return (*_about(leaf), ("chain", f"{len(chain)} certificates"))


def _server_proof(identities: Identities, seen: _Seen, shown: Message | None, proof: Message | None) -> Evidence:
    chain = [x509.load_der_x509_certificate(der) for der in certificates_in(shown)] if shown else []
    try:
        spki = chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        path = find_path(chain, spki=spki, anchors=identities.anchors)
        names = [certificate.subject for certificate in (*path.certificates, path.root)]
        way = " <- ".join(_short(name) for name in names)
        root = path.root.fingerprint(SHA256()).hex()[:16] + "..."
    except UnusableAnswer as error:
        way, root = str(error), "?"  # OpenSSL found one
    pins = len(identities.anchors)
    return (
        ("path", f"{way} (pinned)"),
        ("trust", f"{identities.trust.title}, {pins} root{'s' if pins != 1 else ''}; this one is {root}"),
        ("name", f"{seen.host} is in its subjectAltName"),
        ("signature", f"{signature_scheme(proof)} over the transcript" if proof else ""),
    )


def _client_certificate(identity: Identity, key: _TimedKey, ours: Message | None) -> Evidence:
    signed = f"{key.signatures} signature{'s' if key.signatures != 1 else ''} in {key.ms:.1f} ms"
    return (
        *_about(x509.load_der_x509_certificate(identity.chain[0])),
        ("key", f"in the TPM, under 0x{STORAGE_KEY_HANDLE:08x}: {signed}"),
        ("signature", f"{signature_scheme(ours)} over the transcript" if ours else ""),
    )


def _about(certificate: x509.Certificate) -> Evidence:
    return (
        ("subject", certificate.subject.rfc4514_string()),
        ("issuer", certificate.issuer.rfc4514_string()),
        ("serial", f"{certificate.serial_number:x}"),
        ("valid", f"{stamp(certificate.not_valid_before_utc)} to {stamp(certificate.not_valid_after_utc)}"),
        ("public key", _key_kind(certificate)),
    )


def _key_kind(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else type(key).__name__


def _short(name: x509.Name) -> str:
    return str(list(name)[-1].value) if list(name) else "(no name)"


def _at(address: str) -> str:
    return f"({address})" if address else ""
