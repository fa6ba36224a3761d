"""A key that lives in the TPM, loaded: a context manager, for a bare TPM has three slots in all."""

import hashlib
from types import TracebackType
from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from birthmark_agent.tpm.esapi import Esapi, Handle, spki_of

_NAME_ALGORITHMS: Final = {0x000B: "sha256", 0x000C: "sha384"}


def key_name(public: bytes) -> bytes:
    """Return the TPM Name of a TPMT_PUBLIC: nameAlg (2 bytes) and digest (TPM 2.0 Library Part 1 §16)."""
    algorithm = _NAME_ALGORITHMS[int.from_bytes(public[2:4], "big")]
    return public[2:4] + hashlib.new(algorithm, public).digest()


class TpmKey:
    """One loaded key. public: its TPMT_PUBLIC, as the TPM marshals it."""

    def __init__(self, esapi: Esapi, handle: Handle, public: bytes) -> None:
        self._esapi = esapi
        self._open = True
        self.handle = handle
        self.public = public

    def __enter__(self) -> "TpmKey":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the slot back. Closing twice is fine."""
        if self._open:
            self._open = False
            self._esapi.flush(self.handle)

    @property
    def name(self) -> bytes:
        """Its TPM Name: 34 bytes for SHA-256."""
        return key_name(self.public)

    @property
    def spki(self) -> bytes:
        """Its SubjectPublicKeyInfo, DER."""
        return spki_of(self.public)

    def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
        """Return a DER ECDSA-Sig-Value over a digest made by "sha256" or "sha384". One TPM2_Sign."""
        return encode_dss_signature(*self._esapi.sign(self.handle, digest, hash_name))
