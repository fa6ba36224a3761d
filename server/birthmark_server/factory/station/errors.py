"""What stops a whole line, or can't be found out at a slot."""

from typing import ClassVar

from birthmark_server.errors import Malformed, Misconfigured, Refused
from birthmark_server.factory.errors import FactoryError


class RecordDamaged(Malformed):
    """A line of the record is not what was written there. The message names file and line."""

    code: ClassVar[str] = "record-damaged"


class RecordInUse(Misconfigured):
    """Another process has the station's record open: one run at a time."""

    code: ClassVar[str] = "record-in-use"


class RecordNotWritten(FactoryError):
    """The record could not be kept (the disk is full, or broken): nothing that depends on it may go on."""

    code = "record-not-written"
    next_step: ClassVar[str] = "Make room on the station's disk (df -h), then run the work order again: it goes on."


class NotForTheRecord(FactoryError):
    """Something was said that no line of the record can hold: too long, or no text."""

    code = "not-for-the-record"
    fails = True
    next_step: ClassVar[str] = "Put the device aside: what it says of itself is more than any device has to say."


class StationSettingsBroken(Misconfigured):
    """The station's settings file is not as it must be. The message names file and key, and what is wanted."""

    code: ClassVar[str] = "station-settings"


class NotAtThisStation(Refused):
    """Who badged in may not work here, or not any more; or the station itself may not."""

    code: ClassVar[str] = "not-at-this-station"


class ClockWrong(Misconfigured):
    """This machine's clock can't be right: it contradicts certificates or the server."""

    code: ClassVar[str] = "clock-wrong"


class PhaseTooLong(FactoryError):
    """The device took longer than the slot's limit for this phase."""

    code = "phase-too-long"
    next_step: ClassVar[str] = "Look at cable and power; if all devices of this kind are slow, raise [slot.limits]."


class SlotFault(FactoryError):
    """Something that nobody foresaw, at one slot."""

    code = "slot-fault"
    next_step: ClassVar[str] = "Try again; if it comes back, keep the record and call Birthmark's maintainers."


class OtherModel(FactoryError):
    """The device's TPM has no EK of the kind that identifies a device of this model."""

    code = "other-model"
    fails = True
    next_step: ClassVar[str] = "Put the device aside: its TPM is not the model's; or ask who made the model (--ek)."


class IdentityGarbled(FactoryError):
    """What the device says of itself can't be read, or contradicts itself."""

    code = "identity-garbled"
    fails = True
    next_step: ClassVar[str] = "Try once more; if it comes back, the device's TPM is broken: put it aside."


class BornAsAnother(FactoryError):
    """The certificate that the device was born with is not this unit's."""

    code = "born-as-another"
    fails = True
    next_step: ClassVar[str] = "Put the device aside and call the security officer: two devices were mixed up."


class DuplicateDevice(FactoryError):
    """The device's EK or MAC is another unit's. The unit is in quarantine."""

    code = "twin-device"
    fails = True
    next_step: ClassVar[str] = "Put the device aside: it is in quarantine. Its twin is named in the message."


class InQuarantine(FactoryError):
    """This device was put in quarantine before."""

    code = "in-quarantine"
    fails = True
    next_step: ClassVar[str] = "Put the device aside; a security officer decides what becomes of it."


class WrongDevice(FactoryError):
    """Another device is in the slot than the one that is to be done again."""

    code = "wrong-device"
    next_step: ClassVar[str] = "Put the device with this serial number into the slot."


class MadeAlready(FactoryError):
    """This device passed before."""

    code = "made-already"
    fails = True
    next_step: ClassVar[str] = "Nothing is wrong with it: take it out, or do it again with --again SERIAL."


class LineStopped(FactoryError):
    """The server will not have this station, or this work order, any more: no slot can go on."""

    code = "line-stopped"
    next_step: ClassVar[str] = "Call the line's engineer: birthmark workorder show and birthmark doctor say more."


class Stopped(FactoryError):
    """Somebody stopped the line while this was under way."""

    code = "stopped"
    next_step: ClassVar[str] = "Run the work order again: it goes on where it stood."
