"""`birthmark config`: the settings file."""

import sys

import typer

from birthmark_server import settings
from birthmark_server.cli.output import Json, plain, print_json, say
from birthmark_server.cli.workplace import workplace

app = typer.Typer(no_args_is_help=True, help="The settings file: an example with every key, and a check.")


@app.command()
def example() -> None:
    """Print a settings file with every key, what it is for, and its default.

    Example:  birthmark config example > /etc/birthmark/birthmark.toml
    """
    sys.stdout.write(settings.example())


@app.command()
def check(context: typer.Context, as_json: Json = False) -> None:
    """Read the settings file as `birthmark serve` would, and print what it comes to.

    Example:  birthmark --config birthmark.toml config check
    """
    place = workplace(context)
    values = place.settings()
    if as_json:
        print_json(plain(values.model_dump()))
        return
    say(f"{place.config_path} is good; devices are told {values.public_url}")
