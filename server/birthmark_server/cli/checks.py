"""What `birthmark doctor` looks at. Each check yields findings; none changes anything, and none stops the others."""

import os
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509

from birthmark_server.attestation.roots import TrustStore
from birthmark_server.broker.errors import DenyFileMalformed
from birthmark_server.ca import passphrase
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.roots import anchors_pem
from birthmark_server.cli import broker_check, broker_rabbitmq, rollover_check
from birthmark_server.cli.workplace import open_database
from birthmark_server.denials import open_deny_file
from birthmark_server.errors import BirthmarkError
from birthmark_server.roles import OPERATOR_PROFILES, ROLE_OF, STEERING, VOUCHING
from birthmark_server.settings import Settings
from birthmark_server.store import journal
from birthmark_server.store.protocol import Store
from birthmark_server.web.crl import STALE

_CA_WARNING: Final = timedelta(days=90)
_LEAF_WARNING: Final = timedelta(days=30)
_FREE_BYTES: Final = 1 << 30


class State(StrEnum):
    """How a check went."""

    WELL = "well"
    SOON = "soon"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. advice: what to do, empty where all is well."""

    state: State
    what: str
    seen: str
    advice: str = ""


Findings = Iterator[Finding]


def examine(settings: Settings, *, config: Path, now: datetime) -> Findings:
    """Yield a finding for everything that a server of these settings needs."""
    yield Finding(State.WELL, "settings", str(config))
    checks: tuple[tuple[str, Callable[[], Findings]], ...] = (
        ("file modes", lambda: _file_modes(settings, config)),
        ("disk", lambda: _disk(settings)),
        ("database", lambda: _database(settings, now)),
        ("journal", lambda: _journal(settings, now)),
        ("authorities", lambda: _authorities(settings, now)),
        ("CA rollover", lambda: _rollover(settings, now)),
        ("CRLs", lambda: _crls(settings, now)),
        (
            "server certificate",
            lambda: _leaf("server certificate", settings.server.certificate, now, settings.server.names),
        ),
        ("TPM roots", lambda: _roots(settings, now)),
        ("server", lambda: _server(settings)),
        ("deny list", lambda: _deny_list(settings, now)),
        ("broker", lambda: _broker(settings, now)),
    )
    for what, check in checks:
        try:
            yield from check()
        except (BirthmarkError, OSError, ValueError) as error:
            yield Finding(State.WRONG, what, str(error), "mend what the message names")


def _file_modes(settings: Settings, config: Path) -> Findings:
    ca = Path(settings.ca.folder)
    private = [Path(settings.server.key), *sorted(ca.glob("*.key")), Path(settings.database.journal)]
    keys = (settings.broker.control_key, settings.broker.command_key, settings.broker.deny_key)
    private += [Path(path) for path in keys if path]
    kind, _, place = settings.ca.passphrase.partition(":")
    private += [Path(place)] if kind == "file" else []
    open_to_others = [path for path in private if path.exists() and path.stat().st_mode & 0o077]
    for path in open_to_others:
        mode = path.stat().st_mode & 0o777
        yield Finding(State.WRONG, "file modes", f"{path} may be read by others ({mode:04o})", f"chmod 600 {path}")
    for path in (config, ca, Path(settings.tpm.roots)):
        if path.exists() and path.stat().st_mode & 0o022:
            yield Finding(State.WRONG, "file modes", f"{path} may be changed by others", f"chmod go-w {path}")
    if not open_to_others:
        yield Finding(State.WELL, "file modes", f"{len(private)} private files")
    if kind == "file":
        yield Finding(
            State.SOON,
            "CA passphrase",
            f"lies in {place}, beside the keys that it protects",
            "seal it: systemd-creds encrypt --name=birthmark-ca ... (docs/operations.md)",
        )
    elif (left := config.parent / "ca.passphrase").exists():
        yield Finding(
            State.SOON,
            "CA passphrase",
            f"sealed, but still lies in {left} as well, beside the keys that it protects",
            f"shred -u {left}, once a copy on paper is in the safe",
        )


def _database(settings: Settings, now: datetime) -> Findings:
    with open_database(settings.database.url, journal=Path(settings.database.journal)) as store:
        faults = store.check()
        for fault in faults:
            yield Finding(State.WRONG, "database", fault, "stop the servers; birthmark database upgrade, or restore")
        if not faults:
            counts = ", ".join(f"{count} {state}" for state, count in sorted(store.count_devices().items()) if count)
            yield Finding(State.WELL, "database", counts or "no devices yet")
        yield _operators(store, now)


def _disk(settings: Settings) -> Findings:
    """The disks that the server writes to: of the journal, and of a database in a file."""
    folders = {Path(settings.database.journal).parent}
    kind, _, place = settings.database.url.partition(":///")
    folders |= {Path(place).parent} if kind.startswith("sqlite") else set()
    for folder in sorted(folders):
        free = shutil.disk_usage(folder).free
        if free < _FREE_BYTES:
            seen = f"{free >> 20} MiB free at {folder}, want {_FREE_BYTES >> 20}"
            yield Finding(State.WRONG, "disk", seen, "make room: a full disk grants nothing")
        else:
            yield Finding(State.WELL, "disk", f"{free >> 30} GiB free at {folder}")


def _operators(store: Store, now: datetime) -> Finding:
    standing = [
        record
        for profile in OPERATOR_PROFILES
        for record in store.list_certificates(profile=profile.value, limit=1000)
        if record.revoked_at is None and record.not_after > now
    ]
    officers = {record.subject for record in standing if ROLE_OF[record.profile] in VOUCHING}
    steering = {record.subject for record in standing if ROLE_OF[record.profile] in STEERING}
    seen = f"{len({record.subject for record in standing})} with a valid certificate"
    if not officers:
        remedy = "birthmark operator add NAME --role security-officer, on the server's machine"
        return Finding(State.SOON, "operators", f"{seen}, none of them a security officer", remedy)
    if len(steering) < 2:
        remedy = "birthmark operator add NAME --role operator"
        return Finding(State.SOON, "operators", f"{seen}; a board swap needs two who may steer", remedy)
    return Finding(State.WELL, "operators", seen)


def _journal(settings: Settings, now: datetime) -> Findings:
    path = Path(settings.database.journal)
    lines = journal.last_lines(path)
    yield Finding(State.WELL, "journal", f"{lines[-1].number if lines else 0} transactions in {path}")
    if lines and lines[-1].at > now + timedelta(seconds=5):
        yield Finding(
            State.WRONG,
            "clock",
            f"it is {now:%Y-%m-%d %H:%M:%SZ} here, but the journal was written at {lines[-1].at:%Y-%m-%d %H:%M:%SZ}",
            "set the clock: timedatectl set-ntp true",
        )
    else:
        yield Finding(State.WELL, "clock", f"{now:%Y-%m-%d %H:%M:%SZ}, not behind the journal")


def _authorities(settings: Settings, now: datetime) -> Findings:
    folder = Path(settings.ca.folder)
    if settings.ca.passphrase.startswith("credential:") and "CREDENTIALS_DIRECTORY" not in os.environ:
        authority = Authority.load(folder, passphrase=None, now=now)
        seen = "their passphrase is given to the service only; certificates were checked, keys were not"
        yield Finding(State.WELL, "CA keys", seen)
    else:
        secret = passphrase.read(settings.ca.passphrase) if settings.ca.passphrase else b""
        authority = Authority.load(folder, passphrase=secret, now=now)
        yield Finding(State.WELL, "CA keys", "open, and belong to their certificates")
    for issuer in authority.issuers:
        yield _expiry(
            issuer.name,
            issuer.certificate.not_valid_after_utc,
            now,
            _CA_WARNING,
            "birthmark init --add, with a new --label",
        )
    for revoked in authority.revoked:
        yield Finding(
            State.SOON,
            "CAs",
            f"{revoked.subject.rfc4514_string()} is revoked by the root: nothing under it is believed here",
            "birthmark broker config anew, and a restart of the broker, where it was a Fleet or Infra CA",
        )
    for root in authority.roots:
        crl = x509.load_der_x509_crl(root.crl.der)
        if crl.next_update_utc is not None:
            what, how = f"{root.name} CRL", "on the root's machine: birthmark root crl"
            yield _expiry(what, crl.next_update_utc, now, _LEAF_WARNING, how)
    if authority.demo:
        yield Finding(
            State.SOON, "root", "was made on this machine: a demonstration", "begin anew with birthmark root init"
        )
    if authority.namespace.public_url and not settings.crl.listen:
        yield Finding(
            State.SOON,
            "CRLs",
            f"certificates point to {authority.namespace.public_url}, and this server serves none",
            "set [crl] listen, or serve them by another",
        )


def _rollover(settings: Settings, now: datetime) -> Findings:
    with open_database(settings.database.url, journal=Path(settings.database.journal)) as store:
        waiting = list(rollover_check.look(store.authorities, settings, now=now))
    for each in waiting:
        yield Finding(State.WRONG if each.wrong else State.SOON, "CA rollover", each.seen, each.advice)
    if not waiting:
        yield Finding(State.WELL, "CA rollover", "no CA waits to be used")


def _crls(settings: Settings, now: datetime) -> Findings:
    """Lists are the server's to make; how long ago it did is in the database, whatever process it was."""
    authority = Authority.load(Path(settings.ca.folder), passphrase=None, now=now)
    lifetime = timedelta(seconds=settings.crl.lifetime_s)
    with open_database(settings.database.url, journal=Path(settings.database.journal)) as store:
        for issuer in authority.issuers:
            what, made_at = f"CRL of {issuer.name}", store.crl_made_at(issuer.sha256)
            if made_at is None:
                yield Finding(State.SOON, what, "none was made yet", "systemctl start birthmark")
                continue
            seen = f"made at {made_at:%Y-%m-%d %H:%M}Z, ends at {made_at + lifetime:%Y-%m-%d %H:%M}Z"
            if now > made_at + STALE * lifetime:
                yield Finding(State.WRONG, what, f"grows stale: {seen}", "is birthmark running? What does it log?")
            else:
                yield Finding(State.WELL, what, seen)


def _expiry(what: str, until: datetime, now: datetime, early: timedelta, advice: str) -> Finding:
    seen = "has no end" if until.year == 9999 else f"valid until {until:%Y-%m-%d %H:%M}Z"
    if until <= now:
        return Finding(State.WRONG, what, f"expired at {until:%Y-%m-%d %H:%M}Z", advice)
    return Finding(State.SOON, what, seen, advice) if until - now < early else Finding(State.WELL, what, seen)


def _server_certificate(settings: Settings, now: datetime) -> Findings:
    yield from _leaf("server certificate", settings.server.certificate, now, settings.server.names)


def _leaf(what: str, path: str, now: datetime, names: list[str]) -> Findings:
    certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    role = what.split()[0]
    yield _expiry(
        what,
        certificate.not_valid_after_utc,
        now,
        _LEAF_WARNING,
        f"birthmark certificate issue {role} {role}, then put it in place",
    )
    if names:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        missing = sorted(set(names) - set(found.get_values_for_type(x509.DNSName)))
        if missing:
            yield Finding(
                State.WRONG,
                what,
                f"does not name {', '.join(missing)}, which [server] names promises",
                "issue one with --host for each name, or take the name out",
            )


def _roots(settings: Settings, now: datetime) -> Findings:
    store = TrustStore.load(Path(settings.tpm.roots))
    roots = [entry for entry in store.entries if entry.kind == "root"]
    expired = [entry for entry in roots if entry.not_after <= now]
    if not roots:
        yield Finding(State.WRONG, "TPM roots", "none: no TPM can prove itself", "birthmark tpm-roots add --help")
    for entry in expired:
        yield Finding(State.SOON, "TPM roots", f"{entry.subject} expired", "ask the vendor for its successor")
    if roots:
        vendors = ", ".join(sorted({entry.vendor for entry in roots}))
        yield Finding(State.WELL, "TPM roots", f"{len(roots)} of {vendors}; version {store.version[:16]}")


def _server(settings: Settings) -> Findings:
    host, _, port = settings.server.listen.rpartition(":")
    address = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104 - compared, not bound
    context = ssl.create_default_context(cadata=anchors_pem(Path(settings.ca.folder)).decode())
    name = settings.server.names[0]
    try:
        with (
            socket.create_connection((address, int(port)), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=name) as tls,
        ):
            yield Finding(State.WELL, "server", f"answers at {address}:{port} as {name} ({tls.version()})")
    except ConnectionRefusedError:
        yield Finding(State.SOON, "server", f"nothing listens at {address}:{port}", "systemctl start birthmark")
    except ssl.SSLError as error:
        yield Finding(
            State.WRONG, "server", f"TLS at {address}:{port}: {error.reason}", "is another program listening there?"
        )


def _deny_list(settings: Settings, now: datetime) -> Findings:
    """The list by which the broker's gate refuses the revoked, and the lease without which it lets nobody in."""
    if not settings.broker.deny_file:
        yield Finding(
            State.SOON,
            "deny list",
            "this server writes none, and the broker's lease is nobody's to renew",
            "set [broker] deny_file, as birthmark broker config says",
        )
        return
    if settings.broker.deny_certificate:
        yield from _leaf("deny-list certificate", settings.broker.deny_certificate, now, [])
    try:
        denied = open_deny_file(settings.broker).read()
    except (OSError, DenyFileMalformed) as error:
        yield Finding(State.WRONG, "deny list", f"{settings.broker.deny_file}: {error}", "birthmark broker sync")
        return
    until = datetime.fromtimestamp(denied.lease.until_s, UTC)
    seen = f"version {denied.version}, {len(denied.entries)} entries, lease until {until:%Y-%m-%d %H:%M:%S}Z"
    if until <= now:
        yield Finding(State.WRONG, "deny list", f"{seen}: nobody new is let in", "systemctl start birthmark renews it")
    else:
        yield Finding(State.WELL, "deny list", seen)


def _broker(settings: Settings, now: datetime) -> Findings:
    broker = settings.broker
    if broker.kind == "rabbitmq":
        yield from _rabbitmq(settings, now)
        return
    if not broker.control_certificate or not broker.control_key:
        yield Finding(
            State.SOON, "broker", "no control certificate is set, so it was not asked", "set [broker] control_*"
        )
        return
    yield from _leaf("control certificate", broker.control_certificate, now, [])
    yield from _commands(settings, now)
    for one in broker.every:
        name = f"broker {one.name}" if broker.shards else "broker"
        where = f"{one.control_host or one.host}:{one.control_port or one.port}"
        answer = broker_check.ask_broker(settings, one)
        if answer.connected:
            yield Finding(State.WELL, name, f"{where} lets us in by our control certificate: {answer.detail}")
        else:
            yield Finding(State.WRONG, name, f"{where}: {answer.detail}", answer.advice)


def _commands(settings: Settings, now: datetime) -> Findings:
    if settings.broker.command_certificate:
        yield from _leaf("command certificate", settings.broker.command_certificate, now, [])
    else:
        yield Finding(
            State.SOON,
            "commands",
            "no command certificate is set: devices can be told nothing",
            "birthmark certificate issue command command, then set [broker] command_*",
        )


def _rabbitmq(settings: Settings, now: datetime) -> Findings:
    yield from _commands(settings, now)
    try:
        seen = broker_rabbitmq.look(settings)
    except BirthmarkError as error:
        yield Finding(State.WRONG, "broker", str(error), "docs/broker.md: RabbitMQ, a cluster")
        return
    if seen.problem or seen.health is None:
        yield Finding(State.WRONG, "broker", f"rabbitmq: {seen.problem}", "birthmark broker status; RabbitMQ's log")
    else:
        yield Finding(
            State.WELL, "broker", f"rabbitmq: all nodes run, {seen.health.connected} connected, the door answers"
        )
