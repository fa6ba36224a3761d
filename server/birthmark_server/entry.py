"""`birthmark`: the door of the program, which needs nothing of the `server` extra to say that it is missing."""

import sys
from typing import Final

EX_UNAVAILABLE: Final = 69


def main() -> None:
    """Run the command line, or end with 69 where its dependencies are not installed."""
    try:
        from birthmark_server import cli
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("birthmark"):
            raise
        print(
            f"birthmark: the server is not installed here (there is no {error.name}): pip install 'birthmark[server]'",
            file=sys.stderr,
        )
        sys.exit(EX_UNAVAILABLE)
    cli.main()
