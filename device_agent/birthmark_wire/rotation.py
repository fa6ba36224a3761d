"""Rotation over MQTT: what the server commands, and what a device says back.

    server                                          device
    down/cmd     Command, a JWS               ->    signer, device, expiry and sequence checked
                                              <-    up/ack     Ack: accepted, or refused and why
    down/nonce   JobNonce                     ->    a new key in the TPM, certified over nonce and job
                                              <-    up/csr     JobRequest
    down/cert    JobAnswer                    ->    into the spare slot; its own session taken over; made current
                                              <-    up/active  Active

A device says `failed` (Ack) at whatever step it fails, and keeps what it had. Messages may come twice, late, or for a
job that is over: each names its job, and each side answers the same to the same. A command counts for a device only if
its `sequence` is above the last one that it took, or if it is that very command again; it keeps that number on disk.
The broker alone can command nothing: the command is signed by a key whose certificate says that it may command, below
the root that the device pins. The other messages need no signature: a nonce that is not the server's makes evidence
that the server refuses, and a certificate is verified up to the pinned root and to the device's own new key.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from birthmark_wire import PROTOCOL, ids
from birthmark_wire.encoding import JsonObject, b64, read_json, write_json
from birthmark_wire.errors import DecodeError
from birthmark_wire.est import NONCE_BYTES
from birthmark_wire.time import read_time, write_time

COMMAND_TYPE: Final = "birthmark-command"
COMMAND_PURPOSE: Final = "1.2.840.113556.1.8000.2554.54930.25185.41001.16636.36913.12256681.987429.1.6"
"""kp-command: the key purpose of who may command devices, and of nobody else (docs/adr/0010)."""

MOST_SEQUENCE: Final = 2**53 - 1
MAX_CSR_BYTES: Final = 8192
MAX_CERTIFICATE_BYTES: Final = 8192

_JOB_ID = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_CODE = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_SERIAL = re.compile(r"[1-9a-f][0-9a-f]{0,39}", re.ASCII)


class Action(StrEnum):
    """What a device can be told to do."""

    ROTATE = "rotate"


class AckState(StrEnum):
    """How a device stands to a job. LATER: not now, but it will answer again; the others are final for this attempt."""

    ACCEPTED = "accepted"
    LATER = "later"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Command:
    """The payload of a command. sequence: rises with each new command to this device, 1 at least."""

    action: Action
    device_id: str
    job_id: str
    sequence: int
    issued_at: datetime
    expires_at: datetime

    def encode(self) -> bytes:
        """Return the JWS payload."""
        return write_json(
            {
                "protocol": PROTOCOL,
                "action": self.action.value,
                "device_id": self.device_id,
                "job_id": self.job_id,
                "sequence": self.sequence,
                "issued_at": write_time(self.issued_at),
                "expires_at": write_time(self.expires_at),
            }
        )

    @classmethod
    def decode(cls, payload: bytes) -> "Command":
        """Read the JWS payload or raise DecodeError."""
        message = _read(payload)
        action = message.text("action", max_chars=64)
        if action not in set(Action):
            raise DecodeError(f"want one of {', '.join(Action)}, got {action!r}", field="action")
        command = cls(
            action=Action(action),
            device_id=ids.device_id(message.text("device_id")),
            job_id=_job_id(message),
            sequence=message.integer("sequence", low=1, high=MOST_SEQUENCE),
            issued_at=read_time(message.text("issued_at"), field="issued_at"),
            expires_at=read_time(message.text("expires_at"), field="expires_at"),
        )
        message.done()
        return command


@dataclass(frozen=True, slots=True)
class Ack:
    """A device's word on a job. code, detail: why not; empty where it is accepted. retry_after_s: with LATER."""

    job_id: str
    state: AckState
    code: str = ""
    detail: str = ""
    retry_after_s: int = 0

    def encode(self) -> bytes:
        """Return the payload."""
        return write_json(
            {
                "protocol": PROTOCOL,
                "job_id": self.job_id,
                "state": self.state.value,
                "code": self.code,
                "detail": self.detail[:512],
                "retry_after_s": self.retry_after_s,
            }
        )

    @classmethod
    def decode(cls, payload: bytes) -> "Ack":
        """Read the payload or raise DecodeError."""
        message = _read(payload)
        state = message.text("state", max_chars=64)
        if state not in set(AckState):
            raise DecodeError(f"want one of {', '.join(AckState)}, got {state!r}", field="state")
        code = message.text("code", max_chars=64)
        ack = cls(
            job_id=_job_id(message),
            state=AckState(state),
            code=code and _matching(_CODE, code, field="code"),
            detail=message.text("detail", max_chars=512),
            retry_after_s=message.integer("retry_after_s", low=0, high=31_536_000),
        )
        message.done()
        return ack


@dataclass(frozen=True, slots=True)
class JobNonce:
    """A nonce for the evidence of one job. expires_in_s: seconds from now."""

    job_id: str
    nonce: bytes
    expires_in_s: int

    def encode(self) -> bytes:
        """Return the payload."""
        return write_json(
            {
                "protocol": PROTOCOL,
                "job_id": self.job_id,
                "nonce": b64(self.nonce),
                "expires_in_s": self.expires_in_s,
            }
        )

    @classmethod
    def decode(cls, payload: bytes) -> "JobNonce":
        """Read the payload or raise DecodeError."""
        message = _read(payload)
        nonce = cls(
            job_id=_job_id(message),
            nonce=message.octets("nonce", low=NONCE_BYTES, high=NONCE_BYTES),
            expires_in_s=message.integer("expires_in_s", low=1, high=86_400),
        )
        message.done()
        return nonce


@dataclass(frozen=True, slots=True)
class JobRequest:
    """The device's request for a new certificate. csr: PKCS #10, DER, with evidence over the job's nonce and id.

    serial: of the certificate that it holds now, lower-case hex: the evidence is bound to that one.
    """

    job_id: str
    serial: str
    csr: bytes

    def encode(self) -> bytes:
        """Return the payload."""
        return write_json(
            {"protocol": PROTOCOL, "job_id": self.job_id, "serial": self.serial, "csr": b64(self.csr)},
        )

    @classmethod
    def decode(cls, payload: bytes) -> "JobRequest":
        """Read the payload or raise DecodeError."""
        message = _read(payload)
        request = cls(job_id=_job_id(message), serial=_serial(message), csr=message.octets("csr", high=MAX_CSR_BYTES))
        message.done()
        return request


@dataclass(frozen=True, slots=True)
class JobAnswer:
    """What became of a JobRequest: a chain (DER, the device's certificate first, without the root), or a refusal.

    code, detail: why there is none. retry_after_s: where it is worth to ask again, with a new nonce; 0 where not.
    """

    job_id: str
    chain: tuple[bytes, ...] = ()
    code: str = ""
    detail: str = ""
    retry_after_s: int = 0

    def encode(self) -> bytes:
        """Return the payload."""
        return write_json(
            {
                "protocol": PROTOCOL,
                "job_id": self.job_id,
                "chain": [b64(der) for der in self.chain],
                "code": self.code,
                "detail": self.detail[:512],
                "retry_after_s": self.retry_after_s,
            }
        )

    @classmethod
    def decode(cls, payload: bytes) -> "JobAnswer":
        """Read the payload or raise DecodeError."""
        message = _read(payload)
        code = message.text("code", max_chars=64)
        answer = cls(
            job_id=_job_id(message),
            chain=message.octets_list("chain", most=8, high=MAX_CERTIFICATE_BYTES),
            code=code and _matching(_CODE, code, field="code"),
            detail=message.text("detail", max_chars=512),
            retry_after_s=message.integer("retry_after_s", low=0, high=31_536_000),
        )
        message.done()
        if bool(answer.chain) == bool(answer.code):
            raise DecodeError("want either a chain or the code of a refusal", field="chain")
        return answer


@dataclass(frozen=True, slots=True)
class Active:
    """A new certificate is in use and durably current. job_id: empty where the device renewed by itself."""

    serial: str
    job_id: str = ""

    def encode(self) -> bytes:
        """Return the payload."""
        return write_json({"protocol": PROTOCOL, "serial": self.serial, "job_id": self.job_id})

    @classmethod
    def decode(cls, payload: bytes) -> "Active":
        """Read the payload or raise DecodeError."""
        message = _read(payload)
        job_id = message.text("job_id", max_chars=64)
        active = cls(serial=_serial(message), job_id=job_id and _matching(_JOB_ID, job_id, field="job_id"))
        message.done()
        return active


@dataclass(frozen=True, slots=True)
class Hello:
    """What a device says at each connect. serial, not_after: of the certificate that it shows.

    job_id, sequence: the last command that it took, empty and 0 without one: the server then knows which to send again.
    """

    agent: str
    serial: str
    not_after: datetime
    job_id: str = ""
    sequence: int = 0

    def encode(self) -> bytes:
        """Return the payload."""
        return write_json(
            {
                "protocol": PROTOCOL,
                "agent": self.agent,
                "serial": self.serial,
                "not_after": write_time(self.not_after),
                "job_id": self.job_id,
                "sequence": self.sequence,
            }
        )

    @classmethod
    def decode(cls, payload: bytes) -> "Hello":
        """Read the payload or raise DecodeError."""
        message = _read(payload)
        job_id = message.text("job_id", max_chars=64)
        hello = cls(
            agent=message.text("agent", max_chars=64),
            serial=_serial(message),
            not_after=read_time(message.text("not_after"), field="not_after"),
            job_id=job_id and _matching(_JOB_ID, job_id, field="job_id"),
            sequence=message.integer("sequence", low=0, high=MOST_SEQUENCE),
        )
        message.done()
        return hello


def _read(payload: bytes) -> JsonObject:
    message = read_json(payload)
    seen = message.text("protocol", max_chars=64)
    if seen != PROTOCOL:
        raise DecodeError(f"want {PROTOCOL!r}, got {seen!r}", field="protocol")
    return message


def _job_id(message: JsonObject) -> str:
    return _matching(_JOB_ID, message.text("job_id", max_chars=64), field="job_id")


def _serial(message: JsonObject) -> str:
    return _matching(_SERIAL, message.text("serial", max_chars=64), field="serial")


def _matching(form: re.Pattern[str], text: str, *, field: str) -> str:
    if not form.fullmatch(text):
        raise DecodeError(f"want {form.pattern}, got {text[:80]!r}", field=field)
    return text
