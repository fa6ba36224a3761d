"""A TPM key that is loaded only while it signs: what a long-lived TLS context holds.

A connection that lives for months signs once at its start. Holding the TPM open all that time would keep others from a
bare one, and end with the first suspend, reset or restart of a resource manager. Opening, loading and closing cost 5 ms
on an emulator, against one signature.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property

from birthmark_agent.tpm.device import Tpm
from birthmark_agent.tpm.esapi import parse_key_file, spki_of
from birthmark_agent.tpm.keys import TpmKey
from birthmark_wire.tpm_templates import BIRTH_KEY


class TpmSigner:
    """Signs with one key of the TPM at `tcti`; load: how the key is found there, once for each signature."""

    def __init__(self, tcti: str, load: Callable[[Tpm], AbstractContextManager[TpmKey]], *, spki: bytes = b"") -> None:
        self._tcti = tcti
        self._load = load
        self._known_spki = spki

    @classmethod
    def operational(cls, tcti: str, key_pem: bytes) -> "TpmSigner":
        """Return the signer of an operational key. Raise KeyNotOfThisTpm if key_pem is no key file."""
        _parent, public, _private = parse_key_file(key_pem)
        return cls(tcti, lambda tpm: tpm.load(key_pem), spki=spki_of(public))

    @classmethod
    def birth(cls, tcti: str) -> "TpmSigner":
        """Return the signer of the birth key."""
        return cls(tcti, lambda tpm: tpm.primary(BIRTH_KEY))

    @cached_property
    def spki(self) -> bytes:
        """Its SubjectPublicKeyInfo, DER; asks the TPM once where it is not known."""
        if self._known_spki:
            return self._known_spki
        with Tpm.open(self._tcti) as tpm, self._load(tpm) as key:
            return key.spki

    def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
        """Open the TPM, load the key, sign, close. Raise TpmError."""
        with Tpm.open(self._tcti) as tpm, self._load(tpm) as key:
            return key.sign_digest(digest, hash_name)
