"""What goes wrong when a message is read."""


class DecodeError(ValueError):
    """The bytes are not the message they claim to be.

    field: the path of the offending member, as in `certify.attest`; empty when the whole is at fault.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
