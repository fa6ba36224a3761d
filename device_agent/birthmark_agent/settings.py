"""The agent's settings: one TOML file, read once, every key known or refused.

birthmark-agent.example.toml documents each key; a test holds the two together. A misspelt key is an error with the name
that was probably meant: a setting that is silently ignored is found months later, on a device far away.
"""

import pwd
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from birthmark_agent.errors import Misconfigured
from birthmark_wire.tpm_templates import EK_TEMPLATES

DEFAULT_PATH: Final = Path("/etc/birthmark/agent.toml")
PATH_VARIABLE: Final = "BIRTHMARK_AGENT_CONFIG"
_APPLICATION: Final = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
_LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Server:
    """The enrollment server. anchors: PEM of the pinned root; host and port are the URL's."""

    url: str
    host: str
    port: int
    anchors: Path
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Broker:
    """MQTT. host, port: empty and 0 where the server's answer names the broker."""

    host: str
    port: int
    keepalive_s: int
    session_expiry_s: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """When to renew. fraction: of a certificate's lifetime; jitter: how much of it earlier or later at most. floor_s:
    the least time from one attempt to the next."""

    fraction: float
    jitter: float
    floor_s: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Back-off with full jitter: the first wait is at most first_s, no wait is more than most_s; floor_s is the least
    time from one attempt to the next. start_s: the most to wait before the first connection after a start."""

    first_s: float
    most_s: float
    floor_s: float
    start_s: float


@dataclass(frozen=True, slots=True)
class ApplicationSettings:
    """Who on this device may share the connection. socket: None for nobody. users: application to the user ids that may
    be it. queue: messages that wait for an application, and of one connection for the broker, at most."""

    socket: Path | None
    max_message_bytes: int
    rate_per_s: float
    queue: int
    users: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class HookSettings:
    """What runs at each rotation. command: an executable; None for nothing."""

    command: Path | None
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. ek_template: empty, or which EK to show for a TPM without EK certificates."""

    server: Server
    tcti: str
    ek_template: str
    state: Path
    image_time: datetime | None
    broker: Broker
    renewal: Renewal
    retry: Retry
    applications: ApplicationSettings
    hook: HookSettings
    log_level: str


def load_settings(path: Path) -> Settings:
    """Read the file; relative paths in it are relative to its folder. Raise Misconfigured, naming file and key."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise Misconfigured(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path}: want UTF-8: {error}") from None
    try:
        return parse_settings(tomllib.loads(text), folder=path.parent)
    except (tomllib.TOMLDecodeError, Misconfigured) as error:
        raise Misconfigured(f"{path}: {error}") from None


def parse_settings(document: Mapping[str, object], *, folder: Path) -> Settings:
    """Turn a TOML document into settings; raise Misconfigured, naming the key."""
    root = _Section(document, "")
    server, tpm, state = root.section("server"), root.section("tpm"), root.section("state")
    clock, mqtt, renewal = root.section("clock"), root.section("mqtt"), root.section("renewal")
    retry, log = root.section("retry"), root.section("log")
    applications, hook = root.section("applications"), root.section("hook")
    url_text = server.text("url")
    url, host, port = ("", "", 0) if server.missing() else _https(url_text)
    settings = Settings(
        server=Server(
            url=url,
            host=host,
            port=port,
            anchors=folder / server.text("anchors"),
            timeout_s=server.number("timeout_s", 10.0, low=0.1, high=30.0),
        ),
        tcti=tpm.text("tcti", "device:/dev/tpmrm0"),
        ek_template=tpm.choice("ek_template", "", ("", *EK_TEMPLATES)),
        state=folder / state.text("folder", "/var/lib/birthmark-agent"),
        image_time=clock.instant("image_time"),
        broker=Broker(
            host=mqtt.text("host", ""),
            port=mqtt.integer("port", 0, low=0, high=65_535),
            keepalive_s=mqtt.integer("keepalive_s", 60, low=5, high=600),
            session_expiry_s=mqtt.integer("session_expiry_s", 604_800, low=60, high=0xFFFF_FFFE),
        ),
        renewal=Renewal(
            fraction=renewal.number("fraction", 2 / 3, low=0.05, high=0.95),
            jitter=renewal.number("jitter", 0.05, low=0.0, high=0.25),
            floor_s=renewal.number("floor_s", 60.0, low=0.0, high=86_400.0),
        ),
        retry=Retry(
            first_s=retry.number("first_s", 2.0, low=0.01, high=3600.0),
            most_s=retry.number("most_s", 900.0, low=0.01, high=86_400.0),
            floor_s=retry.number("floor_s", 1.0, low=0.0, high=3600.0),
            start_s=retry.number("start_s", 0.0, low=0.0, high=3600.0),
        ),
        applications=ApplicationSettings(
            socket=_path(folder, applications.text("socket", "")),
            max_message_bytes=applications.integer("max_message_bytes", 16_384, low=1, high=131_072),
            rate_per_s=applications.number("rate_per_s", 100.0, low=0.1, high=10_000.0),
            queue=applications.integer("queue", 100, low=1, high=10_000),
            users=_users(applications.mapping("users")),
        ),
        hook=HookSettings(
            command=_path(folder, hook.text("command", "")),
            timeout_s=hook.number("timeout_s", 30.0, low=0.1, high=600.0),
        ),
        log_level=log.choice("level", "info", _LEVELS),
    )
    # What is unknown first, as a misspelt key is missing too, and its right name is the better answer.
    sections = (root, server, tpm, state, clock, mqtt, renewal, retry, applications, hook, log)
    if complaints := [line for section in sections for line in section.unknown()] or server.missing():
        raise Misconfigured("; ".join(complaints))
    return settings


class _Section:
    """One TOML table, read key by key; at the end it knows what nobody asked for, and what was asked for in vain."""

    __slots__ = ("_members", "_missing", "_name", "_read")

    def __init__(self, members: Mapping[str, object], name: str) -> None:
        self._members = members
        self._name = name
        self._missing: list[str] = []
        self._read: set[str] = set()

    def _key(self, name: str) -> str:
        return f"{self._name}.{name}" if self._name else name

    def _take(self, name: str) -> object:
        self._read.add(name)
        return self._members.get(name)

    def section(self, name: str) -> "_Section":
        """Return the table `name`; an absent one is empty."""
        value = self._take(name)
        if value is None:
            return _Section({}, name)
        if not isinstance(value, dict):
            raise Misconfigured(f"{name}: want a table, [{name}]")
        return _Section(value, name)

    def mapping(self, name: str) -> Mapping[str, object]:
        """Return the table `name` below this one, whose keys are anybody's; an absent one is empty."""
        value = self._take(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise Misconfigured(f"{self._key(name)}: want a table, [{self._key(name)}]")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """Return a string; without a default the key must be there: its absence is noted, and `` returned."""
        value = self._take(name)
        if value is None and default is not None:
            return default
        if value is None:
            self._missing.append(f"{self._key(name)}: is missing")
            return ""
        if not isinstance(value, str):
            raise Misconfigured(f"{self._key(name)}: want a string, got {value!r}")
        return value

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """Return one of `choices`."""
        value = self.text(name, default)
        if value not in choices:
            named = ", ".join(repr(choice) for choice in choices)
            raise Misconfigured(f"{self._key(name)}: want one of {named}; got {value!r}")
        return value

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        """Return an integer, low to high."""
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Misconfigured(f"{self._key(name)}: want an integer, {low} to {high}; got {value!r}")
        return value

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        """Return a number, low to high."""
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise Misconfigured(f"{self._key(name)}: want a number, {low:g} to {high:g}; got {value!r}")
        return float(value)

    def instant(self, name: str) -> datetime | None:
        """Return a moment with its zone, in UTC; None where it is absent."""
        value = self._take(name)
        if value is None:
            return None
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise Misconfigured(f"{self._key(name)}: want a time with a zone, as 2026-01-31T12:00:00Z; got {value!r}")
        return value.astimezone(UTC)

    def unknown(self) -> list[str]:
        """Return a sentence for each key that nobody asked for."""
        return [
            f"{self._key(name)}: no such key{self._meant(name)}" for name in sorted(set(self._members) - self._read)
        ]

    def missing(self) -> list[str]:
        """Return a sentence for each key that must be there and is not."""
        return self._missing

    def _meant(self, name: str) -> str:
        import difflib  # a millisecond that only a mistake pays for

        close = difflib.get_close_matches(name, self._read, n=1)
        return f"; did you mean {self._key(close[0])}?" if close else f"; known here: {', '.join(sorted(self._read))}"


def _path(folder: Path, text: str) -> Path | None:
    return folder / text if text else None


def _users(members: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Read [applications.users]: NAME = a user name, a user id, or an array of them."""
    users = {}
    for name, value in members.items():
        if not _APPLICATION.fullmatch(name):
            raise Misconfigured(f"applications.users: want names of 1 to 32 of a-z, 0-9 and '-'; got {name!r}")
        users[name] = tuple(_user_id(name, one) for one in (value if isinstance(value, list) else [value]))
    return users


def _user_id(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if not isinstance(value, str):
        raise Misconfigured(f"applications.users.{name}: want a user name or id, or an array of them; got {value!r}")
    try:
        return pwd.getpwnam(value).pw_uid
    except KeyError:
        raise Misconfigured(f"applications.users.{name}: there is no user {value!r} here") from None


def _https(url: str) -> tuple[str, str, int]:
    """Return the URL without a slash at its end, its host and its port."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
    except ValueError as error:
        raise Misconfigured(f"server.url: {error}") from None
    if parts.scheme != "https" or not host or parts.path not in ("", "/") or parts.query or parts.username:
        raise Misconfigured(f"server.url: want https://HOST or https://HOST:PORT, got {url!r}")
    return url.rstrip("/"), host, port
