"""`birthmark init`: from an empty folder to an installation that `birthmark serve` can run."""

import base64
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from birthmark_server import settings as settings_file
from birthmark_server.ca import ceremony, files
from birthmark_server.ca import passphrase as sources
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.layout import AUTHORITY_FILE, Layout
from birthmark_server.ca.names import host_permitted
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CaKind
from birthmark_server.ca.root_add import root_add
from birthmark_server.cli import settings_text
from birthmark_server.cli.infrastructure import host_name, issue_infrastructure, write_pair, write_person
from birthmark_server.cli.output import say
from birthmark_server.cli.root import CrlUrl, DnsDomain, IpNetwork, Token, namespace
from birthmark_server.cli.workplace import now, open_database, unix_user
from birthmark_server.domain import CertificateProfile


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the rest of the installation is called. folder: absolute. data: of database and journal."""

    folder: Path
    data: Path
    server_names: list[str]
    broker_name: str
    operators: list[str]
    passphrase: str
    database: str

    @property
    def ca(self) -> Path:
        return self.folder / "ca"

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data}/birthmark.db"


def init(
    folder: Annotated[Path, typer.Argument(help="Where everything goes.")] = Path("/etc/birthmark"),
    demo: Annotated[
        bool, typer.Option("--demo", help="Make the root here too. Nobody's fleet should hang from such a root.")
    ] = False,
    organization: Annotated[str, typer.Option(help="The O of every subject.")] = "",
    trust_domain: Annotated[str, typer.Option(help="The host in every device's URI. [default: the server's]")] = "",
    server_name: Annotated[
        list[str] | None, typer.Option(help="DNS name of this server; the first one is told to devices.")
    ] = None,
    broker_name: Annotated[str, typer.Option(help="DNS name of the broker. [default: the server's]")] = "",
    operator: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of a security officer, who makes the other operators; two are needed for a board swap."
        ),
    ] = None,
    dns_domain: DnsDomain = None,
    ip_network: IpNetwork = None,
    crl_url: CrlUrl = "",
    data: Annotated[
        Path | None,
        typer.Option(help="Where database and journal go. [default: /var/lib/birthmark; --demo: DIR/data]"),
    ] = None,
    database: Annotated[
        str,
        typer.Option(metavar="URL", help="As postgresql+psycopg://USER@HOST/NAME. [default: SQLite, in --data]"),
    ] = "",
    passphrase: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Of the CA keys, as in the settings. [default: made here, DIR/ca.passphrase; --add: the settings']",
        ),
    ] = "",
    pkcs11: Token = "",
    signed: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Second step: root.pem, root.crl and what the root signed.")
    ] = None,
    add: Annotated[
        CaKind | None,
        typer.Option(metavar="KIND", help="One more CA where all is set up: birth, fleet, infra or root."),
    ] = None,
    label: Annotated[str, typer.Option(help="With --add: what tells it from the others. [default: the year]")] = "",
) -> None:
    """Set an installation up: Birth, Fleet and Infra CAs, the server's, the broker's and the operators' certificates,
    the database, and a settings file in which every key is explained.

    In two steps, with the root on a machine of its own in between (birthmark root --help):

      birthmark init --organization "Example Ltd" --server-name enroll.example.com

      birthmark init --server-name enroll.example.com --operator alice --operator bob --signed FROM-THE-ROOT

    Or all in one place, to try it:

      birthmark init trial --demo

    The next year's or lot's Birth CA, while the server works on:

      birthmark init --add birth --label 2027      then, with what the root signed: --add birth --signed FROM-THE-ROOT

    A root's successor, with its CRL and the links that both roots signed (birthmark root cross-sign):

      birthmark init --add root --signed FROM-BOTH-ROOTS

    Run again after an interruption, it finishes what is missing; nothing is overwritten but the root's CRL by a newer
    one.
    """
    folder = folder.absolute()
    if add is not None:
        _add(folder, add, label=label, passphrase=passphrase, token=pkcs11, signed=signed)
        return
    names = server_name or (["localhost"] if demo else [])
    if not names:
        raise typer.BadParameter("want at least one", param_hint="--server-name")
    broker = broker_name or names[0]
    wanted = namespace(
        organization or "Example", trust_domain or names[0], dns_domain or [*names, broker], ip_network, crl_url
    )
    begun = folder / "ca" / AUTHORITY_FILE
    _check_hosts(Layout.read(begun).namespace if signed and begun.exists() else wanted, [*names, broker])
    if demo or signed is None:
        _say_what_was_assumed(wanted, trust_domain=trust_domain, dns_domain=dns_domain, demo=demo)
    if passphrase:
        _check_passphrase(passphrase, token=pkcs11)
    if not (demo or signed or organization or begun.exists()):
        raise typer.BadParameter("is missing", param_hint="--organization")
    files.make_folder(folder)
    plan = _Plan(
        folder=folder,
        data=(data or (folder / "data" if demo else Path("/var/lib/birthmark"))).absolute(),
        server_names=names,
        broker_name=broker,
        operators=operator or (["alice", "bob"] if demo else []),
        passphrase=passphrase or _made_passphrase(folder),
        database=database,
    )
    at, secret = now(), sources.read(plan.passphrase)
    if demo:
        say(ceremony.DEMO_NOTE)
        authority = ceremony.demo_init(folder=plan.ca, namespace=wanted, passphrase=secret, now=at, token=pkcs11)
    elif signed is None:
        _ask_the_root(
            ceremony.authority_init(folder=plan.ca, namespace=wanted, passphrase=secret, now=at, token=pkcs11)
        )
        return
    else:
        _take_in(plan.ca, signed, at)
        authority = Authority.load(plan.ca, passphrase=secret, now=at)
    _finish(plan, authority, at)


def _check_hosts(names: Namespace, hosts: list[str]) -> None:
    """Refuse now what the Infra CA could never certify: its constraints stand in the request that the root signs."""
    outside = [host for host in dict.fromkeys(hosts) if not host_permitted(host_name(host), names)]
    if outside:
        within = ", ".join([*names.dns_domains, *map(str, names.ip_networks)])
        raise typer.BadParameter(f"{', '.join(outside)} is not within {within}; add it", param_hint="--dns-domain")


def _say_what_was_assumed(names: Namespace, *, trust_domain: str, dns_domain: list[str] | None, demo: bool) -> None:
    if not trust_domain:
        say(f"--trust-domain was not given: every device's URI will be spiffe://{names.trust_domain}/...")
    if not dns_domain:
        hosts = ", ".join(dict.fromkeys(names.dns_domains))
        say(f"--dns-domain was not given: server and broker may be called {hosts}")
    if not demo:
        say("the root must have been made with the same names; they stay as they are for as long as the root")


def _check_passphrase(source: str, *, token: str) -> None:
    """Read it once before anything is written."""
    secret = sources.read(source)
    if not token:
        sources.check_strength(secret)


def _add(folder: Path, kind: CaKind, *, label: str, passphrase: str, token: str, signed: Path | None) -> None:
    """Ask for one more CA, or take it in; nothing else of the installation is touched."""
    if kind is CaKind.ROOT and signed is not None:
        added = root_add(folder=folder / "ca", signed=signed, now=now())
        say(f"{added.name} is taken in, sha256 {added.sha256}, with {len(added.links)} links")
        say("systemctl restart birthmark; docs/operations.md says how a root is replaced")
        return
    if signed is not None:
        _take_in(folder / "ca", signed, now())
        say(f"systemctl restart birthmark; then have it believed: birthmark ca stage {kind}-LABEL (docs/rollover.md)")
        return
    secret = sources.read(passphrase or _settled_passphrase(folder))
    made = ceremony.authority_add(
        folder=folder / "ca", kind=kind, passphrase=secret, now=now(), label=label, token=token
    )
    _ask_the_root(made, again=f"--add {kind}")


def _settled_passphrase(folder: Path) -> str:
    """Return where the other CA keys' passphrase comes from: the server opens all of them with one."""
    config = folder / "birthmark.toml"
    known = settings_file.load(config).ca.passphrase if config.exists() else ""
    return known or f"file:{folder / 'ca.passphrase'}"


def _made_passphrase(folder: Path) -> str:
    path = folder / "ca.passphrase"
    if not path.exists():
        files.write_new(path, base64.b64encode(os.urandom(24)) + b"\n", mode=0o600)
        say(f"a passphrase for the CA keys was made: {path}; docs/operations.md says how to seal it to this machine")
    return f"file:{path}"


def _ask_the_root(made: ceremony.AuthorityMade, *, again: str = "...") -> None:
    say("carry these requests to the root's machine, and have each signed there:")
    for kind, path in made.requests:
        say(f"  {path}    birthmark root sign {path.name} --kind {kind}")
    say(
        "then bring what it signed back with the root's certificate and CRL, in one folder: "
        f"birthmark init {again} --signed FOLDER"
    )


def _take_in(ca: Path, signed: Path, at: datetime) -> None:
    for done in ceremony.take_in(folder=ca, signed=signed, now=at):
        say(f"the authorities are complete below the root with sha256 {done.root_sha256}")


def _finish(plan: _Plan, authority: Authority, at: datetime) -> None:
    """Make what is missing of everything but the CAs."""
    files.make_folder(plan.data)
    (plan.folder / "tpm-roots").mkdir(exist_ok=True)
    with open_database(plan.database_url, journal=plan.data / "journal", create=True) as store:
        for profile, hosts, place in (
            (CertificateProfile.SERVER, plan.server_names, plan.folder),
            (CertificateProfile.BROKER, [plan.broker_name], plan.folder / "broker"),
            (CertificateProfile.CONTROL, [], plan.folder),
            (CertificateProfile.DENY_LIST, [], plan.folder),
            (CertificateProfile.COMMAND, [], plan.folder),
        ):
            if not (place / f"{profile}.pem").exists():
                files.make_folder(place)
                issued = issue_infrastructure(
                    authority, store, profile=profile, name=profile.value, hosts=hosts, by=unix_user(), now=at
                )
                write_pair(issued, place / f"{profile}.pem", place / f"{profile}.key")
        for name in plan.operators:
            if not (plan.folder / "operators" / f"{name}.pem").exists():
                issued = issue_infrastructure(
                    authority, store, profile=CertificateProfile.SECURITY_OFFICER, name=name, by=unix_user(), now=at
                )
                passphrase = write_person(issued, plan.folder / "operators", name)
                say(
                    f"security officer {name}: {plan.folder}/operators/{name}.pem, and for a browser {name}.p12 "
                    f"with passphrase {passphrase}"
                )
    config = plan.folder / "birthmark.toml"
    if not config.exists():
        files.write_new(config, _settings(plan).encode())
    say(f"all is set up; every setting is explained in {config}. Next:")
    say(f"  birthmark --config {config} tpm-roots add ...    then model add, manifest import, serve, doctor")


def _settings(plan: _Plan) -> str:
    return settings_text.render(
        {
            "server.names": plan.server_names,
            "server.certificate": "server.pem",
            "server.key": "server.key",
            "database.url": plan.database_url,
            "database.journal": str(plan.data / "journal"),
            "ca.folder": "ca",
            "ca.passphrase": plan.passphrase,
            "tpm.roots": "tpm-roots",
            "broker.host": plan.broker_name,
            "broker.control": True,
            "broker.control_certificate": "control.pem",
            "broker.control_key": "control.key",
            "broker.deny_certificate": "deny-list.pem",
            "broker.deny_key": "deny-list.key",
            "broker.command_certificate": "command.pem",
            "broker.command_key": "command.key",
        }
    )
