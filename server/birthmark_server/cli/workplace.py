"""Where a command works: on the server's own machine, or at a server's doors.

Locally, by the settings file that `birthmark serve` reads, directly on the store: whoever can read that file and the
database is trusted with them. What an operator does is done, and kept, under the name in their certificate
(operator_proof.py), within their role, or as `local:USER` where none is shown (docs/operations.md, "Who did it").
From afar, by a context (contexts.py): HTTPS with the operator's certificate, which the server judges.
Both give the same desk (web/api/desk.py), so a command does not know where it works.
"""

import getpass
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from birthmark_server import settings as settings_file
from birthmark_server.ca import passphrase
from birthmark_server.ca.authority import Authority
from birthmark_server.cli.contexts import Context, read_contexts
from birthmark_server.cli.operator_proof import OperatorCertificate, prove_operator
from birthmark_server.errors import Misconfigured
from birthmark_server.roles import Role, require
from birthmark_server.settings import Settings
from birthmark_server.web.api.desk import Desk

if TYPE_CHECKING:
    from birthmark_server.store.authority_protocol import AuthorityStore
    from birthmark_server.store.sql.store import SqlStore

SYSTEM_CONFIG: Final = Path("/etc/birthmark/birthmark.toml")
LOCAL_CONFIG: Final = Path("birthmark.toml")

OperatorFile = Annotated[
    Path | None,
    typer.Option(
        "--operator",
        metavar="FILE",
        help="On the server's machine: act as this operator: PEM file with certificate and private key, or PKCS #12. "
        "Without it you act as the Unix user.",
    ),
]


@dataclass(frozen=True, slots=True)
class Workplace:
    """config: as given on the command line or in BIRTHMARK_CONFIG; None means where it usually is. context: as given on
    the command line; empty means the one in use, unless a settings file is given: that is the server's own machine."""

    config: Path | None
    context: str = ""

    @property
    def config_path(self) -> Path:
        """The settings file: the one given, or the machine's, or the one in this folder."""
        if self.config is not None:
            return self.config
        return SYSTEM_CONFIG if SYSTEM_CONFIG.exists() or not LOCAL_CONFIG.exists() else LOCAL_CONFIG

    def remote(self) -> Context | None:
        """The context to work in; None on the server's own machine. Raise BadContext."""
        if not self.context and self.config is not None:
            return None
        contexts = read_contexts()
        return contexts.named(self.context or contexts.current)

    def settings(self) -> Settings:
        """Read the settings file; raise Misconfigured saying what to do."""
        if self.remote() is not None:
            raise typer.BadParameter(
                "this works on the server's own machine only: there, or with --context local", param_hint="--context"
            )
        try:
            path = self.config_path
            missing = not path.exists()
        except PermissionError as error:
            advice = "on the server, work as the service's user; from another machine: birthmark context add"
            raise PermissionError(error.errno, f"{error.strerror}; {advice}", error.filename) from None
        if missing:
            raise Misconfigured(
                f"no settings file at {path}: name one with --config, or make one with `birthmark init`; "
                "from another machine: birthmark context add"
            ) from FileNotFoundError(path)
        return settings_file.load(path)

    @contextmanager
    def desk(self, operator: Path | None = None) -> Iterator[Desk]:
        """Open the desk, for the length of a with block. operator: in whose name, on the server's own machine."""
        remote = self.remote()
        if remote is None:
            with self.store() as store:
                yield self._local_desk(store, operator)
            return
        if operator is not None:
            raise typer.BadParameter("from afar, the context says who you are", param_hint="--operator")
        # Only here, as everything below that takes long to load.
        from birthmark_server.cli.https import OperatorConnection
        from birthmark_server.cli.remote_desk import RemoteDesk

        connection = OperatorConnection(remote)
        try:
            yield RemoteDesk(connection)
        finally:
            connection.close()

    def _local_desk(self, store: "SqlStore", operator: Path | None) -> Desk:
        from birthmark_server.cut_off import Messenger
        from birthmark_server.rollover.service import RolloverService
        from birthmark_server.rotation.campaigning import CampaignService
        from birthmark_server.rotation.outside_check import OutsideChecks
        from birthmark_server.web.api.store_desk import StoreDesk

        proven = None if operator is None else self.operator(store, operator)
        settings = self.settings()
        return StoreDesk(
            store,
            campaigns=CampaignService(
                campaigns=store.campaigns,
                now=now,
                seed=lambda: secrets.randbits(64),
                outside=OutsideChecks(settings.rotation.check_origins),
            ),
            workorders=store.workorders,
            authority=partial(open_authority, settings, store.authorities),
            broker=Messenger(
                settings, store, authority=partial(open_authority, settings, store.authorities, False), now=now
            ),
            rollover=RolloverService(
                store=store.authorities,
                authority=partial(_open_folder, settings, False),
                now=now,
                window=timedelta(seconds=settings.rollover.seen_within_s),
            ),
            by=proven.name if proven else unix_user(),
            role=proven.role if proven else None,
            now=now,
        )

    @contextmanager
    def store(self) -> "Iterator[SqlStore]":
        """Open the database that the settings name, for the length of a with block."""
        settings = self.settings()
        with open_database(settings.database.url, journal=Path(settings.database.journal)) as store:
            yield store

    def actor(self, store: "SqlStore", operator: Path | None, *, allowed: frozenset[Role], what: str) -> str:
        """Return under which name what follows is recorded: a proven operator's, or the Unix user's. Raise
        RoleNotAllowed for an operator whose role does not cover it."""
        if operator is None:
            return unix_user()
        proven = self.operator(store, operator)
        require(proven.role, allowed, what)
        return proven.name

    def operator(self, store: "SqlStore", operator: Path) -> OperatorCertificate:
        """Prove that `operator` is a valid operator certificate with its key."""
        authority = believed_authority(self.settings(), store.authorities)
        return prove_operator(operator, authority=authority, store=store, now=now())


def open_authority(settings: Settings, record: "AuthorityStore", with_keys: bool) -> Authority:
    """Open the CA folder, with its keys if asked to, and have it go by the record: who issues is decided there."""
    from birthmark_server.rollover.record import follow

    authority = _open_folder(settings, with_keys)
    follow(authority, record, now=now())
    return authority


def believed_authority(settings: Settings, record: "AuthorityStore") -> Authority:
    """Open the CA folder without its keys, as the record has it: what is retired, or not staged yet, is there and not
    believed. Before an installation's first start nothing is on record, and all of it is; nothing is written."""
    from birthmark_server.rollover.record import standing_of

    authority = _open_folder(settings, with_keys=False)
    standing = standing_of(record.list_authorities(), authority)
    # Who issues is left to the folder: where that one is revoked or gone, another must still be made to.
    authority.follow(replace(standing, active={}))
    return authority


def _open_folder(settings: Settings, with_keys: bool) -> Authority:
    secret = None
    if with_keys:
        secret = passphrase.read(settings.ca.passphrase) if settings.ca.passphrase else b""
    return Authority.load(Path(settings.ca.folder), passphrase=secret, now=now())


@contextmanager
def open_database(url: str, *, journal: Path, create: bool = False) -> "Iterator[SqlStore]":
    """Open a database for the length of a with block. create: make it, or bring it up to this version."""
    # Only here: SQLAlchemy takes longer to load than all the rest, and help and shell completion need none of it.
    from birthmark_server.store.open import open_store

    store = open_store(url, journal=journal, create=create)
    try:
        yield store
    finally:
        store.close()


def workplace(context: typer.Context) -> Workplace:
    """Return what the main command was told."""
    return context.ensure_object(Workplace) if context.obj is None else _checked(context.obj)


def _checked(value: object) -> Workplace:
    if not isinstance(value, Workplace):
        raise TypeError("the command's context holds no Workplace")
    return value


def unix_user() -> str:
    """Return under which name is recorded what nobody proves to be an operator for."""
    return f"local:{getpass.getuser()}"


def now() -> datetime:
    """Return the time, in UTC, to the second: what is recorded is compared and shown so."""
    return datetime.now(UTC).replace(microsecond=0)
