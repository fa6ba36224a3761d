"""The server's side of rotations over MQTT, scripted: BrokerLink, the Fleet CA and verify_new_key, without a database.

    with RotationPeer.running(site) as peer:
        job = peer.order(device)                  # a signed command on down/cmd
        peer.wait_for(device, "active")

Answers as the protocol says; a test changes what it does: `silent_about` leaves are not answered, `refusals` are given
in place of certificates. Everything that was heard is in `heard`, in its order.
"""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.attestation.csr import verify_csr
from birthmark_server.attestation.verify import verify_new_key
from birthmark_server.broker.link import BrokerLink, control_context
from birthmark_server.ca.issuer import to_der
from birthmark_server.ca.record import to_record
from birthmark_server.ca.requests import LDevIdRequest
from birthmark_server.domain import CertificateProfile, CertificateRecord
from birthmark_server.store.protocol import Issuance
from birthmark_wire import jws, topics
from birthmark_wire.rotation import (
    COMMAND_TYPE,
    Ack,
    AckState,
    Action,
    Active,
    Command,
    Hello,
    JobAnswer,
    JobNonce,
    JobRequest,
)
from birthmark_wire.trust import TrustAck
from support.agent_site import AgentSite, Device
from support.pki import Leaf

Message = Ack | JobRequest | Active | Hello | TrustAck
READ: dict[str, Callable[[bytes], Message]] = {
    "ack": Ack.decode,
    "csr": JobRequest.decode,
    "active": Active.decode,
    "hello": Hello.decode,
    "trust": TrustAck.decode,
}


def sign(command: Command, signer: Leaf) -> bytes:
    """Return the JWS of a command."""
    chain = tuple(to_der(one) for one in x509.load_pem_x509_certificates(signer.chain_pem))
    signed = jws.signing_input(command.encode(), message_type=COMMAND_TYPE, chain=chain)
    return jws.join(signed, signer.key.sign(signed, ec.ECDSA(hashes.SHA256())))


class _Ear(BrokerLink):
    """Hears everything: the enrollment server, which shares the server's subscription, must not take half of it."""

    def _connected(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        with patch.object(topics, "SERVER_SUBSCRIPTION", "devices/+/up/+"):
            super()._connected(client, data, flags, code, properties)


@dataclass
class RotationPeer:
    """See the module's docstring. jobs: the JWS of each job, sent again at each hello until it is over."""

    site: AgentSite
    signer: Leaf
    link: BrokerLink = field(init=False)
    heard: list[tuple[str, str, Message]] = field(default_factory=list)
    jobs: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    refusals: list[JobAnswer] = field(default_factory=list)
    silent_about: set[str] = field(default_factory=set)
    failures: list[BaseException] = field(default_factory=list)
    _sequence: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _nonces: dict[str, bytes] = field(default_factory=dict)
    _answers: dict[tuple[str, bytes], JobAnswer] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @classmethod
    @contextmanager
    def running(cls, site: AgentSite) -> "Iterator[RotationPeer]":
        """Connect to the site's broker."""
        peer = cls(site, site.installation.pki.infra(CertificateProfile.COMMAND, "srv-command"))
        name = f"srv-peer-{time.monotonic_ns()}"
        certificate, key = site.installation.pki.infra(CertificateProfile.CONTROL, name).write(site.folder, name)
        context = control_context(
            anchors=site.installation.pki.root_pem.read_bytes,
            certificate=certificate,
            key=key,
            server_name="localhost",
        )
        peer.link = _Ear(
            host="localhost", port=site.broker.port, client_id=name, context=context, on_message=peer._received
        )
        peer.link.start()
        try:
            assert peer.link.wait_live(10)
            yield peer
        finally:
            peer.link.stop()
        assert not peer.failures, peer.failures

    # -- what a test does

    def command(self, device: Device, **changes: Any) -> Command:
        """Return the next command to a device."""
        self._sequence[device.device_id] += 1
        at = datetime.now(UTC).replace(microsecond=0)
        members: dict[str, Any] = {
            "action": Action.ROTATE,
            "device_id": device.device_id,
            "job_id": os.urandom(8).hex(),
            "sequence": self._sequence[device.device_id],
            "issued_at": at,
            "expires_at": at + timedelta(hours=1),
        }
        return Command(**(members | changes))

    def order(self, device: Device, *, command: Command | None = None) -> str:
        """Command a rotation; return the job id."""
        command = command or self.command(device)
        payload = sign(command, self.signer)
        self.jobs[command.job_id] = (device.device_id, payload)
        self.send(device, "cmd", payload)
        return command.job_id

    def send(self, device: Device, leaf: str, payload: bytes) -> None:
        """Publish anything at all to a device."""
        self.link.publish(topics.down(device.device_id, leaf), payload)

    def wait_for(
        self, device: Device, leaf: str, *, timeout_s: float = 30, where: Callable[[Message], bool] = lambda _: True
    ) -> Message:
        """Return the first message of that leaf for which `where` holds, once it is there."""

        def found() -> Message | None:
            said = (message for who, what, message in self.heard if (who, what) == (device.device_id, leaf))
            return next((message for message in said if where(message)), None)

        with self._changed:
            there = self._changed.wait_for(found, timeout_s)
        assert there, f"no {leaf} of {device.device_id}; heard {self.heard}"
        message = found()
        assert message is not None
        return message

    def wait_ack(self, device: Device, job_id: str, state: AckState, *, timeout_s: float = 30) -> Ack:
        """Return the device's first word of that state on a job."""
        message = self.wait_for(
            device,
            "ack",
            timeout_s=timeout_s,
            where=lambda m: isinstance(m, Ack) and (m.job_id, m.state) == (job_id, state),
        )
        assert isinstance(message, Ack)
        return message

    def wait_active(self, device: Device, job_id: str, *, timeout_s: float = 30) -> Active:
        """Return the device's word that the job is done."""
        message = self.wait_for(
            device, "active", timeout_s=timeout_s, where=lambda m: isinstance(m, Active) and m.job_id == job_id
        )
        assert isinstance(message, Active)
        return message

    def trust_ack(self, device: Device, payload: bytes, *, timeout_s: float = 30) -> TrustAck:
        """Push a trust bundle, and return the device's answer to it."""
        before = len(self.said(device, "trust"))
        self.send(device, "trust", payload)
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.said(device, "trust")) > before, timeout_s), self.heard
        answer = self.said(device, "trust")[before]
        assert isinstance(answer, TrustAck)
        return answer

    def said(self, device: Device, leaf: str) -> list[Message]:
        """Return everything of that leaf so far."""
        return [message for who, what, message in self.heard if (who, what) == (device.device_id, leaf)]

    def answer(self, device: Device, message: Message) -> None:
        """Answer what was not answered."""
        self._answer(device.device_id, message)

    def certify(self, device: Device, request: JobRequest) -> JobAnswer:
        """Issue, and tell nobody."""
        return self._certify(device.device_id, request)

    # -- what it does by itself

    def _received(self, device_id: str, leaf: str, payload: bytes, at: datetime) -> None:
        if leaf not in READ:
            return
        try:
            message = READ[leaf](payload)
            with self._changed:
                self.heard.append((device_id, leaf, message))
                self._changed.notify_all()
            if leaf not in self.silent_about:
                self._answer(device_id, message)
        except BaseException as error:
            self.failures.append(error)
            raise

    def _answer(self, device_id: str, message: Message) -> None:
        match message:
            case Hello():
                for job_id, (device, payload) in self.jobs.items():
                    if device == device_id and job_id not in self.over:
                        self.link.publish(topics.down(device_id, "cmd"), payload)
            case Ack(state=AckState.ACCEPTED) if message.job_id in self.jobs:
                nonce = self._nonces[message.job_id] = os.urandom(32)
                self.link.publish(topics.down(device_id, "nonce"), JobNonce(message.job_id, nonce, 300).encode())
            case Ack(state=AckState.FAILED | AckState.REFUSED):
                self.over.add(message.job_id)
            case JobRequest():
                self.link.publish(topics.down(device_id, "cert"), self._certify(device_id, message).encode())
            case Active():
                self.over.add(message.job_id)

    def _certify(self, device_id: str, request: JobRequest) -> JobAnswer:
        if self.refusals:
            return self.refusals.pop(0)
        csr = verify_csr(request.csr)
        kept = self._answers.get((request.job_id, request.csr))
        if kept is not None:
            return kept  # the same request again: the same certificate; another for that key is refused by the store
        store, fleet = self.site.installation.store, self.site.installation.pki.authority.fleet
        device, presented = store.get_device(device_id), self._presented(device_id, request.serial)
        verified = verify_new_key(
            csr,
            ak_public=device.ak_public,
            nonce=self._nonces[request.job_id],
            device_id=device_id,
            client_certificate=presented.der,
            job_id=request.job_id,
        )
        now = datetime.now(UTC).replace(microsecond=0)
        token = fleet.prepare(
            LDevIdRequest(public_key=verified.key, device_id=device_id, tpm_backed=True), now=now, lifetime=None
        )
        certificate = fleet.issue(token)
        record = to_record(certificate, issuer=fleet, profile=token.profile, device_id=device_id, issued_at=now)
        store.commit_issuance(Issuance(device_id, device.epoch, record, None, verified.evidence, now))
        chain = tuple(one.public_bytes(Encoding.DER) for one in (certificate, fleet.certificate))
        answer = self._answers[request.job_id, request.csr] = JobAnswer(request.job_id, chain)
        return answer

    def _presented(self, device_id: str, serial: str) -> CertificateRecord:
        records = self.site.installation.store.device_certificates(device_id)
        return next(record for record in records if int(record.serial_number, 16) == int(serial, 16))
