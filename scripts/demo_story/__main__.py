"""`python -m demo_story`, as scripts/demo runs it.

What the story needs takes a second to import: that comes once signals are in hand.
"""

import argparse
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

_PER_DEVICE_S = 4.0
_ANYWAY_S = 40.0
_PATIENCE_S: Final = 10.0


class Signals:
    """Ctrl-C, SIGTERM and a closed terminal end the story alike: KeyboardInterrupt, so that everything is stopped.

    number: of the first one, 0 before. More of them while things are being stopped change nothing.
    """

    def __init__(self) -> None:
        self.number = 0
        self._at_s = 0.0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._received)  # SIGINT too: a shell's background job has it ignored

    def _received(self, number: int, _frame: FrameType | None) -> None:
        if self.number and time.monotonic() - self._at_s < _PATIENCE_S:
            return
        self.number, self._at_s = self.number or number, time.monotonic()
        raise KeyboardInterrupt

    def done(self) -> None:
        """Let nothing disturb the end."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def main() -> int:
    """Tell the story; return 0 if every device got through, 1 if not, 128 and its number after a signal."""
    options = _options()
    signals = Signals()
    try:
        status = _tell(options, signals)
    except BaseException:
        if not signals.number:
            raise
        # Whatever it came out as: a thread that could not be started, a command that was cut short.
    finally:
        signals.done()
    if not signals.number:
        return status
    with suppress(OSError):  # the terminal may be gone
        print("interrupted", file=sys.stderr)
    return 128 + signals.number


def _tell(options: argparse.Namespace, signals: Signals) -> int:
    from demo_story.parts import PartFailed
    from demo_story.screen import Screen
    from demo_story.story import tell
    from demo_story.wishes import Wishes

    wishes = Wishes(
        devices=options.devices,
        keep=options.keep,
        as_json=options.json,
        picture=options.picture,
        timeout_s=_ANYWAY_S + _PER_DEVICE_S * options.devices,
        campaign=options.campaign,
        factory=options.factory,
    )
    screen = Screen(as_json=options.json, interrupted=lambda: signals.number != 0)
    try:
        return 0 if tell(wishes, screen) else 1
    except PartFailed as error:
        if not signals.number:  # a part that failed because it was interrupted is no failure
            screen.error(str(error))
        return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo")
    parser.description = "The whole story of a fleet's identities on this machine, with real parts."
    parser.add_argument(
        "--campaign", action="store_true", help="rotate the fleet from a chair instead, in stages; replace its CA"
    )
    parser.add_argument(
        "--factory", action="store_true", help="flash and make devices of two kinds at two stations instead"
    )
    parser.add_argument(
        "--devices", type=int, metavar="N", help="how many devices (1 to 200; default 5; a campaign: 6 to 200, 30)"
    )
    parser.add_argument("--keep", action="store_true", help="stay up afterwards, and print addresses and commands")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end, and nothing else")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="save the end as an SVG")
    options = parser.parse_args()
    if options.factory and (options.campaign or options.devices or options.picture):
        parser.error("--factory: want neither --campaign nor --devices nor --picture beside it")
    fewest, usual = (6, 30) if options.campaign else (1, 5)
    options.devices = usual if options.devices is None else options.devices
    if not fewest <= options.devices <= 200:
        parser.error(f"--devices: want {fewest} to 200, got {options.devices}")
    if options.picture is not None and (why := _why_not_writable(options.picture)):
        parser.error(f"--picture: {options.picture} can't be written: {why}")
    return options


def _why_not_writable(path: Path) -> str:
    """Try it, as permissions do not tell all; return the system's word, empty if it can be written."""
    new = not path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        return os.strerror(error.errno or 0)
    if new:
        path.unlink()
    return ""


if __name__ == "__main__":
    status = main()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # sys.exit would end with SIGINT where an import was interrupted: CPython keeps a note of it (bpo-1054041).
    os._exit(status)
