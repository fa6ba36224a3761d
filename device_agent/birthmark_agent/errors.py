"""The root of the agent's one error tree.

Every failure that the agent can name has a class with a stable `code`, which log, `status --json` and `doctor` show.
A message says what was seen and what was wanted; `advice`, where there is one, says what a person can do about it.
"""

import ssl
from typing import ClassVar


class AgentError(Exception):
    """Something went wrong that has a name."""

    code: ClassVar[str] = "agent-failed"
    advice: ClassVar[str] = ""

    def __reduce__(self) -> tuple[object, ...]:
        """Copy as it is, whatever __init__ wants: it may come from a child process (apart.py)."""
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[AgentError], args: tuple[object, ...]) -> AgentError:
    return kind.__new__(kind, *args)


class Misconfigured(AgentError):
    """A person must change something: a file, a mode, a setting."""

    code = "misconfigured"
    advice = "change it in the agent's settings or the file that they name; birthmark-agent.example.toml has every key"


class StorageFailed(AgentError):
    """The agent's folder can't be written or read: the disk is full, read-only or broken. The old state stands."""

    code = "storage-failed"
    advice = "free space on the file system of the agent's folder, and check that the agent's user owns it"


class IdentityDamaged(AgentError):
    """What is on disk of an identity does not fit together. The other slot, or an enrollment, heals it."""

    code = "identity-damaged"
    advice = "`birthmark-agent enroll` gets another one, from the TPM's birth key"


class UnusableAnswer(AgentError):
    """The server granted something that this device can't use, or must not."""

    code = "unusable-answer"
    advice = "check that server.anchors is this server's root; else the operator must look at `birthmark doctor`"


class TlsKeyFailed(AgentError, ssl.SSLError):
    """Our key or certificate can't be used for TLS. __cause__: the TpmError, if it was the TPM that failed.

    An ssl.SSLError too, so that libraries between us and the handshake (paho, http.client) treat it as one.
    """

    code = "tls-key-failed"
    advice = "`birthmark-agent enroll` gets a certificate for a key that this TPM has"

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else self.code  # SSLError's own shows a tuple


class TpmError(AgentError):
    """The TPM, or the way to it, said no. rc: its response code (TPM 2.0 Library Part 2 §6.6), 0 without one."""

    code = "tpm-failed"
    advice = "look at it with tpm2_getcap properties-variable; a power cycle ends most of a TPM's troubles"

    def __init__(self, message: str, *, rc: int = 0) -> None:
        super().__init__(message)
        self.rc = rc


class TpmUnavailable(TpmError):
    """There is no TPM at that address, it is another's now, or it does not answer. Worth trying again."""

    code = "tpm-unavailable"
    advice = "check tpm.tcti, that the device node exists, and that the agent's user is in its group (tss)"


class TpmLockout(TpmError):
    """The TPM defends itself against guessing (dictionary-attack lockout). Our own keys work on; others' may not."""

    code = "tpm-lockout"
    advice = "wait for its recovery time, or reset with tpm2_dictionarylockout --clear-lockout"


class TpmFull(TpmError):
    """No slot or NV space is left."""

    code = "tpm-full"
    advice = "use the kernel's resource manager (/dev/tpmrm0), and remove unused NV indices with tpm2_nvundefine"


class TpmBusy(TpmError):
    """The TPM wants to be asked again later: it tests itself, or protects its NV memory from wear."""

    code = "tpm-busy"
    advice = "try again in a minute; the agent does so by itself"


class KeyNotOfThisTpm(TpmError):
    """The key file does not load: it was made by another TPM, or before a TPM2_Clear, or it is damaged."""

    code = "tpm-foreign-key"
    advice = "nothing: the agent gets a new operational key with its birth key"


class HierarchyOwned(TpmError):
    """The owner or endorsement hierarchy has a password that the agent does not know."""

    code = "tpm-owned"
    advice = "clear the hierarchy's password (tpm2_changeauth), or TPM2_Clear from the firmware's menu"


class StorageKeyUnsuitable(TpmError):
    """Someone else's key stands where the storage root key belongs, and it can't serve as one."""

    code = "tpm-storage-key"
    advice = "look at it with tpm2_readpublic -c 0x81000001; if nobody needs it, tpm2_evictcontrol removes it"
