"""A real PostgreSQL (Debian's) for the tests: its own folder, a Unix socket, gone when the context ends.

PostgreSQL refuses to run as root, so root runs it as `postgres` (or `nobody`) through setpriv, in a folder that it
gives to that user. Nothing listens on TCP. The server is stopped by its process id.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_START_TIMEOUT_S = 30
_STOP_TIMEOUT_S = 30


@contextmanager
def postgres_server(**settings: str) -> Iterator[str]:
    """Start a PostgreSQL cluster of its own; yield the URL of its database `postgres`, `postgresql+psycopg://...`.

    settings: server settings (`max_connections="50"`) on top of the defaults, which are durable ones. Good for a
    session-scoped fixture: `fresh_database` gives each test a database of its own.
    """
    # Not pytest's tmp_path: a socket's path is limited to 107 bytes, and another user must be able to get there.
    folder = Path(tempfile.mkdtemp(prefix="bm-pg-", dir="/tmp"))
    run_as = _give_away(folder)
    try:
        _run(
            [*run_as, _program("initdb"), "-D", f"{folder}/data", "-U", "birthmark", "-A", "trust", "-E", "UTF8"],
            folder,
        )
        options = {"listen_addresses": "", "unix_socket_directories": str(folder), "shared_buffers": "32MB", **settings}
        command = [*run_as, _program("postgres"), "-D", f"{folder}/data"]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder)
        try:
            _wait_until_ready(server, folder)
            yield f"postgresql+psycopg://birthmark@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown: ends sessions, leaves a clean cluster
            server.wait(_STOP_TIMEOUT_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """Create an empty database on a running server and yield its URL; drop it at the end."""
    name = f"test_{uuid.uuid4().hex}"
    _execute(server_url, f'CREATE DATABASE "{name}"')
    try:
        yield server_url.replace("/postgres?", f"/{name}?")
    finally:
        _execute(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


def _execute(url: str, sql: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(sql.encode())


def _give_away(folder: Path) -> list[str]:
    """If we are root: hand the folder to a user that PostgreSQL accepts, return the command that becomes that user."""
    if os.geteuid() != 0:
        return []
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _program(name: str) -> str:
    """The newest of Debian's versions, which are not on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if found:
        return str(found[-1])
    on_path = shutil.which(name)
    if on_path is None:
        raise RuntimeError(f"no {name}: apt-get install postgresql")
    return on_path


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command} failed: {done.stderr or done.stdout}")


def _wait_until_ready(server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            psycopg.connect(f"postgresql://birthmark@/postgres?host={folder}", connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                told = (folder / "log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL did not start: {told}") from error
            time.sleep(0.05)
        else:
            return
