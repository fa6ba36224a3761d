"""The device's own key: born in the TPM, unable to leave it, and free to sign.

Judged by its public area, which counts because the AK certified the Name computed from it. Unlike an AK it must not be
restricted, or it could not sign a TLS handshake. Source: TCG TPM 2.0 Keys for Device Identity and Attestation §7.
"""

import hmac
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_server.attestation.ak import FIXED
from birthmark_server.attestation.errors import (
    AttestType,
    CertifiedName,
    KeyCannotSign,
    KeyDecrypts,
    KeyNotFixed,
    KeyRestricted,
    KeyScheme,
    WeakKey,
)
from birthmark_server.attestation.keys import check_device_key
from birthmark_server.tpm.algorithms import ALG_RSAPSS, ALG_RSASSA, HASHES
from birthmark_server.tpm.attest import Attest, CertifyInfo
from birthmark_server.tpm.public import PublicKey, RsaKey, TpmPublic, parse_public
from birthmark_wire.tpm_templates import ALG_ECDSA, DECRYPT, RESTRICTED, SIGN


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A key whose public area is that of a device key. Not proven: that a TPM holds it."""

    public: TpmPublic
    name: bytes
    key: PublicKey

    def spki(self) -> bytes:
        """Return its SubjectPublicKeyInfo, DER."""
        return self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@lru_cache(maxsize=256)
def check_device_public(public_area: bytes) -> DeviceKey:
    """Judge a TPMT_PUBLIC as a device key, and compute its Name. Raises TpmDecodeError or a Refused.

    Remembers what it took last: both requests of an enrollment show the same key.
    """
    public = parse_public(public_area)
    if not public.has(FIXED):
        raise KeyNotFixed(f"want fixedTPM, fixedParent and sensitiveDataOrigin, got {public.attributes:#010x}")
    if not public.has(SIGN):
        raise KeyCannotSign(f"want sign, got attributes {public.attributes:#010x}")
    if public.has(DECRYPT):
        raise KeyDecrypts(f"want no decrypt, got attributes {public.attributes:#010x}")
    if public.has(RESTRICTED):
        raise KeyRestricted(f"want it unrestricted, got attributes {public.attributes:#010x}")
    wanted = (ALG_RSASSA, ALG_RSAPSS) if isinstance(public.key, RsaKey) else (ALG_ECDSA,)
    if public.scheme is not None and (public.scheme.alg not in wanted or public.scheme.hash_alg not in HASHES):
        raise KeyScheme(f"want no fixed scheme, or RSASSA, RSAPSS or ECDSA with SHA-2, got {public.scheme}")
    if public.name_alg not in HASHES:
        raise WeakKey(f"device key: want a Name of SHA-2, got TPM_ALG_ID {public.name_alg:#06x}")
    key = public.public_key()
    check_device_key(key, "device key")
    return DeviceKey(public, public.name(), key)


def match_certified(statement: Attest, key: DeviceKey) -> CertifyInfo:
    """Return what was certified, if it is `key`. Raises AttestType, CertifiedName."""
    if not isinstance(statement.attested, CertifyInfo):
        raise AttestType("want a certify statement, got a quote")
    if not hmac.compare_digest(statement.attested.name, key.name):
        raise CertifiedName("the statement certifies another key than the one that was shown")
    return statement.attested
