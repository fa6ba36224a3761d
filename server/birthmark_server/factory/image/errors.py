"""Why no image was built. Each message says what was seen and wanted, and what to do about it."""

from birthmark_server.errors import BirthmarkError, Malformed, Misconfigured


class ImageFailed(BirthmarkError):
    """A tool that builds a part of the image failed; the message ends with its own words."""

    code = "image-failed"


class WrongOption(Malformed):
    """An option, or the file that it names, is not what it should be."""

    code = "image-option"


class ToolMissing(Misconfigured):
    """A program of this machine is needed and not there."""

    code = "image-tool-missing"


class NoPackages(Misconfigured):
    """apt has no sources, does not reach them, or they lack what the image needs."""

    code = "image-no-packages"


class NoRoom(BirthmarkError):
    """The disk where it is built has too little room."""

    code = "image-no-room"
