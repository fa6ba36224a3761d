"""TPMT_SIGNATURE: each scheme is checked, and a signature never meets a key of another kind."""

from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from birthmark_server.tpm.algorithms import ALG_RSAPSS, ALG_RSASSA, ALG_SHA1
from birthmark_server.tpm.errors import UnsupportedKey
from birthmark_server.tpm.public import Scheme
from birthmark_server.tpm.signature import EcdsaSignature, RsaSignature, check_signature
from birthmark_wire.tpm_templates import ALG_ECDSA, ALG_SHA256

RSA_KEY = rsa.generate_private_key(65537, 2048)
ECC_KEY = ec.generate_private_key(ec.SECP384R1())
MESSAGE = b"message"


def rsa_signature(alg: int) -> RsaSignature:
    """Sign MESSAGE with RSA_KEY."""
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    scheme = padding.PKCS1v15() if alg == ALG_RSASSA else pss
    return RsaSignature(Scheme(alg, ALG_SHA256), RSA_KEY.sign(MESSAGE, scheme, hashes.SHA256()))


def ecdsa_signature() -> EcdsaSignature:
    """Sign MESSAGE with ECC_KEY."""
    r, s = decode_dss_signature(ECC_KEY.sign(MESSAGE, ec.ECDSA(hashes.SHA256())))
    return EcdsaSignature(Scheme(ALG_ECDSA, ALG_SHA256), r.to_bytes(48, "big"), s.to_bytes(48, "big"))


@pytest.mark.parametrize("alg", [ALG_RSASSA, ALG_RSAPSS])
def test_an_rsa_signature_is_checked(alg: int) -> None:
    signature = rsa_signature(alg)
    check_signature(RSA_KEY.public_key(), signature, MESSAGE)
    other = ALG_RSAPSS if alg == ALG_RSASSA else ALG_RSASSA
    wrong = [
        (signature, b"other"),
        (replace(signature, scheme=Scheme(other, ALG_SHA256)), MESSAGE),
        (replace(signature, value=b"\0" + signature.value), MESSAGE),
        (replace(signature, value=b""), MESSAGE),
    ]
    for bad, message in wrong:
        with pytest.raises(InvalidSignature):
            check_signature(RSA_KEY.public_key(), bad, message)


def test_an_ecdsa_signature_is_checked() -> None:
    signature = ecdsa_signature()
    check_signature(ECC_KEY.public_key(), signature, MESSAGE)
    check_signature(ECC_KEY.public_key(), replace(signature, r=signature.r.lstrip(b"\0")), MESSAGE)
    for bad in (replace(signature, r=signature.s), replace(signature, s=b""), replace(signature, r=b"\xff" * 128)):
        with pytest.raises(InvalidSignature):
            check_signature(ECC_KEY.public_key(), bad, MESSAGE)


def test_a_signature_never_meets_a_key_of_another_kind() -> None:
    with pytest.raises(UnsupportedKey, match="RSA key"):
        check_signature(RSA_KEY.public_key(), ecdsa_signature(), MESSAGE)
    with pytest.raises(UnsupportedKey, match="ECC key"):
        check_signature(ECC_KEY.public_key(), rsa_signature(ALG_RSASSA), MESSAGE)


def test_sha1_and_unknown_hashes_are_refused() -> None:
    for hash_alg in (ALG_SHA1, 0, 0x0012):
        with pytest.raises(UnsupportedKey, match="SHA-256"):
            check_signature(ECC_KEY.public_key(), replace(ecdsa_signature(), scheme=Scheme(ALG_ECDSA, hash_alg)), b"")
