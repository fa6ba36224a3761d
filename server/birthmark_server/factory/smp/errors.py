"""What can go wrong with a microcontroller at a slot."""

from typing import ClassVar

from birthmark_server.factory.errors import FactoryError

_NEXT_CABLE = "Check the cable and the board's power, then start this unit again: it continues where it stood."
_NEXT_IMAGE = "Take the image from where it is released again; this one must not be flashed."
_NEXT_ASIDE = "Put the board aside: it is not as it must be."


class CableGone(FactoryError):
    """The connection ended midway, or there is none."""

    code = "cable"
    next_step: ClassVar[str] = _NEXT_CABLE


class BoardSilent(FactoryError):
    """Connected, and no answer within the time that it may take."""

    code = "board-silent"
    next_step: ClassVar[str] = _NEXT_CABLE


class BoardGarbled(FactoryError):
    """It answers with what is no answer to what it was asked."""

    code = "board-garbled"
    next_step: ClassVar[str] = "Start this unit again; if it comes back, change the cable, then put the board aside."


class BadAddress(FactoryError):
    """An address of no known form."""

    code = "bad-address"
    next_step: ClassVar[str] = "Write /dev/NAME, tcp:HOST:PORT or unix:PATH behind smp:."


class ImageRefused(FactoryError):
    """The image is not one to flash: found at the station, before the board was asked for anything."""

    code = "image-refused"
    next_step: ClassVar[str] = _NEXT_IMAGE


class ImageTruncated(ImageRefused):
    """It ends before it should, or is no MCUboot image at all."""

    code = "image-truncated"


class ImageTampered(ImageRefused):
    """Its bytes are not those that were hashed and signed."""

    code = "image-tampered"


class ImageWrongKey(ImageRefused):
    """Nobody signed it, or somebody else."""

    code = "image-wrong-key"


class ImageTooLarge(ImageRefused):
    """It does not fit into a slot of the board's flash."""

    code = "image-too-large"


class ImageDowngrade(ImageRefused):
    """The board has a later version."""

    code = "image-downgrade"
    next_step: ClassVar[str] = "Flash the version of the work order; a board never goes back to an earlier one."


class DeviceRefused(FactoryError):
    """The board said no; the message ends with its own reason."""

    code = "device-refused"
    fails = True
    next_step: ClassVar[str] = _NEXT_ASIDE


class WrongFirmware(FactoryError):
    """What runs on the board is not what was flashed, or says that its own signature is bad."""

    code = "wrong-firmware"
    fails = True
    next_step: ClassVar[str] = _NEXT_ASIDE


class OtherBoard(FactoryError):
    """The board in the slot has the record of another unit."""

    code = "other-board"
    next_step: ClassVar[str] = "Put the right board into the slot: its serial number is in the message."


class BoardLocked(FactoryError):
    """The board left factory mode, and its TPM is no longer to be had."""

    code = "board-locked"
    fails = True
    next_step: ClassVar[str] = (
        "Put the board aside: it was finished before, here or elsewhere; look its serial number up."
    )


class NotLocked(FactoryError):
    """The board says that it is locked, and carries TPM commands still."""

    code = "not-locked"
    fails = True
    next_step: ClassVar[str] = _NEXT_ASIDE


class CommandNotAllowed(FactoryError):
    """The board carries no such TPM command: it is not on its list."""

    code = "command-not-allowed"
    next_step: ClassVar[str] = "Call the line's engineer: station and firmware are of different versions."


class TpmLockedOut(FactoryError):
    """The board's TPM is in dictionary-attack lockout."""

    code = "tpm-lockout"
    fails = True
    next_step: ClassVar[str] = (
        "Put the board aside for a day, or until its lockout was reset (tpm2_dictionarylockout --clear-lockout)."
    )


class TpmFailed(FactoryError):
    """The board's TPM gives no answer, or none that is one."""

    code = "tpm-failed"
    fails = True
    next_step: ClassVar[str] = "Look at the TPM and its wiring; if both look well, put the board aside."


class AgentFailed(FactoryError):
    """`birthmark-agent` at the station ended without having done its work; the message ends with its own words."""

    code = "agent-failed"
    next_step: ClassVar[str] = "Read the agent's words above, and its log in the slot's folder; then try again."


class AttestationRefused(FactoryError):
    """The server did not accept the board's proof."""

    code = "attestation-refused"
    fails = True
    next_step: ClassVar[str] = "Put the board aside: the server says above why it is refused."


class NotSeen(FactoryError):
    """The board's agent ran, and the server heard nothing of it over the broker."""

    code = "not-seen"
    next_step: ClassVar[str] = (
        "Look at the broker (birthmark broker status) and at the agent's log in the slot's folder."
    )
