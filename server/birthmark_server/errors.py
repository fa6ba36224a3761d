"""The root of the server's one error tree.

Every refusal has a class of its own with a stable `code`, which clients, logs and the refusal list all show. Rooms
derive theirs in their own `errors.py`; only `web/problems.py` knows what HTTP makes of each.
"""

from typing import ClassVar


class BirthmarkError(Exception):
    """Something went wrong that has a name. The message says what was seen and what was wanted.

    told: what a client hears in place of the message, where that is for our own people; empty where it may hear all.
    """

    code: ClassVar[str] = "internal"
    told: ClassVar[str] = ""


class Malformed(BirthmarkError):
    """The input could not be read."""

    code = "malformed"


class Refused(BirthmarkError):
    """The input was read and the answer is no. Each refusal is recorded with its reason."""

    code = "refused"


class Busy(BirthmarkError):
    """Not now: a limit is reached. retry_after_s says when to come back."""

    code = "busy"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Misconfigured(BirthmarkError):
    """The operator must change something: a file, a mode, a setting."""

    code = "misconfigured"


class AddressTaken(Misconfigured):
    """Another program listens there. It may be on its way out: trying again can help."""

    code = "address-taken"
