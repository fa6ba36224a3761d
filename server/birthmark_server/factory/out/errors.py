"""What keeps something from leaving the line, or shows that it was not the line that let it out."""

from typing import ClassVar

from birthmark_server.errors import Malformed, Misconfigured, Refused


class RecordUnproven(Malformed):
    """A line of a record says what the signatures and certificates in it do not. The message names the line."""

    code: ClassVar[str] = "record-unproven"


class ManifestWrong(Malformed):
    """A manifest is not what a station signed. The message names the first device that is wrong."""

    code: ClassVar[str] = "manifest-wrong"


class NothingMade(Refused):
    """There is nothing that left the line, for this work order."""

    code: ClassVar[str] = "nothing-made"


class SameUnitTwice(Malformed):
    """Two records say that they made the same unit, or are the same record: figures over both would be wrong."""

    code: ClassVar[str] = "same-unit-twice"


class FactoryExtraMissing(Misconfigured):
    """The extra `factory` is not installed here."""

    code: ClassVar[str] = "factory-extra-missing"
