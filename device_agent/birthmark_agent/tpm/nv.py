"""NV indices: reading what the vendor wrote, and keeping our own birth certificate chain.

The birth certificate lives in NV so that a device which lost its disk still has it. One index per certificate, since
an index may be limited to 2,048 bytes and less. The indices are in the range that the TCG leaves to the owner (Registry
of Reserved TPM 2.0 Handles and Localities 1.1), not in 0x01C90000.., where a platform's maker writes certificates under
the platform hierarchy: TPM2_Clear therefore takes ours away, and enrolling again brings them back (docs/adr/0052).

Each index holds a header (magic, length, SHA-256) and one DER certificate. The leaf's index is removed first and
written last: a power cut in between leaves "no certificate", never half of one.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from birthmark_agent.errors import TpmError, TpmFull
from birthmark_agent.tpm.codes import RC_NV_UNINITIALIZED, tpm_code
from birthmark_agent.tpm.ek_certificates import CERTIFICATE_INDICES, split_certificates
from birthmark_agent.tpm.esapi import OWNER, Esapi, Handle
from birthmark_wire.tpm_templates import EK_CHAIN_NV

BIRTH_CHAIN_NV: Final = range(0x01800B10, 0x01800B14)
"""Our indices: the IDevID first, then its CAs."""

_MAGIC: Final = b"BMC1"
_HEADER_BYTES: Final = len(_MAGIC) + 2 + 32
_PIECE_BYTES: Final = 512  # every TPM takes this much; TPM_PT_NV_BUFFER_MAX is 512 to 2,048

# TPMA_NV (Part 2 §13.4)
_OWNER_WRITE: Final = 1 << 1
_OWNER_READ: Final = 1 << 17
_AUTH_READ: Final = 1 << 18
_NO_DA: Final = 1 << 25
_WRITTEN: Final = 1 << 29
_OURS: Final = _OWNER_WRITE | _OWNER_READ | _AUTH_READ | _NO_DA

_FIRST_NV: Final = 0x01000000


def read_endorsement_certificates(esapi: Esapi) -> list[tuple[int, bytes]]:
    """Return (NV index, DER) of every EK certificate that the TPM carries; at most one per index."""
    present = set(esapi.handles(_FIRST_NV))
    found: list[tuple[int, bytes]] = []
    for index in CERTIFICATE_INDICES:
        if index in present and (certificates := split_certificates(read_index(esapi, index))):
            found.append((index, certificates[0]))
    return found


def read_endorsement_chain(esapi: Esapi) -> tuple[bytes, ...]:
    """Return the intermediate certificates that a TPM with an on-die CA keeps, in the order of their indices.

    A long chain runs over from one index into the next, so their contents are joined before they are split.
    """
    present = [index for index in esapi.handles(_FIRST_NV) if index in EK_CHAIN_NV]
    return split_certificates(b"".join(read_index(esapi, index) for index in present))


def read_birth_chain(esapi: Esapi) -> tuple[bytes, ...]:
    """Return the birth certificate and its CAs, DER; empty where there is none, or what is there is not whole."""
    present = set(esapi.handles(_FIRST_NV))
    chain: list[bytes] = []
    for index in BIRTH_CHAIN_NV:
        certificate = _unframe(read_index(esapi, index)) if index in present else b""
        if not certificate:
            break
        chain.append(certificate)
    return tuple(chain)


def write_birth_chain(esapi: Esapi, chain: Sequence[bytes]) -> None:
    """Keep the birth certificate and its CAs, DER, in place of what was there. Raise TpmFull, HierarchyOwned.

    After TpmFull nothing is kept: a device is well without this copy, as long as its disk is.
    """
    if not 1 <= len(chain) <= len(BIRTH_CHAIN_NV):
        raise TpmFull(f"want 1 to {len(BIRTH_CHAIN_NV)} certificates, got {len(chain)}")
    if read_birth_chain(esapi) == tuple(chain):
        return
    erase_birth_chain(esapi)
    try:
        for index, certificate in reversed(list(zip(BIRTH_CHAIN_NV, chain, strict=False))):
            _write(esapi, index, _frame(certificate))
    except TpmFull:
        erase_birth_chain(esapi)
        raise


def erase_birth_chain(esapi: Esapi) -> None:
    """Remove the birth certificate and its CAs, the leaf first."""
    present = set(esapi.handles(_FIRST_NV))
    for index in BIRTH_CHAIN_NV:
        if index in present:
            handle, _attributes, _size = esapi.nv_public(index)
            esapi.nv_undefine(handle)


def read_index(esapi: Esapi, index: int) -> bytes:
    """Return the contents of an index that exists; empty where it was never written, or is nobody's to read.

    The owner's authority is asked first: unlike the index's own, it works while the TPM is in lockout.
    """
    handle, attributes, size = esapi.nv_public(index)
    try:
        if not attributes & _WRITTEN:
            return b""
        authorities = [OWNER] * bool(attributes & _OWNER_READ) + [handle] * bool(attributes & _AUTH_READ)
        for authority in authorities:
            try:
                return _read_all(esapi, handle, size, authority)
            except TpmError as error:
                if tpm_code(error.rc) == RC_NV_UNINITIALIZED:
                    return b""
                if authority == authorities[-1]:
                    raise
        return b""
    finally:
        esapi.forget(handle)


def _read_all(esapi: Esapi, handle: Handle, size: int, authority: Handle) -> bytes:
    offsets = range(0, size, _PIECE_BYTES)
    return b"".join(esapi.nv_read(handle, min(_PIECE_BYTES, size - at), at, authority) for at in offsets)


def _write(esapi: Esapi, index: int, data: bytes) -> None:
    handle = esapi.nv_define(index, len(data), _OURS)
    try:
        for offset in range(0, len(data), _PIECE_BYTES):
            esapi.nv_write(handle, data[offset : offset + _PIECE_BYTES], offset)
    finally:
        esapi.forget(handle)


def _frame(certificate: bytes) -> bytes:
    return _MAGIC + len(certificate).to_bytes(2, "big") + hashlib.sha256(certificate).digest() + certificate


def _unframe(data: bytes) -> bytes:
    """Return the certificate, or nothing if the power went while it was being written, or someone else wrote there."""
    if not data.startswith(_MAGIC) or len(data) < _HEADER_BYTES:
        return b""
    size = int.from_bytes(data[4:6], "big")
    certificate = data[_HEADER_BYTES : _HEADER_BYTES + size]
    whole = len(certificate) == size and hashlib.sha256(certificate).digest() == data[6:_HEADER_BYTES]
    return certificate if whole else b""
