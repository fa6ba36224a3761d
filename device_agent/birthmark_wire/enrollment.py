"""The four messages of an enrollment, in the order in which they travel.

    POST /v1/enrollments                  EnrollRequest   -> Challenge
    POST /v1/enrollments/{id}/activation  ChallengeAnswer -> EnrollResult

All are JSON; octets are unpadded base64url. TPM structures are the marshalled TPMT/TPMS forms of the TPM 2.0 Library
Part 2, without a TPM2B size in front.
"""

from dataclasses import dataclass
from typing import Final

from birthmark_wire import PROTOCOL, ids
from birthmark_wire.encoding import JsonObject, b64, read_json, write_json
from birthmark_wire.errors import DecodeError

ENROLLMENTS_PATH: Final = "/v1/enrollments"
ACTIVATION_SUFFIX: Final = "/activation"
MAX_EK_CERTIFICATES: Final = 8
MAX_CHAIN_CERTIFICATES: Final = 16
MAX_CERTIFICATE_BYTES: Final = 4096
MAX_PUBLIC_BYTES: Final = 1024
SECRET_BYTES: Final = 32
NONCE_BYTES: Final = 32

JSON_MIME: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a station says of the device that it relays; worth nothing without the station's own certificate."""

    batch: str
    serial: str
    model: str


@dataclass(frozen=True, slots=True)
class EnrollRequest:
    """What a device shows first. ek_public may be absent where an EK certificate is present."""

    server_name: str
    ek_certificates: tuple[bytes, ...]
    ek_chain: tuple[bytes, ...]
    ek_public: bytes | None
    ak_public: bytes
    birth_key_public: bytes
    agent: str
    claim: Claim | None = None

    def encode(self) -> bytes:
        """Return the JSON body."""
        claim = self.claim and {"batch": self.claim.batch, "serial": self.claim.serial, "model": self.claim.model}
        return write_json(
            {
                "protocol": PROTOCOL,
                "server_name": self.server_name,
                "ek_certificates": [b64(der) for der in self.ek_certificates],
                "ek_chain": [b64(der) for der in self.ek_chain],
                "ek_public": None if self.ek_public is None else b64(self.ek_public),
                "ak_public": b64(self.ak_public),
                "birth_key_public": b64(self.birth_key_public),
                "agent": self.agent,
                "claim": claim,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "EnrollRequest":
        """Read the JSON body or raise DecodeError."""
        message = read_json(data)
        _check_protocol(message)
        claim = message.optional_member("claim")
        request = cls(
            server_name=message.text("server_name", max_chars=253),
            ek_certificates=message.octets_list(
                "ek_certificates", most=MAX_EK_CERTIFICATES, high=MAX_CERTIFICATE_BYTES
            ),
            ek_chain=message.octets_list("ek_chain", most=MAX_CHAIN_CERTIFICATES, high=MAX_CERTIFICATE_BYTES),
            ek_public=message.optional_octets("ek_public", high=MAX_PUBLIC_BYTES),
            ak_public=message.octets("ak_public", high=MAX_PUBLIC_BYTES),
            birth_key_public=message.octets("birth_key_public", high=MAX_PUBLIC_BYTES),
            agent=message.text("agent", max_chars=64),
            claim=None if claim is None else _read_claim(claim),
        )
        message.done()
        if not request.ek_certificates and request.ek_public is None:
            raise DecodeError("want an EK certificate or an EK public area, got neither", field="ek_public")
        return request


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the device must prove. credential_blob and encrypted_secret are without their 2-byte sizes."""

    enrollment_id: str
    nonce: bytes
    credential_blob: bytes
    encrypted_secret: bytes
    quote_pcrs: tuple[int, ...]
    device_id: str
    serial: str
    model: str
    batch: str
    expires_in_s: int

    def encode(self) -> bytes:
        """Return the JSON body."""
        return write_json(
            {
                "protocol": PROTOCOL,
                "enrollment_id": self.enrollment_id,
                "nonce": b64(self.nonce),
                "credential_blob": b64(self.credential_blob),
                "encrypted_secret": b64(self.encrypted_secret),
                "quote_pcrs": ",".join(str(pcr) for pcr in self.quote_pcrs),
                "device_id": self.device_id,
                "serial": self.serial,
                "model": self.model,
                "batch": self.batch,
                "expires_in_s": self.expires_in_s,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "Challenge":
        """Read the JSON body or raise DecodeError."""
        message = read_json(data)
        _check_protocol(message)
        batch = message.text("batch", max_chars=64)
        challenge = cls(
            enrollment_id=message.text("enrollment_id", max_chars=64),
            nonce=message.octets("nonce", low=NONCE_BYTES, high=NONCE_BYTES),
            credential_blob=message.octets("credential_blob", high=256),
            encrypted_secret=message.octets("encrypted_secret", high=1024),
            quote_pcrs=_read_pcrs(message.text("quote_pcrs")),
            device_id=ids.device_id(message.text("device_id")),
            serial=ids.printable_name(message.text("serial"), field="serial"),
            model=ids.printable_name(message.text("model"), field="model"),
            batch=batch and ids.printable_name(batch, field="batch"),
            expires_in_s=message.integer("expires_in_s", low=1, high=86_400),
        )
        message.done()
        return challenge


@dataclass(frozen=True, slots=True)
class Attestation:
    """One statement by the AK: a TPMS_ATTEST and the TPMT_SIGNATURE over it."""

    attest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class ChallengeAnswer:
    """The proof: the recovered secret, the CSR of the birth key, and the AK's statements about it."""

    secret: bytes
    csr: bytes
    certify: Attestation
    quote: Attestation | None = None

    def encode(self) -> bytes:
        """Return the JSON body."""
        return write_json(
            {
                "protocol": PROTOCOL,
                "secret": b64(self.secret),
                "csr": b64(self.csr),
                "certify": _write_attestation(self.certify),
                "quote": None if self.quote is None else _write_attestation(self.quote),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "ChallengeAnswer":
        """Read the JSON body or raise DecodeError."""
        message = read_json(data)
        _check_protocol(message)
        quote = message.optional_member("quote")
        answer = cls(
            secret=message.octets("secret", low=SECRET_BYTES, high=SECRET_BYTES),
            csr=message.octets("csr", high=4096),
            certify=_read_attestation(message.member("certify")),
            quote=None if quote is None else _read_attestation(quote),
        )
        message.done()
        return answer


@dataclass(frozen=True, slots=True)
class EnrollResult:
    """What the device was born with, and where to go next.

    chain: its birth certificate (IDevID) first, then the CAs up to, not including, the root. anchors: the roots.
    est_url: as `https://enroll.example:8443/.well-known/est`. broker: host and port.
    """

    device_id: str
    chain: tuple[bytes, ...]
    anchors: tuple[bytes, ...]
    trust_domain: str
    est_url: str
    broker_host: str
    broker_port: int

    def encode(self) -> bytes:
        """Return the JSON body."""
        return write_json(
            {
                "protocol": PROTOCOL,
                "device_id": self.device_id,
                "chain": [b64(der) for der in self.chain],
                "anchors": [b64(der) for der in self.anchors],
                "trust_domain": self.trust_domain,
                "est_url": self.est_url,
                "broker_host": self.broker_host,
                "broker_port": self.broker_port,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "EnrollResult":
        """Read the JSON body or raise DecodeError."""
        message = read_json(data)
        _check_protocol(message)
        result = cls(
            device_id=ids.device_id(message.text("device_id")),
            chain=message.octets_list("chain", most=8, high=MAX_CERTIFICATE_BYTES),
            anchors=message.octets_list("anchors", most=8, high=MAX_CERTIFICATE_BYTES),
            trust_domain=ids.trust_domain(message.text("trust_domain")),
            est_url=message.text("est_url", max_chars=512),
            broker_host=message.text("broker_host", max_chars=253),
            broker_port=message.integer("broker_port", low=1, high=65535),
        )
        message.done()
        if not result.chain:
            raise DecodeError("want at least the birth certificate, got an empty array", field="chain")
        return result


def _check_protocol(message: JsonObject) -> None:
    seen = message.text("protocol", max_chars=64)
    if seen != PROTOCOL:
        raise DecodeError(f"want {PROTOCOL!r}, got {seen!r}", field="protocol")


def _read_claim(claim: JsonObject) -> Claim:
    value = Claim(
        batch=ids.printable_name(claim.text("batch"), field="claim.batch"),
        serial=ids.printable_name(claim.text("serial"), field="claim.serial"),
        model=ids.printable_name(claim.text("model"), field="claim.model"),
    )
    claim.done()
    return value


def _write_attestation(value: Attestation) -> dict[str, str]:
    return {"attest": b64(value.attest), "signature": b64(value.signature)}


def _read_attestation(message: JsonObject) -> Attestation:
    value = Attestation(attest=message.octets("attest", high=2048), signature=message.octets("signature", high=1024))
    message.done()
    return value


def _read_pcrs(text: str) -> tuple[int, ...]:
    if not text:
        return ()
    parts = text.split(",")
    if len(parts) > 24 or not all(part.isascii() and part.isdecimal() and len(part) <= 2 for part in parts):
        raise DecodeError(f"want PCR numbers with commas between, got {text[:80]!r}", field="quote_pcrs")
    pcrs = tuple(int(part) for part in parts)
    if any(pcr > 23 for pcr in pcrs) or list(pcrs) != sorted(set(pcrs)):
        raise DecodeError(f"want rising PCR numbers, 0 to 23, got {text!r}", field="quote_pcrs")
    return pcrs
