"""What goes wrong when a TPM structure is read or used."""

from birthmark_server.errors import Malformed, Refused


class TpmDecodeError(Malformed):
    """The bytes are not the TPM structure they should be: truncated, overlong, or with a value outside the standard."""

    code = "tpm-malformed"


class NotTpmGenerated(TpmDecodeError):
    """A TPMS_ATTEST without TPM_GENERATED_VALUE in front: something other than a TPM may have made it."""

    code = "attest-magic"


class UnsupportedKey(Refused):
    """The key is well-formed, and of a kind that this server does not work with."""

    code = "key-unsupported"
