"""When the running agent renews by itself: by the certificate, the clock, and the pace of attempts."""

import time

from birthmark_agent.backoff import Backoff
from birthmark_agent.clock import ClockState
from birthmark_agent.homecoming import Homecoming
from birthmark_agent.identity import Identities
from birthmark_agent.schedule import is_due, renew_at
from birthmark_agent.slots import Identity


class RenewalClock:
    """renewing: the pace of all rotations."""

    def __init__(self, identities: Identities, homecoming: Homecoming, *, renewing: Backoff) -> None:
        self._identities = identities
        self._homecoming = homecoming
        self._renewing = renewing
        self._not_before_s = 0.0
        self._asked_for_time = False
        self._started_s = identities.clock.boot_time_s()

    def wait(self, wait_s: float) -> None:
        """Renew no sooner than after so long."""
        self._not_before_s = time.monotonic() + wait_s

    def renewed(self) -> None:
        """Forget what was to be waited for: the next certificate has a pace of its own."""
        self._not_before_s = 0.0

    def due(self, identity: Identity) -> bool:
        """Return whether `identity` is to be renewed now. Asks the server for the time, once, where nobody vouches."""
        clock, obtained = self._identities.clock, self._homecoming.obtained
        vouched = clock.state() is ClockState.SET
        moment = renew_at(
            identity.chain[0],
            not_before=identity.not_before,
            not_after=identity.not_after,
            renewal=self._identities.settings.renewal,
        )
        if not is_due(
            moment,
            not_before=identity.not_before,
            now=clock.now(),
            vouched=vouched,
            held_s=clock.boot_time_s() - obtained.get(identity.serial_number, self._started_s),
            obtained_here=identity.serial_number in obtained,
        ):
            return False
        if not vouched and not self._asked_for_time:
            self._asked_for_time = True  # once: a clock that runs ahead must not renew at every floor
            self._identities.try_to_learn_time()
            return False
        if self._not_before_s == 0.0:
            self.wait(self._renewing.wait_s())
        return time.monotonic() >= self._not_before_s
