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


class BrokerNotTold(BirthmarkError):
    """It is revoked in the database, and the broker does not know it: whoever is connected may stay so."""

    code = "broker-not-told"
