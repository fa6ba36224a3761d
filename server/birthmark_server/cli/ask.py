"""Asking a person for a passphrase: the rule is said before they type, and nothing is asked where nobody can answer."""

import sys

import typer

from birthmark_server.ca import passphrase as sources
from birthmark_server.cli.output import say


def ask_passphrase(title: str, *, instead: str, new: bool = False) -> bytes:
    """Return what a person types, unseen. new: it will protect a new key: typed twice, and not too short.

    instead: what to give where there is no terminal, as `--passphrase file:PATH`. Raises typer.BadParameter there.
    """
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{title}: there is no terminal to ask on; give {instead}")
    if new:
        say(f"at least {sources.MINIMUM_BYTES} characters; openssl rand -base64 24 makes a good one")
    text: str = typer.prompt(title, hide_input=True, confirmation_prompt=new, err=True)
    if new:
        sources.check_strength(text.encode())
    return text.encode()
