"""The key that signs commands to devices, and trust bundles (birthmark_wire.rotation, .trust, .jws)."""

from datetime import datetime
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from birthmark_server.ca import oids
from birthmark_server.errors import Misconfigured
from birthmark_server.jobs import Job
from birthmark_wire import jws
from birthmark_wire.rotation import COMMAND_TYPE, Action, Command
from birthmark_wire.trust import TRUST_TYPE

_ALGORITHM: Final = ec.ECDSA(hashes.SHA256())


class CommandSigner:
    """Signs the commands of jobs. Thread-safe."""

    def __init__(self, *, key: ec.EllipticCurvePrivateKey, chain: tuple[x509.Certificate, ...]) -> None:
        """chain: the command certificate, then its CA's, without the root. Use `load`."""
        self._key = key
        self._chain = tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)
        self.not_after: datetime = chain[0].not_valid_after_utc

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """Read both (PEM). Raise Misconfigured unless they belong together and the certificate may command."""
        try:
            chain = tuple(x509.load_pem_x509_certificates(certificate.read_bytes()))
            private = load_pem_private_key(key.read_bytes(), None)
            purposes = chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (OSError, ValueError, TypeError, x509.ExtensionNotFound) as error:
            raise Misconfigured(f"can't use the command certificate {certificate}: {error}") from None
        if oids.KP_COMMAND not in purposes:
            raise Misconfigured(f"{certificate} is no command certificate: it lacks that key purpose")
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
            raise Misconfigured(f"{key}: want a P-256 key, as ES256 has it")
        if private.public_key() != chain[0].public_key():
            raise Misconfigured(f"{key} is not the key of {certificate}")
        return cls(key=private, chain=chain)

    def sign(self, job: Job) -> bytes:
        """Return the job's command, a JWS. The same job gives the same payload, whenever and wherever it is signed."""
        command = Command(
            action=Action.ROTATE,
            device_id=job.device_id,
            job_id=job.job_id,
            sequence=job.sequence,
            issued_at=job.created_at.replace(microsecond=0),
            expires_at=job.deadline.replace(microsecond=0),
        )
        return self._signed(command.encode(), COMMAND_TYPE)

    def sign_trust(self, bundle: bytes) -> bytes:
        """Return the JWS of a trust bundle's payload."""
        return self._signed(bundle, TRUST_TYPE)

    def _signed(self, payload: bytes, message_type: str) -> bytes:
        signed = jws.signing_input(payload, message_type=message_type, chain=self._chain)
        return jws.join(signed, self._key.sign(signed, _ALGORITHM))
