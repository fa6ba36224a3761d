"""`python -m demo_story`, as scripts/demo runs it."""

import argparse
import signal
import sys
from pathlib import Path

from demo_story.parts import PartFailed
from demo_story.screen import Screen
from demo_story.story import Wishes, tell

_PER_DEVICE_S = 4.0
_ANYWAY_S = 40.0


def main() -> int:
    """Tell the story; return 0 if every device got through, 1 if not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.description = "The whole story of a fleet's identities on this machine, with real parts."
    parser.add_argument("--devices", type=int, default=5, metavar="N", help="how many devices (1 to 200; default 5)")
    parser.add_argument("--keep", action="store_true", help="stay up afterwards, and print addresses and commands")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end, and nothing else")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="save the end as an SVG")
    options = parser.parse_args()
    if not 1 <= options.devices <= 200:
        parser.error(f"--devices: want 1 to 200, got {options.devices}")
    timeout_s = _ANYWAY_S + _PER_DEVICE_S * options.devices
    screen = Screen(as_json=options.json)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that everything is stopped
    try:
        complete = tell(Wishes(options.devices, options.keep, options.json, options.picture, timeout_s), screen)
    except PartFailed as error:
        screen.error(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
