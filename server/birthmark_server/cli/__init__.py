"""`birthmark`: the operator's command line, one module for each noun. `main` is the door of the program.

Data goes to stdout, words to stderr; what the exit status means is in exits.py. An error is one sentence, never a
traceback (BIRTHMARK_TRACEBACK=1 shows it to whoever repairs Birthmark itself).
"""

import os
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from birthmark_server.cli import (
    batch,
    broker,
    ca,
    campaign,
    certificate,
    config,
    context,
    database,
    device,
    doctor,
    factory,
    flash,
    group,
    image,
    init,
    journal,
    manifest,
    model,
    operator,
    refusal,
    root,
    serve,
    station,
    status,
    tpm_roots,
    workorder,
)
from birthmark_server.cli.exits import Exit, exit_for, on_disk
from birthmark_server.cli.output import say
from birthmark_server.cli.workplace import Workplace
from birthmark_server.errors import BirthmarkError
from birthmark_server.factory.errors import FactoryError
from birthmark_server.store.errors import StoreFailed
from birthmark_wire import PROTOCOL
from birthmark_wire.errors import DecodeError

_CLICK_USAGE_ERROR = 2


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"birthmark {installed_version('birthmark')} ({PROTOCOL})")
        raise typer.Exit


def application() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="birthmark",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help="Give every device an identity at birth, and keep it trustworthy for life.",
        epilog="Begin with: birthmark init --help. Is all well? birthmark doctor. "
        "Exit status: 0 done, 1 no, 3 the broker was not told, 64 and up as in sysexits.h.",
    )

    @app.callback()
    def main_options(
        typer_context: typer.Context,
        config_file: Annotated[
            Path | None,
            typer.Option(
                "--config",
                envvar="BIRTHMARK_CONFIG",
                metavar="FILE",
                help="The settings file. [default: /etc/birthmark/birthmark.toml, or ./birthmark.toml]",
                show_default=False,
            ),
        ] = None,
        context_name: Annotated[
            str,
            typer.Option(
                "--context",
                metavar="NAME",
                help="Where to work, by its name in `birthmark context list`. "
                "[default: the one in use; with --config: local]",
                show_default=False,
            ),
        ] = "",
        show_version: Annotated[  # noqa: ARG001 - its callback does the work
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
        ] = False,
    ) -> None:
        typer_context.obj = Workplace(config_file, context_name)

    @app.command()
    def version() -> None:
        """Print the version of Birthmark and of the protocol that its devices speak.

        Example:  birthmark version
        """
        _version(True)

    _commands(app)
    return app


def _commands(app: typer.Typer) -> None:
    setting_up, running, looking, making, people = "Set up", "Run", "Devices", "Factory", "Operators"
    app.add_typer(root.app, name="root", rich_help_panel=setting_up)
    app.command(rich_help_panel=setting_up)(init.init)
    app.add_typer(tpm_roots.app, name="tpm-roots", rich_help_panel=setting_up)
    app.add_typer(config.app, name="config", rich_help_panel=setting_up)
    app.add_typer(broker.app, name="broker", rich_help_panel=setting_up)
    app.add_typer(ca.app, name="ca", rich_help_panel=running)
    app.add_typer(database.app, name="database", rich_help_panel=running)
    app.command(rich_help_panel=running)(serve.serve)
    app.command(rich_help_panel=running)(doctor.doctor)
    app.add_typer(journal.app, name="journal", rich_help_panel=running)
    app.add_typer(model.app, name="model", rich_help_panel=looking)
    app.add_typer(manifest.app, name="manifest", rich_help_panel=looking)
    app.add_typer(batch.app, name="batch", rich_help_panel=looking)
    app.add_typer(device.app, name="device", rich_help_panel=looking)
    app.add_typer(campaign.app, name="campaign", rich_help_panel=looking)
    app.add_typer(certificate.app, name="certificate", rich_help_panel=looking)
    app.add_typer(certificate.app, name="cert", hidden=True)
    app.add_typer(group.app, name="group", rich_help_panel=looking)
    app.add_typer(refusal.app, name="refusal", rich_help_panel=looking)
    app.command(rich_help_panel=looking)(status.status)
    app.add_typer(workorder.app, name="workorder", rich_help_panel=making)
    app.add_typer(station.app, name="station", rich_help_panel=making)
    app.add_typer(factory.app, name="factory", rich_help_panel=making)
    app.add_typer(image.app, name="image", rich_help_panel=making)
    app.command(rich_help_panel=making)(flash.flash)
    app.add_typer(operator.app, name="operator", rich_help_panel=people)
    app.add_typer(context.app, name="context", rich_help_panel=people)


def main() -> None:
    """Run one command and end the process with its status."""
    sys.exit(run(lambda: application()()))


def run(command: Callable[[], object]) -> int:
    """Run `command` and return the exit status; print errors as one sentence each."""
    try:
        command()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else Exit.SOFTWARE if stop.code else Exit.DONE
        return Exit.USAGE if status == _CLICK_USAGE_ERROR else status
    except (BirthmarkError, OSError, KeyboardInterrupt) as error:
        return _failed(error, _sentence(error))
    except DecodeError as error:
        _failed(error, str(error))
        return Exit.DATA
    except ValidationError as errors:  # what was typed does not fit what the server would take
        _failed(errors, _typed(errors))
        return Exit.DATA
    except Exception as error:  # noqa: BLE001 - the last resort: a bug is one sentence too
        return _failed(
            error, f"a fault in Birthmark itself: {type(error).__name__}: {error}; BIRTHMARK_TRACEBACK=1 says more"
        )
    return Exit.DONE


def _typed(errors: ValidationError) -> str:
    first = errors.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]).replace("_", "-")
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def _failed(error: BaseException, sentence: str) -> int:
    if os.environ.get("BIRTHMARK_TRACEBACK"):
        traceback.print_exception(error)
    say(f"birthmark: {sentence}")
    return exit_for(error)


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, FactoryError):
        return f"{error}. {error.next_step}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, StoreFailed) and on_disk(error):
        return f"{error}; df -h and birthmark doctor say more"
    return str(error) or type(error).__name__
