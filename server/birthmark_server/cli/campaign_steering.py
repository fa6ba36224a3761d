"""`birthmark campaign pause|resume|approve|retry|abort`: five words for one act, steering a campaign."""

from collections.abc import Callable
from typing import Annotated, Final

import typer

from birthmark_server.cli.output import Json, plain, print_json, say
from birthmark_server.cli.workplace import OperatorFile, workplace
from birthmark_server.web.api.campaigns.bodies import Steering, SteeringReason

Name = Annotated[str, typer.Argument(help="The campaign's name.")]

HELP: Final = {
    Steering.PAUSE: """Tell nobody any more. What is under way goes on.

Example:  birthmark campaign pause winter --reason "storm at the plant"
""",
    Steering.RESUME: """Go on after a pause.

Example:  birthmark campaign resume winter
""",
    Steering.APPROVE: """Let a campaign that holds go on to its next stage.

Example:  birthmark campaign approve winter --operator alice.pem
""",
    Steering.RETRY: """Tell those that failed, or were skipped, once more. An aborted campaign stays aborted.

Example:  birthmark campaign retry winter
""",
    Steering.ABORT: """End a campaign for good. A device whose new certificate is out finishes.

Example:  birthmark campaign abort winter --reason "wrong CA"
""",
}
_DONE: Final = {
    Steering.PAUSE: "is paused; go on with: birthmark campaign resume {name}",
    Steering.RESUME: "runs",
    Steering.APPROVE: "goes on to its next stage",
    Steering.RETRY: "tells those that failed once more",
    Steering.ABORT: "is aborted, for good",
}
"""What is said then."""


def steering_command(steering: Steering) -> Callable[..., None]:
    """Return the command that steers a campaign so."""

    def steer(
        context: typer.Context,
        name: Name,
        reason: Annotated[str, typer.Option(help="Why; it is on record.")] = "",
        operator: OperatorFile = None,
        as_json: Json = False,
    ) -> None:
        with workplace(context).desk(operator) as desk:
            steered = desk.campaigns.steer(name, steering, SteeringReason(reason=reason))
        if as_json:
            print_json(plain(steered))
        say(f"campaign {name} {_DONE[steering].format(name=name)}")

    return steer
