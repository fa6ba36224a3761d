"""`birthmark serve`: the enrollment server itself."""

import typer

from birthmark_server.cli.workplace import workplace


def serve(context: typer.Context) -> None:
    """Run the enrollment server until SIGTERM or Ctrl-C.

    Every setting comes from the settings file: birthmark config example.
    As a service: server/systemd/birthmark.service.

    Example:  birthmark --config /etc/birthmark/birthmark.toml serve
    """
    settings = workplace(context).settings()
    # Only here: the other commands need no HTTP server, and start in half the time without.
    from birthmark_server.app import run

    raise typer.Exit(run(settings))
