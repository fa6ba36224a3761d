"""The heavy pieces of a job (cryptography, TPM), each done apart, and which of their failures may pass.

What they give is small and proven where it must be; what becomes of it is jobs.py's.
"""

from typing import Final

from birthmark_agent.apart import WorkLost, apart
from birthmark_agent.clock import ClockState
from birthmark_agent.command import Arrived, ClockNotSet, check_time, verify_signer
from birthmark_agent.errors import (
    AgentError,
    HierarchyOwned,
    StorageFailed,
    StorageKeyUnsuitable,
    TlsKeyFailed,
    TpmError,
    UnusableAnswer,
)
from birthmark_agent.homecoming import leads_elsewhere
from birthmark_agent.http import ServerSaidNo, TlsFailed, Unavailable, Unreachable
from birthmark_agent.identity import Identities
from birthmark_agent.mqtt import BrokerRefused, ConnectionLost
from birthmark_agent.slots import Identity

_MAY_PASS: Final = (
    TpmError,
    StorageFailed,
    WorkLost,
    Unreachable,
    Unavailable,
    ClockNotSet,
    BrokerRefused,
    ConnectionLost,
)
_WILL_NOT_PASS: Final = (HierarchyOwned, StorageKeyUnsuitable)


class ServerRefusedJob(AgentError):
    """The server gave no certificate. The code that a device reports is the server's own."""

    code = "job-refused"
    advice = "ask the operator: the server's own code and reason stand in the message"


class NotYet(AgentError):
    """The last attempt is too short a time ago, or the server asked to wait."""

    code = "too-soon"
    advice = "nothing: the agent goes on when the time has come; renewal.floor_s sets the least time between attempts"


def retry_after_s(error: AgentError) -> float:
    """Return what the server asked to wait, 0 where it did not."""
    return error.problem.retry_after_s if isinstance(error, ServerSaidNo) else 0.0


def may_pass(error: BaseException) -> bool:
    """Return whether the same step may go well later, though nobody changes anything."""
    if isinstance(error, TlsKeyFailed) and isinstance(error.__cause__, AgentError):
        return may_pass(error.__cause__)
    if isinstance(error, _WILL_NOT_PASS) or (isinstance(error, TlsFailed) and leads_elsewhere(error)):
        return False
    return isinstance(error, (*_MAY_PASS, TlsFailed))


def prove_command(identities: Identities, arrived: Arrived) -> None:
    """See that a command may be obeyed, now. Raise CommandRefused, ClockNotSet, WorkLost."""
    clock, anchors = identities.clock, identities.anchors_pem
    check_time(arrived.command, now=clock.floor())
    if clock.state() is not ClockState.SET:
        apart(lambda: verify_signer(arrived, anchors_pem=anchors, at=None))
        identities.try_to_learn_time()
        if clock.state() is not ClockState.SET:
            raise ClockNotSet("nobody vouches for the clock, and the server did not tell the time")
    now = clock.now()
    check_time(arrived.command, now=now)
    apart(lambda: verify_signer(arrived, anchors_pem=anchors, at=now))


def new_request(identities: Identities, in_use: Identity, *, nonce: bytes, job_id: str) -> tuple[bytes, bytes]:
    """Return a new key, TSS2 PRIVATE KEY, and the CSR for it, DER, with evidence over the nonce of a job.

    Raise TpmError, WorkLost.
    """

    def work() -> tuple[bytes, bytes]:
        from birthmark_agent.renewal import build_request, names_of

        with identities.open_tpm() as tpm:
            key_pem = tpm.create_operational_key()
            request, _spki = build_request(
                tpm,
                key_pem,
                nonce=nonce,
                device_id=in_use.device_id,
                client_certificate=in_use.chain[0],
                names=names_of(in_use.chain[0]),
                job_id=job_id,
            )
        return key_pem, request

    return apart(work)


def proven_identity(identities: Identities, in_use: Identity, *, chain: tuple[bytes, ...], key_pem: bytes) -> Identity:
    """Return the identity of a certificate that came: for our key, for this device, below a pinned root.

    Raise UnusableAnswer, WorkLost.
    """

    def work() -> tuple[bytes, ...]:
        from cryptography import x509

        from birthmark_agent.chain import verify_chain
        from birthmark_agent.tpm.signer import TpmSigner

        try:
            pool = [x509.load_der_x509_certificate(der) for der in (*chain, *in_use.chain[1:])]
        except ValueError as error:
            raise UnusableAnswer(f"a certificate can't be read: {error}") from None
        spki = TpmSigner.operational(identities.settings.tcti, key_pem).spki
        return verify_chain(pool, spki=spki, anchors=identities.anchors)

    identity = Identity.of(apart(work), key_pem)
    if identity.device_id != in_use.device_id:
        raise UnusableAnswer(f"the certificate is for {identity.device_id}, we are {in_use.device_id}")
    return identity
