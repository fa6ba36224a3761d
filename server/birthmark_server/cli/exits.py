"""What the exit status says: sysexits.h, so that a script can tell "try again" from "you may not" without reading text.

0 done; 1 the answer is no (`doctor` found something, nothing of that name is on record); 3 revoked, but the broker was
not told; the rest below.
"""

import sqlite3
from enum import IntEnum
from typing import Final

from birthmark_server.broker.errors import BrokerNotTold
from birthmark_server.ca import errors as ca
from birthmark_server.cli.https import ServerFailed, ServerUnreachable
from birthmark_server.cli.operator_proof import NotAnOperator
from birthmark_server.errors import AddressTaken, BirthmarkError, Busy, Malformed, Misconfigured, Refused
from birthmark_server.factory import desk as factory
from birthmark_server.factory.errors import FactoryError
from birthmark_server.factory.image import errors as image
from birthmark_server.factory.station import errors as station
from birthmark_server.roles import RoleNotAllowed
from birthmark_server.store import errors as store
from birthmark_server.web import errors as web


class Exit(IntEnum):
    """The statuses that `birthmark` ends with."""

    DONE = 0
    NO = 1
    BROKER_NOT_TOLD = 3
    """Revoked in the database; the broker does not know it yet."""
    USAGE = 64
    """The command line is wrong."""
    DATA = 65
    """A file that was read (a manifest, a request, a certificate) is not what it should be."""
    NO_INPUT = 66
    """A file that was named, on the command line or in the settings, is not there."""
    UNAVAILABLE = 69
    """Something this needs is not there: the database server, the broker, an extra of the installation."""
    SOFTWARE = 70
    """A fault in Birthmark itself."""
    CANT_CREATE = 73
    """What would be made is there already, or contradicts it."""
    IO = 74
    """Reading or writing failed: the disk is full, the database's file damaged."""
    TRY_AGAIN = 75
    """Not now: a limit is reached, or another program listens on the port."""
    NO_PERMISSION = 77
    """This operator may not do it."""
    CONFIGURATION = 78
    """The settings, or a file or folder that is there, must be changed first."""
    INTERRUPTED = 130


# The first class that fits decides, so subclasses stand before their bases.
_EXITS: Final[tuple[tuple[type[BaseException], Exit], ...]] = (
    (BrokerNotTold, Exit.BROKER_NOT_TOLD),
    (store.NotFound, Exit.NO),
    (store.SameOperator, Exit.NO_PERMISSION),
    (NotAnOperator, Exit.NO_PERMISSION),
    (RoleNotAllowed, Exit.NO_PERMISSION),
    (web.NotYourDoor, Exit.NO_PERMISSION),
    (web.KeyInUse, Exit.TRY_AGAIN),
    (ServerUnreachable, Exit.UNAVAILABLE),
    (ServerFailed, Exit.UNAVAILABLE),
    (store.Conflict, Exit.CANT_CREATE),
    (store.StoreFailed, Exit.UNAVAILABLE),
    (store.JournalDamaged, Exit.DATA),
    (ca.UntrustedCertificate, Exit.NO_PERMISSION),
    (ca.CertificateExpired, Exit.NO_PERMISSION),
    (ca.CertificateNotYetValid, Exit.NO_PERMISSION),
    (ca.PolicyMissing, Exit.NO_PERMISSION),
    (ca.RequestRefused, Exit.DATA),
    (ca.CeremonyRefused, Exit.CANT_CREATE),
    (station.NotAtThisStation, Exit.NO_PERMISSION),
    (station.RecordInUse, Exit.TRY_AGAIN),
    (station.RecordNotWritten, Exit.IO),
    (station.LineStopped, Exit.UNAVAILABLE),
    (factory.ServerUnreachable, Exit.UNAVAILABLE),
    (image.NoRoom, Exit.IO),
    (image.ToolMissing, Exit.UNAVAILABLE),
    (image.NoPackages, Exit.UNAVAILABLE),
    (image.ImageFailed, Exit.UNAVAILABLE),
    (Malformed, Exit.DATA),
    (Busy, Exit.TRY_AGAIN),
    (AddressTaken, Exit.TRY_AGAIN),
    (Misconfigured, Exit.CONFIGURATION),
    (Refused, Exit.NO),
    (FactoryError, Exit.NO),
    (BirthmarkError, Exit.SOFTWARE),
    (FileNotFoundError, Exit.NO_INPUT),
    (FileExistsError, Exit.CANT_CREATE),
    (PermissionError, Exit.NO_PERMISSION),
    (IsADirectoryError, Exit.NO_INPUT),
    (OSError, Exit.IO),
    (KeyboardInterrupt, Exit.INTERRUPTED),
)


def exit_for(error: BaseException) -> Exit:
    """Return the status that `error` ends the command with; SOFTWARE for what nobody foresaw."""
    if isinstance(error, store.StoreFailed) and on_disk(error):
        return Exit.IO
    if isinstance(error, Misconfigured) and _for_want_of_a_file(error):
        return Exit.NO_INPUT
    return next((status for kind, status in _EXITS if isinstance(error, kind)), Exit.SOFTWARE)


def on_disk(error: store.StoreFailed) -> bool:
    """Tell whether it was a file that failed (SQLite's, or the journal), not a database server out of reach."""
    cause: object = error.__cause__
    return isinstance(getattr(cause, "orig", cause), (OSError, sqlite3.Error))  # SQLAlchemy's have the driver's in orig


def _for_want_of_a_file(error: BaseException | None) -> bool:
    """Tell whether what must be mended is a file that is not there. Each room says so in words of its own, and Python
    keeps beside them what the room had caught."""
    while isinstance(error, Misconfigured):
        error = error.__cause__ or error.__context__
    return isinstance(error, FileNotFoundError)
