"""The attestation key, and what it says.

An AK signs only structures that the TPM made itself, and its hash of foreign data never begins like one: that is what
`restricted` means, and why a signature by it is a statement of the TPM. So its public area is judged first, and its
signature counts for nothing until the credential was activated (verify.py), which shows that it lives beside the EK.
Source: TPM 2.0 Library Part 1 §25.1.6 "restricted", §31 "Attestation"; CVE-2021-3406.
"""

import hmac
from dataclasses import InitVar, dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature

from birthmark_server.attestation.errors import (
    AkCannotSign,
    AkDecrypts,
    AkNotFixed,
    AkScheme,
    AkUnrestricted,
    AttestBinding,
    AttestScheme,
    AttestSignature,
    AttestSigner,
    WeakKey,
)
from birthmark_server.attestation.keys import check_device_key
from birthmark_server.tpm.algorithms import ALG_RSAPSS, ALG_RSASSA, HASHES
from birthmark_server.tpm.attest import Attest, parse_attest
from birthmark_server.tpm.public import PublicKey, RsaKey, TpmPublic, parse_public
from birthmark_server.tpm.signature import check_signature, parse_signature
from birthmark_wire.tpm_templates import (
    ALG_ECDSA,
    DECRYPT,
    FIXED_PARENT,
    FIXED_TPM,
    RESTRICTED,
    SENSITIVE_DATA_ORIGIN,
    SIGN,
)

FIXED: Final = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN
"""Made in this TPM, and can't leave it, nor its parent."""

_SEAL: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationKey:
    """An AK whose public area is that of an AK. Only `check_ak` builds one. Not proven: where it lives."""

    public: TpmPublic
    name: bytes
    key: PublicKey
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        """Refuse to be built by anyone else."""
        if seal is not _SEAL:
            raise TypeError("only check_ak makes an AttestationKey")


@lru_cache(maxsize=256)
def check_ak(ak_public: bytes) -> AttestationKey:
    """Judge a TPMT_PUBLIC as an attestation key, and compute its Name. Raises TpmDecodeError or a Refused.

    Remembers what it took last: both requests of an enrollment show the same key, and a device on record keeps its own.
    """
    public = parse_public(ak_public)
    if not public.has(FIXED):
        raise AkNotFixed(
            f"want fixedTPM, fixedParent and sensitiveDataOrigin, got attributes {public.attributes:#010x}"
        )
    if not public.has(SIGN):
        raise AkCannotSign(f"want sign, got attributes {public.attributes:#010x}")
    if public.has(DECRYPT):
        raise AkDecrypts(f"want no decrypt, got attributes {public.attributes:#010x}")
    if not public.has(RESTRICTED):
        raise AkUnrestricted(f"want restricted, got attributes {public.attributes:#010x}")
    wanted = (ALG_RSASSA, ALG_RSAPSS) if isinstance(public.key, RsaKey) else (ALG_ECDSA,)
    if public.scheme is None or public.scheme.alg not in wanted:
        raise AkScheme(f"want RSASSA, RSAPSS or ECDSA fixed in the public area, got {public.scheme}")
    if public.scheme.hash_alg not in HASHES or public.name_alg not in HASHES:
        raise WeakKey(f"attestation key: want SHA-2 in scheme and Name, got {public.scheme}, {public.name_alg:#06x}")
    key = public.public_key()
    check_device_key(key, "attestation key")
    return AttestationKey(public=public, name=public.name(), key=key, seal=_SEAL)


def verify_statement(ak: AttestationKey, *, attest: bytes, signature: bytes, qualifying_data: bytes) -> Attest:
    """Return what the TPM stated, if `ak` signed it as an endorsement primary and over `qualifying_data`.

    Raises TpmDecodeError, AttestScheme, AttestSignature, AttestSigner or AttestBinding.
    """
    signed = parse_signature(signature)
    if signed.scheme != ak.public.scheme:
        raise AttestScheme(f"want the scheme of the AK's public area, {ak.public.scheme}, got {signed.scheme}")
    try:
        check_signature(ak.key, signed, attest)
    except InvalidSignature:
        raise AttestSignature("the statement is not signed by the AK") from None
    statement = parse_attest(attest)
    if not hmac.compare_digest(statement.qualified_signer, ak.public.endorsement_primary_name()):
        raise AttestSigner("the statement's signer is not the AK as a primary of the endorsement hierarchy")
    if not hmac.compare_digest(statement.extra_data, qualifying_data):
        raise AttestBinding("the statement's qualifyingData is not of this exchange")
    return statement
