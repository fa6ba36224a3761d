"""The device's TPM: the agent's way in.

    with Tpm.open("device:/dev/tpmrm0") as tpm, tpm.primary(AK) as ak, tpm.primary(BIRTH_KEY) as key:
        attest, signature = tpm.certify(key, ak, q)

Trusts the TPM to be one; proving that is the server's work. Rules:
- A bare TPM has three slots for transient keys: every key is a context manager; activation wants one for the EK.
- Nothing that is there already is replaced or removed, but our own NV indices.
- Open it for one piece of work and close it: so a TPM that was reset, or another program that wants it, is no event.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final

from birthmark_agent.errors import StorageKeyUnsuitable
from birthmark_agent.tpm import nv
from birthmark_agent.tpm.esapi import (
    ENDORSEMENT,
    OWNER,
    Esapi,
    Handle,
    parse_key_file,
    without_unique,
    write_key_file,
)
from birthmark_agent.tpm.health import Lockout, TpmHealth, read_health
from birthmark_agent.tpm.keys import TpmKey
from birthmark_wire import tpm_templates as templates

_TRANSIENT: Final = 0x80000000
_PERSISTENT: Final = 0x81000000
_LOADED_SESSIONS: Final = 0x02000000
_EK_HANDLES: Final = range(0x81010000, 0x81010100)

_EXCLUSIVE_TCTIS: Final = ("cmd", "device", "swtpm", "mssim")

_STORAGE_NEEDS: Final = (
    (templates.FIXED_TPM, "fixedTPM"),
    (templates.FIXED_PARENT, "fixedParent"),
    (templates.USER_WITH_AUTH, "userWithAuth"),
    (templates.NO_DA, "noDA"),
    (templates.RESTRICTED, "restricted"),
    (templates.DECRYPT, "decrypt"),
)

# The other branch of PolicyB_SHA384, which is PolicyOR(PolicyA, PolicyC): PolicyC_SHA384 is PolicyAuthorizeNV of the
# index 0x01C07F02 (TCG EK Credential Profile 2.5 annex B.6.3). PolicyA is what PolicySecret makes.
_POLICY_C_SHA384: Final = bytes.fromhex(
    "d6032ce61f2fb3c240eb3cf6a33237ef2b6a16f4293c22b455e261cffd217ad5b4947c2d73e63005eed2dc2b3593d165"
)
_EK_POLICIES: Final[dict[str, tuple[str, bytes | None]]] = {
    "rsa2048": ("sha256", None),
    "p256": ("sha256", None),
    "p384": ("sha384", _POLICY_C_SHA384),
}


class Tpm:
    """One connection to the TPM. Not thread-safe."""

    def __init__(self, esapi: Esapi) -> None:
        self._esapi = esapi

    @classmethod
    def open(cls, tcti: str) -> "Tpm":
        """Connect. tcti: as tpm2-tools take it. Raise TpmUnavailable.

        Where this client is the TPM's only one (a device node, an emulator, a board behind a command), keys and
        sessions that an earlier client left loaded when it was killed are flushed: on a bare TPM they would fill its
        three slots for ever.
        """
        esapi = Esapi(tcti)
        try:
            if tcti.partition(":")[0] in _EXCLUSIVE_TCTIS:
                for handle in (*esapi.handles(_TRANSIENT), *esapi.handles(_LOADED_SESSIONS)):
                    esapi.flush_left_over(handle)
        except BaseException:
            esapi.close()
            raise
        return cls(esapi)

    def __enter__(self) -> "Tpm":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; keys still open are lost."""
        self._esapi.close()

    # -- the endorsement key
    def endorsement_certificates(self) -> list[tuple[int, bytes]]:
        """Return (NV index, DER) of every EK certificate that the vendor put there."""
        return nv.read_endorsement_certificates(self._esapi)

    def endorsement_chain(self) -> tuple[bytes, ...]:
        """Return the vendor's intermediate certificates, DER, where the TPM carries them; empty otherwise."""
        return nv.read_endorsement_chain(self._esapi)

    def ek_public(self, template_name: str) -> bytes:
        """Return the TPMT_PUBLIC of an EK. template_name: a key of birthmark_wire.tpm_templates.EK_TEMPLATES.

        An RSA EK that is not persistent takes the TPM seconds to make again.
        """
        with ExitStack() as stack:
            _handle, public = self._endorsement_key(template_name, stack)
            return public

    def activate(self, template_name: str, ak: TpmKey, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        """Return the secret that the server encrypted to the EK for this AK (TPM2_ActivateCredential).

        Needs one free slot, and none if the EK is persistent. Raise TpmError if the credential is for another EK or AK.
        """
        hash_name, other_branch = _EK_POLICIES[template_name]
        with ExitStack() as stack:
            ek, _public = self._endorsement_key(template_name, stack)
            session = self._esapi.endorsement_session(ek, hash_name=hash_name, other_branch=other_branch)
            stack.callback(self._esapi.flush, session)
            return self._esapi.activate(ak.handle, ek, session, credential_blob, encrypted_secret)

    def _endorsement_key(self, template_name: str, stack: ExitStack) -> tuple[Handle, bytes]:
        template = templates.EK_TEMPLATES[template_name]
        wanted = without_unique(template)
        for index in self._esapi.handles(_PERSISTENT):
            if index in _EK_HANDLES:
                handle, public = self._esapi.persistent(index)
                stack.callback(self._esapi.forget, handle)
                if without_unique(public) == wanted:
                    return handle, public
        handle, public = self._esapi.create_primary(ENDORSEMENT, template)
        stack.callback(self._esapi.flush, handle)
        return handle, public

    # -- keys of ours
    def primary(self, template: bytes) -> TpmKey:
        """Return the endorsement-hierarchy primary of a template (AK, BIRTH_KEY): the same key every time."""
        handle, public = self._esapi.create_primary(ENDORSEMENT, template)
        return TpmKey(self._esapi, handle, public)

    def create_operational_key(self, template: bytes = templates.OPERATIONAL_KEY) -> bytes:
        """Make a new key under the storage root key; return it as TSS2 PRIVATE KEY, PEM. Only this TPM can load it."""
        with ExitStack() as stack:
            public, private = self._esapi.create(self._storage_key(stack), template)
        return write_key_file(templates.STORAGE_KEY_HANDLE, public, private)

    def load(self, pem: bytes) -> TpmKey:
        """Load a key that create_operational_key() made. Raise KeyNotOfThisTpm."""
        parent, public, private = parse_key_file(pem)
        if parent != templates.STORAGE_KEY_HANDLE:
            raise StorageKeyUnsuitable(
                f"want a key under 0x{templates.STORAGE_KEY_HANDLE:x}, got one under 0x{parent:x}"
            )
        with ExitStack() as stack:
            handle = self._esapi.load(self._storage_key(stack), public, private)
        return TpmKey(self._esapi, handle, public)

    def _storage_key(self, stack: ExitStack) -> Handle:
        """Return the storage root key, made if nothing stands in its place; what stands there is never replaced."""
        index = templates.STORAGE_KEY_HANDLE
        if index not in self._esapi.handles(_PERSISTENT):
            self._create_storage_key()
        handle, public = self._esapi.persistent(index)
        stack.callback(self._esapi.forget, handle)
        attributes = int.from_bytes(public[4:8], "big")
        missing = [name for bit, name in _STORAGE_NEEDS if not attributes & bit]
        if missing:
            raise StorageKeyUnsuitable(f"the key at 0x{index:x} lacks {', '.join(missing)}")
        return handle

    def _create_storage_key(self) -> None:
        handle, _public = self._esapi.create_primary(OWNER, templates.STORAGE_KEY)
        try:
            self._esapi.persist(handle, templates.STORAGE_KEY_HANDLE)
        finally:
            self._esapi.flush(handle)

    # -- statements by the AK
    def certify(self, key: TpmKey, ak: TpmKey, qualifying_data: bytes) -> tuple[bytes, bytes]:
        """Return TPMS_ATTEST and TPMT_SIGNATURE: `ak` says that `key` is in this TPM. qualifying_data: 0..34 bytes."""
        return self._esapi.certify(key.handle, ak.handle, qualifying_data)

    def quote(self, ak: TpmKey, pcrs: Sequence[int], qualifying_data: bytes) -> tuple[bytes, bytes]:
        """Return TPMS_ATTEST and TPMT_SIGNATURE over the SHA-256 bank of these PCRs."""
        return self._esapi.quote(ak.handle, tuple(pcrs), qualifying_data)

    # -- the birth certificate's copy in NV
    def read_birth_certificate(self) -> tuple[bytes, ...]:
        """Return the chain that write_birth_certificate() kept, the IDevID first; empty where there is none."""
        return nv.read_birth_chain(self._esapi)

    def write_birth_certificate(self, chain: Sequence[bytes]) -> None:
        """Keep the IDevID and its CAs, DER, at most four. Survives a new disk, not TPM2_Clear. Raise TpmFull."""
        nv.write_birth_chain(self._esapi, chain)

    # -- how it is
    def health(self) -> TpmHealth:
        """Say how the TPM is; works in lockout."""
        return read_health(self._esapi)

    def lockout(self) -> Lockout:
        """Say whether the TPM is in dictionary-attack lockout."""
        return self.health().lockout
