"""What can go wrong with a disk, or with a device that was started from one."""

from typing import ClassVar

from birthmark_server.factory.errors import FactoryError


class ImageUnusable(FactoryError):
    """The image or its block map is not what it should be: nothing bootable was left on the disk."""

    code = "image-unusable"
    next_step: ClassVar[str] = "Fetch the image again, or build it again (birthmark image build); then go on."


class NotADisk(FactoryError):
    """What was named is neither a disk nor a regular file."""

    code = "not-a-disk"
    next_step: ClassVar[str] = "Look at the slot's target: lsblk shows this machine's disks."


class DiskInUse(FactoryError):
    """The disk is mounted, or swap, or held by another device or program. Nothing was written."""

    code = "disk-in-use"
    next_step: ClassVar[str] = "Make sure that it is the right disk; then umount it, and try again."


class DiskTooSmall(FactoryError):
    """The image does not fit. Nothing was written."""

    code = "disk-too-small"
    fails = True
    next_step: ClassVar[str] = "Put the device aside: its disk is not of this model."


class DiskGone(FactoryError):
    """The disk stopped answering while it was written or read: a cable, a power cut, the disk itself."""

    code = "disk-gone"
    next_step: ClassVar[str] = "Check cable and power, then try again; what was written does not boot."


class DiskFull(FactoryError):
    """The file system that holds the disk's file is full."""

    code = "disk-full"
    next_step: ClassVar[str] = "Make room where the disk's file lies (df -h), then try again."


class ConsoleSilent(FactoryError):
    """The device did not say within the time what it was waited for."""

    code = "console-silent"
    next_step: ClassVar[str] = (
        "Look at power, console cable and boot order; console.log in the unit's folder has all it said."
    )


class ConsoleGone(FactoryError):
    """The console can't be opened, or was closed."""

    code = "console-gone"
    next_step: ClassVar[str] = "Check the console's cable and address in station.toml, then try again."


class ConsoleGarbled(FactoryError):
    """What the device said can't be read, or is more than any device says."""

    code = "console-garbled"
    fails = True
    next_step: ClassVar[str] = "Look at console.log in the unit's folder; check baud rate and ground of the console."


class BootFailed(FactoryError):
    """The device said that it can't start: its kernel panicked, or its image refuses itself."""

    code = "boot-failed"
    fails = True
    next_step: ClassVar[str] = "Flash it once more; if it comes back, put the device aside with its console.log."


class DeviceFailed(FactoryError):
    """The device's agent said why it does not get on: the server's or the TPM's words."""

    code = "device-failed"
    fails = True
    next_step: ClassVar[str] = "Read the reason; `birthmark refusal list` at the server has more, by the request id."


class PowerFailed(FactoryError):
    """The command that switches the device on or off failed."""

    code = "power-failed"
    next_step: ClassVar[str] = "Run power_on of the slot in station.toml by hand, and mend what it says."


class ToolMissing(FactoryError):
    """A program that flashing needs is not installed."""

    code = "tool-missing"
    next_step: ClassVar[str] = "Install it, then go on."
