"""A device that obeys commands, without a socket: messages in, messages out. Its TPM is in software.

It checks what an agent checks of a command's signature, and keeps two identities: the one in use, and the one that it
was issued and has yet to take over its session with.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_server.ca import oids
from birthmark_wire import jws
from birthmark_wire.rotation import (
    COMMAND_TYPE,
    Ack,
    AckState,
    Active,
    Command,
    Hello,
    JobAnswer,
    JobNonce,
    JobRequest,
)
from birthmark_wire.trust import TRUST_TYPE, TrustAck, TrustBundle
from support.server import Identity
from support.software_tpm import SoftwareKey, SoftwareTpm

Said = list[tuple[str, bytes]]
"""Leaves and payloads, as the device publishes them."""


@dataclass
class RotatingDevice:
    """answer: what it says to a command. Everything that it was told is kept."""

    device_id: str
    tpm: SoftwareTpm
    identity: Identity
    infra_ca: x509.Certificate
    answer: Callable[[Command], Ack] = field(default=lambda command: Ack(command.job_id, AckState.ACCEPTED))
    spare: Identity | None = None
    commands: list[Command] = field(default_factory=list)
    nonces: list[JobNonce] = field(default_factory=list)
    answers: list[JobAnswer] = field(default_factory=list)
    job_id: str = ""
    sequence: int = 0
    key: SoftwareKey | None = None
    bundle: TrustBundle | None = None
    trust_code: str = ""
    """Why it takes no trust bundle; empty: it takes them."""
    done: str = ""
    """The last job whose certificate is in use: whoever asks about that one again hears so again."""

    @property
    def serial(self) -> str:
        """Of the certificate in use."""
        return serial_of(self.identity)

    def take(self, leaf: str, payload: bytes) -> Said:
        """Hear one message; return what it says to it."""
        match leaf:
            case "cmd":
                return self.obey(self.read_command(payload))
            case "nonce":
                return self.request(JobNonce.decode(payload))
            case "cert":
                answer = JobAnswer.decode(payload)
                if answer.job_id == self.done:
                    return self.active()
                self.receive(answer)
            case "trust":
                return self.take_bundle(payload)
        return []

    def take_bundle(self, payload: bytes) -> Said:
        """Take a trust bundle whose signer holds, unless it is stale or the test says no. What an agent checks of its
        roots is tested with the agent."""
        bundle = TrustBundle.decode(self._read_signed(payload, TRUST_TYPE))
        held = self.bundle.version if self.bundle else 0
        if self.trust_code:
            return [("trust", TrustAck(held, self.trust_code, "the test says no").encode())]
        if bundle.version < held:
            return [("trust", TrustAck(held, "trust-stale").encode())]
        self.bundle = bundle
        return [("trust", TrustAck(bundle.version).encode())]

    def read_command(self, payload: bytes) -> Command:
        """Read a command whose signature and signer hold."""
        command = Command.decode(self._read_signed(payload, COMMAND_TYPE))
        assert command.device_id == self.device_id
        return command

    def _read_signed(self, payload: bytes, message_type: str) -> bytes:
        message = jws.decode(payload, message_type=message_type)
        leaf, *above = [x509.load_der_x509_certificate(der) for der in message.chain]
        key = leaf.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(message.signature, message.signed, ec.ECDSA(hashes.SHA256()))
        assert above == [self.infra_ca]
        leaf.verify_directly_issued_by(self.infra_ca)
        assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [oids.KP_COMMAND]
        return message.payload

    def obey(self, command: Command) -> Said:
        """Accept, unless it is stale."""
        self.commands.append(command)
        if command.sequence < self.sequence:
            return [("ack", Ack(command.job_id, AckState.REFUSED, code="stale").encode())]
        self.job_id, self.sequence = command.job_id, command.sequence
        if command.job_id == self.done:
            return self.active()
        return [("ack", self.answer(command).encode())]

    def request(self, nonce: JobNonce) -> Said:
        """Make a key and ask for its certificate."""
        self.nonces.append(nonce)
        self.key = self.tpm.new_operational_key()
        csr = self.csr(self.key, nonce)
        return [("csr", JobRequest(nonce.job_id, self.serial, csr).encode())]

    def csr(self, key: SoftwareKey, nonce: JobNonce, *, job_id: str | None = None) -> bytes:
        """A CSR with evidence over nonce and job."""
        return self.tpm.renewal_csr(
            key,
            self.identity.names,
            nonce=nonce.nonce,
            device_id=self.device_id,
            client_certificate=self.identity.der,
            job_id=nonce.job_id if job_id is None else job_id,
        )

    def receive(self, answer: JobAnswer) -> None:
        """Keep the new certificate in the spare slot, unless it is for a key that a later nonce has replaced."""
        self.answers.append(answer)
        if answer.chain:
            assert self.key is not None
            identity = Identity(answer.chain, self.key.private)
            if identity.certificate.public_key() == self.key.private.public_key():
                self.spare = identity

    def switch(self) -> Said:
        """Use the new certificate, and say so."""
        assert self.spare is not None
        self.identity, self.spare, self.done = self.spare, None, self.job_id
        return self.active()

    def active(self) -> Said:
        """What it says when the new certificate is current."""
        return [("active", Active(self.serial, self.job_id).encode())]

    def hello(self) -> Said:
        """What it says at each connect."""
        shown = self.spare or self.identity
        return [
            (
                "hello",
                Hello(
                    agent="test/1",
                    serial=serial_of(shown),
                    not_after=shown.certificate.not_valid_after_utc.astimezone(UTC),
                    job_id=self.job_id,
                    sequence=self.sequence,
                ).encode(),
            )
        ]


def serial_of(identity: Identity) -> str:
    """The certificate's serial number, as the wire has it."""
    return f"{identity.certificate.serial_number:x}"


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)
