"""The last command that this device took, and how far its job is: one file, written whole before anything is done.

    taken -> done       the new certificate is current; `up/active` is said until the broker has it
          -> failed     what the device had goes on working; `up/ack` says why, until the broker has it

The key of a job, wrapped by the TPM, and the request for it are kept here before the request is sent: a certificate
that comes after a restart still finds its key, and who asks again asks with the very same bytes, for which the server
has the very same answer. Where a certificate is, the slots say: whoever was killed finds the job's key in the spare
slot, or in the current one.
"""

import base64
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from birthmark_agent import log
from birthmark_agent.command import Arrived, Taken
from birthmark_agent.errors import IdentityDamaged
from birthmark_agent.files import Files
from birthmark_wire.time import read_time, write_time

JOB_FILE: Final = "job"


class JobState(StrEnum):
    """See the module's docstring."""

    TAKEN = "taken"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """One job. digest: of the command's payload. key_pem: `TSS2 PRIVATE KEY`; request: the CSR for it in base64; both
    empty before a nonce came. presented: serial of the certificate that the request's evidence is bound to. serial: of
    the new one, when DONE; code, detail: why it FAILED. reported: the broker has our last word."""

    device_id: str
    job_id: str
    sequence: int
    digest: str
    expires_at: datetime
    state: JobState = JobState.TAKEN
    key_pem: str = ""
    request: str = ""
    presented: str = ""
    serial: str = ""
    code: str = ""
    detail: str = ""
    reported: bool = False

    @classmethod
    def of(cls, arrived: Arrived) -> "Job":
        """Return the job of a command that is to be obeyed."""
        command = arrived.command
        return cls(command.device_id, command.job_id, command.sequence, arrived.digest, command.expires_at)

    @property
    def open(self) -> bool:
        """Whether there is something to do."""
        return self.state is JobState.TAKEN

    @property
    def taken(self) -> Taken:
        """What the next command is compared with."""
        return Taken(self.job_id, self.sequence, self.digest)

    def with_request(self, *, key_pem: bytes, request: bytes, presented: str) -> "Job":
        """Return it with a key and the request for that key."""
        text = base64.b64encode(request).decode()
        return replace(self, key_pem=key_pem.decode(), request=text, presented=presented)

    def without_request(self) -> "Job":
        """Return it without key and request: the next nonce gets new ones."""
        return replace(self, key_pem="", request="", presented="")

    def encode(self) -> bytes:
        """Return the file."""
        members = asdict(self) | {"state": self.state.value, "expires_at": write_time(self.expires_at)}
        return json.dumps(members).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Job":
        """Read what encode() wrote. Raise IdentityDamaged."""
        try:
            members = json.loads(data)
            times = {"state": JobState(members["state"]), "expires_at": read_time(members["expires_at"])}
            return cls(**(members | times))
        except (ValueError, TypeError, KeyError) as error:
            raise IdentityDamaged(f"the last command's record can't be read: {error}") from None


def read_job(files: Files, device_id: str) -> Job | None:
    """Return the job on disk; None where there is none, or another device's. Raise StorageFailed.

    One that can't be read is none too: then a command might be obeyed twice, which costs a certificate.
    """
    data = files.read(JOB_FILE)
    try:
        job = None if data is None else Job.decode(data)
    except IdentityDamaged as error:
        log.failed("job-record-damaged", error)
        return None
    return job if job is not None and job.device_id == device_id else None


def write_job(files: Files, job: Job) -> None:
    """Keep it, durably. Raise StorageFailed."""
    files.write(JOB_FILE, job.encode())
