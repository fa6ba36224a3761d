"""What can go wrong at a slot. Each has a stable `code`, says what was seen and wanted, and what to do next.

`fails` tells the two apart that a line treats differently: the device is not as it must be (its unit FAILs), or it
could not be found out (ERROR: the station, the server or the cable; trying again may help).
"""

from typing import ClassVar

from birthmark_server.errors import BirthmarkError


class FactoryError(BirthmarkError):
    """Something at a slot. next_step: one imperative sentence for the person who stands there."""

    code = "factory"
    fails: ClassVar[bool] = False
    next_step: ClassVar[str] = "Try again; if it comes back, put the device aside and call the line's engineer."


class ReadBackDiffers(FactoryError):
    """What was read back is not what was written."""

    code = "read-back-differs"
    fails = True
    next_step: ClassVar[str] = "Put the device aside: its storage does not keep what it is given."
