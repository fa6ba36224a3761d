"""A campaign is watched, and drawn, until it is so far."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from demo_story.campaign_record import Look, Record
from demo_story.campaign_screen import CampaignScreen
from demo_story.parts import PartFailed
from demo_story.screen import Screen
from demo_story.site import Site

LOOK_EVERY_S: Final = 0.2
_WITHIN_S: Final = 120.0


class CampaignWatch:
    """Of one campaign."""

    def __init__(self, record: Record, screen: Screen, site: Site) -> None:
        self._record = record
        self._screen = screen
        self._drawing = CampaignScreen(screen)
        self._site = site

    def until(self, reached: Callable[[Look], bool]) -> Look:
        """Draw the campaign until it is so far; raise PartFailed if that takes too long."""
        deadline = time.monotonic() + _WITHIN_S
        with ExitStack() as showing:
            self._screen.devices(showing)
            while True:
                look = self._record.look()
                self._drawing.update(look)
                if reached(look):
                    return look
                self._site.require_alive()
                if time.monotonic() > deadline:
                    raise PartFailed(f"the campaign stands still: {look.view}")
                time.sleep(LOOK_EVERY_S)
