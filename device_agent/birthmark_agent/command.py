"""May this command be obeyed? Who signed it, for whom, until when, and whether it is a new one.

A command counts if its signer's chain leads to a pinned root and says that it may command, the signature is over
these very bytes (signer.py), the device is this one, the sequence is above the last one taken, and it has not expired.
The cheap questions come first: whoever holds the broker can send as much as it likes, and each signature costs a
process.

Time: a device whose clock nobody vouches for can't tell a command of today from one that was held back for a year. It
judges the signer at the time that the command claims, asks the server for the time, and takes nothing before it knows.
Not asked: whether the signer's certificate was revoked (a device has no CRL); its lifetime bounds that, and the server
issues nothing for a job that it did not order.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from birthmark_agent.errors import AgentError
from birthmark_agent.signer import SignerRefused, verify_signed
from birthmark_wire import jws
from birthmark_wire.jws import SignedMessage
from birthmark_wire.rotation import COMMAND_TYPE, Command


class CommandRefused(AgentError):
    """A command that this device must not obey."""

    code = "command-refused"
    advice = "nothing on the device: the operator's server, or whoever sent this, must send another command"


class CommandUnsigned(CommandRefused):
    """Nobody who may command this device has signed it, or not with a certificate that stands."""

    code = "command-unsigned"


class CommandForAnother(CommandRefused):
    """It names another device."""

    code = "command-for-another"


class CommandStale(CommandRefused):
    """A later command was taken before."""

    code = "command-stale"


class CommandChanged(CommandRefused):
    """It has the sequence or the job of a command that was taken, and says something else."""

    code = "command-changed"


class CommandExpired(CommandRefused):
    """Its time is over."""

    code = "command-expired"


class ClockNotSet(AgentError):
    """Nobody vouches for this device's clock, so it can't tell whether a command has expired."""

    code = "clock-not-set"
    advice = "start NTP, or see that the server can be reached: it tells the time"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A command as it came; nothing of it is proven. digest: SHA-256 of its payload, hex."""

    command: Command
    message: SignedMessage
    digest: str


@dataclass(frozen=True, slots=True)
class Taken:
    """The last command that this device took; its job may be over."""

    job_id: str
    sequence: int
    digest: str


def read_command(payload: bytes) -> Arrived:
    """Take what came on `down/cmd` apart. Raise DecodeError: then it is no command at all."""
    message = jws.decode(payload, message_type=COMMAND_TYPE)
    return Arrived(Command.decode(message.payload), message, hashlib.sha256(message.payload).hexdigest())


def check_turn(arrived: Arrived, *, device_id: str, last: Taken | None) -> None:
    """See that it is for us and after the last one. Raise CommandForAnother, CommandStale, CommandChanged."""
    command = arrived.command
    if command.device_id != device_id:
        raise CommandForAnother(f"it is for {command.device_id}, we are {device_id}")
    if last is None:
        return
    if command.sequence == last.sequence or (command.job_id == last.job_id and command.sequence < last.sequence):
        raise CommandChanged(f"command {last.sequence} said something else about job {last.job_id}")
    if command.sequence < last.sequence:
        raise CommandStale(f"its sequence is {command.sequence}, and command {last.sequence} was taken")


def check_time(command: Command, *, now: datetime) -> None:
    """Raise CommandExpired. now: a moment that has certainly passed."""
    if command.expires_at <= now:
        raise CommandExpired(f"it expired at {command.expires_at:%Y-%m-%dT%H:%M:%SZ}")


def verify_signer(arrived: Arrived, *, anchors_pem: str, at: datetime | None) -> None:
    """See who signed it. To be done apart: it needs `cryptography`. Raise CommandUnsigned.

    at: the moment at which the signer's chain must be valid; None where the clock is not set: when it was issued, as it
    claims itself, which says nothing about now.
    """
    try:
        verify_signed(arrived.message, anchors_pem=anchors_pem, at=at or arrived.command.issued_at)
    except SignerRefused as error:
        raise CommandUnsigned(str(error)) from None
