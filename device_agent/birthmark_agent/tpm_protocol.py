"""What the agent's flows need of a TPM, and nothing more: tpm.device.Tpm is one, a software fake in tests another.

A bare TPM holds three objects, so every key is a context manager, loaded for as long as it is used. Methods raise
errors.TpmError.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar


class DeviceKey(Protocol):
    """A P-256 signing key, loaded in the TPM."""

    @property
    def public(self) -> bytes:
        """Its TPMT_PUBLIC."""

    @property
    def name(self) -> bytes:
        """Its TPM Name: nameAlg and digest."""

    @property
    def spki(self) -> bytes:
        """Its SubjectPublicKeyInfo, DER."""

    def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
        """Return the DER ECDSA-Sig-Value over a digest made by the hash of that name ("sha256")."""


KeyT = TypeVar("KeyT", bound=DeviceKey)


class DeviceTpm(Protocol[KeyT]):
    """An open connection to the TPM. KeyT: its own kind of key, given out and taken back."""

    def endorsement_certificates(self) -> list[tuple[int, bytes]]:
        """Return (NV index, DER) of every EK certificate found."""

    def endorsement_chain(self) -> Sequence[bytes]:
        """Return the CA certificates that the vendor left in NV, DER."""

    def ek_public(self, template_name: str) -> bytes:
        """Return the EK's TPMT_PUBLIC. template_name: a key of birthmark_wire.tpm_templates.EK_TEMPLATES."""

    def primary(self, template: bytes) -> AbstractContextManager[KeyT]:
        """Make the endorsement-hierarchy key of a fixed template: the same key every time."""

    def activate(self, template_name: str, ak: KeyT, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        """TPM2_ActivateCredential: return the secret."""

    def certify(self, key: KeyT, ak: KeyT, qualifying_data: bytes) -> tuple[bytes, bytes]:
        """TPM2_Certify of `key` by `ak`: return TPMS_ATTEST and TPMT_SIGNATURE."""

    def quote(self, ak: KeyT, pcrs: Sequence[int], qualifying_data: bytes) -> tuple[bytes, bytes]:
        """TPM2_Quote over the SHA-256 bank: return TPMS_ATTEST and TPMT_SIGNATURE."""

    def create_operational_key(self) -> bytes:
        """Make a new key under the storage root key: return it as `TSS2 PRIVATE KEY` PEM."""

    def load(self, pem: bytes) -> AbstractContextManager[KeyT]:
        """Load an operational key; raise errors.KeyNotOfThisTpm if it is another TPM's."""

    def read_birth_certificate(self) -> tuple[bytes, ...]:
        """Return the birth certificate and its CAs from NV, DER; empty where there is none."""

    def write_birth_certificate(self, chain: Sequence[bytes]) -> None:
        """Keep the birth certificate and its CAs in NV."""
