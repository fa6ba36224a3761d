"""Where a CA's passphrase comes from when nobody is there to type it.

    credential:NAME   a systemd credential: LoadCredential=, or LoadCredentialEncrypted= sealed to the machine's TPM
    file:PATH         a file that only its owner may read
    command:ARGV      what a command prints, as `tpm2_unseal -c 0x81000010`; no shell

One trailing newline is dropped, as every editor and `systemd-ask-password` adds one.
"""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Final

from birthmark_server.ca import files
from birthmark_server.ca.errors import KeyUnusable, PassphraseUnavailable

MINIMUM_BYTES: Final = 16
"""Shorter passphrases are refused for new keys. PBES2's iterations can't make up for a guessable one, so make it with
`openssl rand -base64 24` and let a machine remember it."""

_MOST_BYTES: Final = 1024
_COMMAND_TIMEOUT_S: Final = 30.0


def read(source: str) -> bytes:
    """Return the passphrase that `source` names. Raise PassphraseUnavailable saying why there is none."""
    kind, _, rest = source.partition(":")
    match kind:
        case "credential":
            passphrase = _credential(rest)
        case "file":
            try:
                passphrase = files.read_private(Path(rest))
            except KeyUnusable as error:
                raise PassphraseUnavailable(str(error)) from None
        case "command":
            passphrase = _command(rest)
        case _:
            raise PassphraseUnavailable(f"want credential:NAME, file:PATH or command:ARGV, got {kind!r}")
    passphrase = passphrase.removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(passphrase) <= _MOST_BYTES:
        raise PassphraseUnavailable(f"{kind}: want 1 to {_MOST_BYTES} bytes, got {len(passphrase)}")
    return passphrase


def check_strength(passphrase: bytes) -> None:
    """Raise PassphraseUnavailable for one too short to protect a new CA key."""
    if len(passphrase) < MINIMUM_BYTES:
        raise PassphraseUnavailable(f"want at least {MINIMUM_BYTES} bytes: openssl rand -base64 24 makes a good one")


def _credential(name: str) -> bytes:
    # No mode check: systemd grants the service's user access by ACL, whose mask shows as group bits (systemd.exec(5)).
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise PassphraseUnavailable("CREDENTIALS_DIRECTORY is not set: is this a service with LoadCredential=?")
    if not name or Path(name).name != name:
        raise PassphraseUnavailable(f"want the name of a systemd credential, got {name!r}")
    try:
        return (Path(folder) / name).read_bytes()
    except OSError as error:
        raise PassphraseUnavailable(f"credential {name!r}: {error.strerror}") from None


def _command(command: str) -> bytes:
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise PassphraseUnavailable(f"command: {error}") from None
    if not argv:
        raise PassphraseUnavailable("command: want a command line")
    try:
        done = subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=_COMMAND_TIMEOUT_S, check=True
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-500:]
        raise PassphraseUnavailable(f"{argv[0]} failed with status {error.returncode}: {said}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PassphraseUnavailable(f"{argv[0]}: {error}") from None
    return done.stdout
