"""What a birth leaves, and how it can fail.

The record says who this device is and where it belongs; it is on disk, and in the TPM's NV. It proves nothing by
itself: the server judges the birth certificate at each use, enrollment.verify_birth_chain what came out of NV.
"""

import ssl
from dataclasses import dataclass

from birthmark_agent.certificate import CERTIFICATE, read_certificate
from birthmark_agent.errors import AgentError, IdentityDamaged
from birthmark_wire import ids
from birthmark_wire.encoding import JsonObject, read_json, write_json
from birthmark_wire.errors import DecodeError


class BadChallenge(AgentError):
    """The server's challenge or its result can't be used: malformed, or meant for another device."""

    code = "bad-challenge"
    advice = "check server.url: this is not the server that the request was meant for, or it is damaged"


class NoEndorsement(AgentError):
    """The TPM has no EK certificate, and the settings name no EK to show in its place."""

    code = "no-endorsement"
    advice = "set tpm.ek_template to the EK that the manifest lists: rsa2048, p256 or p384"


@dataclass(frozen=True, slots=True)
class BirthRecord:
    """What a device was born with. chain: the IDevID first, then CAs without the root, DER. est_url: without a slash
    at its end."""

    device_id: str
    trust_domain: str
    chain: tuple[bytes, ...]
    est_url: str
    broker_host: str
    broker_port: int

    def encode(self) -> bytes:
        """Return the JSON that is kept on disk; certificates as PEM, so that a person can read them with openssl."""
        chain = "".join(ssl.DER_cert_to_PEM_cert(der) for der in self.chain)
        return write_json({**self._members(), "chain": chain})

    @classmethod
    def decode(cls, data: bytes) -> "BirthRecord":
        """Read what encode() wrote or raise IdentityDamaged."""
        try:
            message = read_json(data)
            pem = message.text("chain", max_chars=65_536)
            chain = tuple(ssl.PEM_cert_to_DER_cert(one) for one in CERTIFICATE.findall(pem))
            for der in chain:
                read_certificate(der)
            return cls._read(message, chain)
        except (DecodeError, ValueError) as error:
            raise IdentityDamaged(f"birth record: {error}") from None

    def to_nv(self) -> tuple[bytes, ...]:
        """Return what is kept in the TPM's NV: the chain, and after it all else as JSON, so that a device that lost its
        disk knows its id and where to go (the certificate alone says neither)."""
        return (*self.chain, write_json(self._members()))

    @classmethod
    def from_nv(cls, items: tuple[bytes, ...]) -> "BirthRecord":
        """Read what to_nv() gave or raise IdentityDamaged. Proves nothing: see verify_birth_chain."""
        try:
            return cls._read(read_json(items[-1]), items[:-1])
        except (DecodeError, IndexError) as error:
            raise IdentityDamaged(f"birth record in NV: {error}") from None

    def _members(self) -> dict[str, object]:
        return {
            "device_id": self.device_id,
            "trust_domain": self.trust_domain,
            "est_url": self.est_url,
            "broker_host": self.broker_host,
            "broker_port": self.broker_port,
        }

    @classmethod
    def _read(cls, message: JsonObject, chain: tuple[bytes, ...]) -> "BirthRecord":
        record = cls(
            device_id=ids.device_id(message.text("device_id")),
            trust_domain=ids.trust_domain(message.text("trust_domain")),
            est_url=message.text("est_url", max_chars=512),
            broker_host=message.text("broker_host"),
            broker_port=message.integer("broker_port", low=1, high=65_535),
            chain=chain,
        )
        message.done()
        if not chain:
            raise DecodeError("want at least the birth certificate", field="chain")
        return record
