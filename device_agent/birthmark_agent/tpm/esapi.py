"""The one thin, typed module over tpm2-pytss (which has no py.typed). Bytes in, bytes out; no policy, no choices.

Rules:
- libtss2 writes to stderr by itself; TSS2_LOG silences it, and must be set before libtss2 is loaded.
- tpm2-pytss's nested structures do not keep their parent alive: reading an inner one after the outer is gone reads
  freed memory (seen: a segmentation fault). So every outer object has a local name until the last read of it.
- Whatever libtss2 answers becomes one of `errors` (codes.py).
- Not thread-safe, as ESYS_CONTEXT is not.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NewType

os.environ.setdefault("TSS2_LOG", "all+NONE")

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_SE,
    TPM2B_DATA,
    TPM2B_DIGEST,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_NV_PUBLIC,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_SESSION,
    TPML_DIGEST,
    TPML_PCR_SELECTION,
    TPMS_NV_PUBLIC,
    TPMS_SCHEME_HASH,
    TPMT_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
    TPMU_SIG_SCHEME,
    TSS2_Exception,
)
from tpm2_pytss.tsskey import TSSPrivKey

from birthmark_agent.errors import KeyNotOfThisTpm, TpmUnavailable
from birthmark_agent.tpm.codes import to_error

Handle = NewType("Handle", int)
"""An ESYS_TR: good for the connection that gave it."""

OWNER: Final = Handle(ESYS_TR.RH_OWNER)
ENDORSEMENT: Final = Handle(ESYS_TR.RH_ENDORSEMENT)

_HASHES: Final = {"sha256": TPM2_ALG.SHA256, "sha384": TPM2_ALG.SHA384}
_FLUSH_CONTEXT: Final = bytes.fromhex("80010000000e00000165")  # TPM_ST_NO_SESSIONS, 14 bytes, TPM_CC_FlushContext


@contextmanager
def _command(name: str) -> Iterator[None]:
    try:
        yield
    except TSS2_Exception as error:
        raise to_error(name, int(error.rc), str(error)) from None


def parse_key_file(pem: bytes) -> tuple[int, bytes, bytes]:
    """Return parent handle, TPMT_PUBLIC and TPM2B_PRIVATE of a TSS2 PRIVATE KEY, PEM. Raise KeyNotOfThisTpm."""
    try:
        key = TSSPrivKey.from_pem(pem)
        public, private = key.public, key.private
        return int(key.parent), bytes(public.publicArea.marshal()), bytes(private.marshal())
    except (ValueError, TypeError, TSS2_Exception) as error:
        raise KeyNotOfThisTpm(f"want a TSS2 PRIVATE KEY in PEM: {error}") from None


def write_key_file(parent: int, public: bytes, private: bytes) -> bytes:
    """Return the PEM of a key without a password: openssl's tpm2 provider and tpm2-tss-engine read it too."""
    unmarshalled, _ = TPM2B_PRIVATE.unmarshal(private)
    return bytes(TSSPrivKey(unmarshalled, _public(public), empty_auth=True, parent=parent).to_pem())


def spki_of(public: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo, DER, of a TPMT_PUBLIC (RSA or ECC)."""
    area, _ = TPMT_PUBLIC.unmarshal(public)
    return bytes(area.to_der())


def without_unique(public: bytes) -> bytes:
    """Return a TPMT_PUBLIC without its `unique` field, so that a key and its template can be compared."""
    area, _ = TPMT_PUBLIC.unmarshal(public)
    unique = area.unique
    if area.type == TPM2_ALG.RSA:
        return public[: -2 - len(bytes(unique.rsa))]
    if area.type == TPM2_ALG.ECC:
        return public[: -4 - len(bytes(unique.ecc.x)) - len(bytes(unique.ecc.y))]
    return public


class Esapi:
    """One connection to one TPM."""

    def __init__(self, tcti: str) -> None:
        """tcti: as tpm2-tools take it, `device:/dev/tpmrm0`, `swtpm:path=...`. Raise TpmUnavailable."""
        try:
            with _command(f"opening {tcti}"):
                self._esapi: Any = ESAPI(tcti)
        except RuntimeError as error:
            raise TpmUnavailable(f"opening {tcti}: {error}") from None

    def close(self) -> None:
        """Close the connection. What was loaded through a resource manager goes with it; on a bare TPM it stays."""
        self._esapi.close()

    # -- keys
    def create_primary(self, hierarchy: Handle, template: bytes) -> tuple[Handle, bytes]:
        """Make the primary key of a template; return it with its TPMT_PUBLIC."""
        with _command("TPM2_CreatePrimary"):
            made = self._esapi.create_primary(TPM2B_SENSITIVE_CREATE(), _public(template), hierarchy)
            return made[0], bytes(made[1].publicArea.marshal())

    def create(self, parent: Handle, template: bytes) -> tuple[bytes, bytes]:
        """Make a new key under `parent`; return its TPMT_PUBLIC and its TPM2B_PRIVATE."""
        with _command("TPM2_Create"):
            made = self._esapi.create(parent, TPM2B_SENSITIVE_CREATE(), _public(template))
            return bytes(made[1].publicArea.marshal()), bytes(made[0].marshal())

    def load(self, parent: Handle, public: bytes, private: bytes) -> Handle:
        """Load a key made by create()."""
        unmarshalled, _ = TPM2B_PRIVATE.unmarshal(private)
        with _command("TPM2_Load"):
            return Handle(self._esapi.load(parent, unmarshalled, _public(public)))

    def flush(self, handle: Handle) -> None:
        """Give the slot of a transient key or a session back."""
        with _command("TPM2_FlushContext"):
            self._esapi.flush_context(handle)

    def flush_left_over(self, handle: int) -> None:
        """Flush by the TPM's own handle what an earlier client, now dead, left loaded; ESYS_TRs know only their own."""
        tcti = self._esapi.tcti
        with _command("TPM2_FlushContext"):
            tcti.transmit(_FLUSH_CONTEXT + handle.to_bytes(4, "big"))
            tcti.receive()

    def persistent(self, index: int) -> tuple[Handle, bytes]:
        """Return a persistent key and its TPMT_PUBLIC; the caller has seen that it exists."""
        with _command("TPM2_ReadPublic"):
            handle = self._esapi.tr_from_tpmpublic(index)
            read = self._esapi.read_public(handle)
            return handle, bytes(read[0].publicArea.marshal())

    def forget(self, handle: Handle) -> None:
        """Drop what libtss2 remembers of a persistent key or NV index; the TPM keeps it."""
        with _command("Esys_TR_Close"):
            self._esapi.tr_close(handle)

    def persist(self, key: Handle, index: int) -> None:
        """Make a transient key of the owner hierarchy persistent at `index`."""
        with _command("TPM2_EvictControl"):
            self.forget(self._esapi.evict_control(ESYS_TR.RH_OWNER, key, index))

    # -- what keys do
    def sign(self, key: Handle, digest: bytes, hash_name: str) -> tuple[int, int]:
        """Return r and s of ECDSA over a digest. hash_name: "sha256" or "sha384"."""
        algorithm = _HASHES[hash_name]
        details = TPMU_SIG_SCHEME(ecdsa=TPMS_SCHEME_HASH(hashAlg=algorithm))
        with _command("TPM2_Sign"):
            answer = self._esapi.sign(
                key, TPM2B_DIGEST(digest), TPMT_SIG_SCHEME(scheme=TPM2_ALG.ECDSA, details=details)
            )
            r, s = bytes(answer.signature.ecdsa.signatureR), bytes(answer.signature.ecdsa.signatureS)
        return int.from_bytes(r, "big"), int.from_bytes(s, "big")

    def certify(self, key: Handle, ak: Handle, qualifying_data: bytes) -> tuple[bytes, bytes]:
        """Return TPMS_ATTEST and TPMT_SIGNATURE: the AK says that `key` lives in this TPM."""
        with _command("TPM2_Certify"):
            answer = self._esapi.certify(key, ak, TPM2B_DATA(qualifying_data), TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL))
            return bytes(answer[0]), bytes(answer[1].marshal())

    def quote(self, ak: Handle, pcrs: tuple[int, ...], qualifying_data: bytes) -> tuple[bytes, bytes]:
        """Return TPMS_ATTEST and TPMT_SIGNATURE over the SHA-256 bank of these PCRs."""
        selection = TPML_PCR_SELECTION.parse("sha256:" + ",".join(map(str, pcrs)))
        with _command("TPM2_Quote"):
            answer = self._esapi.quote(ak, selection, TPM2B_DATA(qualifying_data))
            return bytes(answer[0]), bytes(answer[1].marshal())

    def endorsement_session(self, ek: Handle, *, hash_name: str, other_branch: bytes | None) -> Handle:
        """Start a policy session that satisfies the EK's policy: PolicySecret(TPM_RH_ENDORSEMENT).

        other_branch: the digest that stands beside it in a PolicyOR, for EKs of the high range; None for the low range.
        The session is salted with the EK and encrypts the first parameter of each answer, so that a probe on the TPM's
        bus does not see the secret that ActivateCredential gives (softens, does not stop: field-notes.md §1.22).
        """
        algorithm = _HASHES[hash_name]
        with _command("TPM2_StartAuthSession"):
            session = self._esapi.start_auth_session(
                ek, ESYS_TR.NONE, TPM2_SE.POLICY, TPMT_SYM_DEF.parse("aes128cfb"), algorithm
            )
        try:
            with _command("TPM2_PolicySecret"):
                self._esapi.trsess_set_attributes(session, TPMA_SESSION.ENCRYPT | TPMA_SESSION.CONTINUESESSION)
                self._esapi.policy_secret(ESYS_TR.RH_ENDORSEMENT, session, b"", b"", b"")
            if other_branch is not None:
                with _command("TPM2_PolicyOR"):
                    ours = self._esapi.policy_get_digest(session)
                    branches = TPML_DIGEST([TPM2B_DIGEST(bytes(ours)), TPM2B_DIGEST(other_branch)])
                    self._esapi.policy_or(session, branches)
        except BaseException:
            self.flush(session)
            raise
        return Handle(session)

    def activate(self, ak: Handle, ek: Handle, session: Handle, blob: bytes, encrypted_secret: bytes) -> bytes:
        """Return the secret of a credential (TPMS_ID_OBJECT, encrypted seed; both without their size)."""
        with _command("TPM2_ActivateCredential"):
            secret = self._esapi.activate_credential(
                ak, ek, TPM2B_ID_OBJECT(blob), TPM2B_ENCRYPTED_SECRET(encrypted_secret), session2=session
            )
            return bytes(secret)

    # -- NV
    def nv_public(self, index: int) -> tuple[Handle, int, int]:
        """Return an NV index, its TPMA_NV bits and its size in bytes; the caller has seen that it exists."""
        with _command("TPM2_NV_ReadPublic"):
            handle = self._esapi.tr_from_tpmpublic(index)
            read = self._esapi.nv_read_public(handle)
            return handle, int(read[0].nvPublic.attributes), int(read[0].nvPublic.dataSize)

    def nv_read(self, index: Handle, size: int, offset: int, auth: Handle) -> bytes:
        """Read one piece. auth: the index itself, or OWNER."""
        with _command("TPM2_NV_Read"):
            piece = self._esapi.nv_read(index, size, offset, auth_handle=auth)
            return bytes(piece)

    def nv_define(self, index: int, size: int, attributes: int) -> Handle:
        """Define an index under the owner hierarchy."""
        public = TPMS_NV_PUBLIC(nvIndex=index, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=size)
        with _command("TPM2_NV_DefineSpace"):
            return Handle(self._esapi.nv_define_space(b"", TPM2B_NV_PUBLIC(nvPublic=public)))

    def nv_write(self, index: Handle, data: bytes, offset: int) -> None:
        """Write one piece, by the owner's authority."""
        with _command("TPM2_NV_Write"):
            self._esapi.nv_write(index, data, offset, auth_handle=ESYS_TR.RH_OWNER)

    def nv_undefine(self, index: Handle) -> None:
        """Remove an index of the owner hierarchy."""
        with _command("TPM2_NV_UndefineSpace"):
            self._esapi.nv_undefine_space(index)

    # -- what there is
    def handles(self, first: int) -> tuple[int, ...]:
        """Return the TPM's handles of the kind that `first` begins: 0x01.. NV, 0x02.. sessions, 0x80.., 0x81.. keys."""
        found: list[int] = []
        more, start = True, first
        while more:
            with _command("TPM2_GetCapability"):
                answer = self._esapi.get_capability(TPM2_CAP.HANDLES, start, 64)
                more, page = bool(answer[0]), [int(handle) for handle in answer[1].data.handles]
            found += page
            if not page:
                break
            start = page[-1] + 1
        return tuple(found)

    def properties(self, first: int, count: int) -> dict[int, int]:
        """Return TPM properties (TPM_PT, Part 2 §6.13) that exist from `first` on, `count` at most."""
        with _command("TPM2_GetCapability"):
            answer = self._esapi.get_capability(TPM2_CAP.TPM_PROPERTIES, first, count)
            return {int(item.property): int(item.value) for item in answer[1].data.tpmProperties}


def _public(marshalled: bytes) -> Any:
    area, _ = TPMT_PUBLIC.unmarshal(marshalled)
    return TPM2B_PUBLIC(publicArea=area)
