"""Why a rotation's message is refused. What evidence can be refused for is in attestation/errors.py and renewal.py."""

from birthmark_server.errors import Refused


class Garbage(Refused):
    """The message, or the CSR in it, can't be read."""

    code = "message-unreadable"


class NotYourJob(Refused):
    """The device names a job that is not on record, or another device's: the answer to both is the same."""

    code = "no-such-job"


class JobOver(Refused):
    """The job has ended."""

    code = "job-over"


class NotYourCertificate(Refused):
    """The serial number is of no operational certificate of this device that stands now."""

    code = "not-your-certificate"
