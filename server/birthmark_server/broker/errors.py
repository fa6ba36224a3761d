"""What can go wrong between the server and its broker."""

from birthmark_server.errors import BirthmarkError, Malformed


class BrokerUnavailable(BirthmarkError):
    """The broker did not answer in time, or we are not connected to it."""

    code = "broker-unavailable"


class BrokerRefused(BirthmarkError):
    """The gate understood our command and said no."""

    code = "broker-refused"


class DenyFileMalformed(Malformed):
    """A deny file that the gate would not take either."""

    code = "deny-file-malformed"
