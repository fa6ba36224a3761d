"""TPM structures: what is read is what was written, every byte counts, and any bytes are read or refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.tpm.algorithms import (
    ALG_ECDAA,
    ALG_ECDH,
    ALG_OAEP,
    ALG_RSAES,
    ALG_RSAPSS,
    ALG_RSASSA,
    ALG_SHA1,
    ALG_SHA512,
)
from birthmark_server.tpm.attest import Attest, CertifyInfo, Clock, PcrSelection, QuoteInfo, parse_attest
from birthmark_server.tpm.errors import NotTpmGenerated, TpmDecodeError, UnsupportedKey
from birthmark_server.tpm.public import EccKey, PublicKey, RsaKey, Scheme, Symmetric, TpmPublic, parse_public
from birthmark_server.tpm.signature import EcdsaSignature, RsaSignature, parse_signature
from birthmark_wire.tpm_templates import (
    AK,
    ALG_ECDSA,
    ALG_SHA256,
    ALG_SHA384,
    BIRTH_KEY,
    EK_TEMPLATES,
    OPERATIONAL_KEY,
    STORAGE_KEY,
)

U16, U32, U64 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF), st.integers(0, 0xFFFF_FFFF_FFFF_FFFF)
HASHES = st.sampled_from((ALG_SHA1, ALG_SHA256, ALG_SHA384, ALG_SHA512))


def schemes(*algorithms: int) -> st.SearchStrategy[Scheme]:
    """Schemes with a hash, of these algorithms."""
    return st.builds(Scheme, st.sampled_from(algorithms), HASHES)


RSA_SCHEMES = st.none() | schemes(ALG_RSASSA, ALG_RSAPSS, ALG_OAEP) | st.just(Scheme(ALG_RSAES))
ECC_SCHEMES = st.none() | schemes(ALG_ECDSA, ALG_ECDH) | st.builds(Scheme, st.just(ALG_ECDAA), HASHES, U16)
COORDINATES = st.binary(max_size=66)
RSA_KEYS = st.builds(RsaKey, U16, U32, st.binary(max_size=512))
ECC_KEYS = st.builds(EccKey, U16, COORDINATES, COORDINATES, st.none() | schemes(0x0020, 0x0022))
POLICIES, SYMMETRICS = st.binary(max_size=64), st.none() | st.builds(Symmetric, U16)
PUBLICS = st.builds(TpmPublic, U16, U32, POLICIES, SYMMETRICS, RSA_SCHEMES, RSA_KEYS) | st.builds(
    TpmPublic, U16, U32, POLICIES, SYMMETRICS, ECC_SCHEMES, ECC_KEYS
)

NAMES = st.binary(max_size=66)
SELECTIONS = st.lists(st.builds(PcrSelection, U16, st.binary(min_size=1, max_size=32)), max_size=4).map(tuple)
ATTESTED = st.builds(CertifyInfo, NAMES, NAMES) | st.builds(QuoteInfo, SELECTIONS, st.binary(max_size=64))
ATTESTS = st.builds(
    Attest, NAMES, st.binary(max_size=66), st.builds(Clock, U64, U32, U32, st.integers(0, 1)), U64, ATTESTED
)

SIGNATURES = st.builds(RsaSignature, schemes(ALG_RSASSA, ALG_RSAPSS), st.binary(max_size=512)) | st.builds(
    EcdsaSignature, schemes(ALG_ECDSA), COORDINATES, COORDINATES
)

Parser = Callable[[bytes], TpmPublic | Attest | RsaSignature | EcdsaSignature]
PARSERS: list[Parser] = [parse_public, parse_attest, parse_signature]


@given(PUBLICS)
def test_a_public_area_is_read_as_it_was_written(public: TpmPublic) -> None:
    assert parse_public(public.encode()) == public


@given(ATTESTS)
def test_a_statement_is_read_as_it_was_written(attest: Attest) -> None:
    assert parse_attest(attest.encode()) == attest


@given(SIGNATURES)
def test_a_signature_is_read_as_it_was_written(signature: RsaSignature | EcdsaSignature) -> None:
    assert parse_signature(signature.encode()) == signature


@given(st.sampled_from(PARSERS), st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(parse: Parser, data: bytes) -> None:
    try:
        value = parse(data)
    except TpmDecodeError:
        return
    assert value.encode() == data


SAMPLES: list[tuple[Parser, bytes]] = [
    *[(parse_public, template) for template in (*EK_TEMPLATES.values(), AK, BIRTH_KEY, STORAGE_KEY, OPERATIONAL_KEY)],
    (parse_attest, Attest(b"s" * 34, b"q" * 32, Clock(1, 2, 3, 1), 4, CertifyInfo(b"n" * 34, b"m" * 34)).encode()),
    (
        parse_attest,
        Attest(b"", b"", Clock(1, 2, 3, 0), 4, QuoteInfo((PcrSelection(ALG_SHA256, b"\x81\0\0"),), b"d" * 32)).encode(),
    ),
    (parse_signature, EcdsaSignature(Scheme(ALG_ECDSA, ALG_SHA256), b"r" * 32, b"s" * 32).encode()),
    (parse_signature, RsaSignature(Scheme(ALG_RSAPSS, ALG_SHA384), b"v" * 256).encode()),
]


@pytest.mark.parametrize(("parse", "data"), SAMPLES)
def test_each_prefix_and_each_longer_form_is_refused(parse: Parser, data: bytes) -> None:
    assert parse(data).encode() == data
    for length in range(len(data)):
        with pytest.raises(TpmDecodeError):
            parse(data[:length])
    for tail in (b"\x00", b"\xff", data):
        with pytest.raises(TpmDecodeError, match="too many"):
            parse(data + tail)


@given(st.sampled_from(SAMPLES), st.data())
def test_a_damaged_structure_is_read_as_it_stands_or_refused(sample: tuple[Parser, bytes], data: st.DataObject) -> None:
    parse, encoded = sample
    offset = data.draw(st.integers(0, len(encoded) - 1))
    damaged = encoded[:offset] + bytes((data.draw(st.integers(0, 255)),)) + encoded[offset + 1 :]
    try:
        assert parse(damaged).encode() == damaged
    except TpmDecodeError:
        return


def without(data: bytes, old: str, new: str) -> bytes:
    """Replace one run of bytes that must be there."""
    before, after = bytes.fromhex(old), bytes.fromhex(new)
    assert before in data
    return data.replace(before, after, 1)


BAD_PUBLICS: dict[str, bytes] = {
    "a keyed hash": b"\x00\x08" + AK[2:],
    "a symmetric cipher": b"\x00\x25" + AK[2:],
    "algorithm NULL": b"\x00\x10" + AK[2:],
    "Camellia": without(STORAGE_KEY, "000600800043", "002600800043"),
    "AES in CBC mode": without(STORAGE_KEY, "000600800043", "000600800042"),
    "an RSA scheme on an ECC key": without(AK, "00100018000b", "00100014000b"),
    "a policy of 65 bytes": AK[:8] + b"\x00\x41" + bytes(65) + AK[10:],
}


@pytest.mark.parametrize("case", BAD_PUBLICS)
def test_a_public_area_outside_the_standard_or_our_use_is_refused(case: str) -> None:
    with pytest.raises(TpmDecodeError):
        parse_public(BAD_PUBLICS[case])


QUOTE = SAMPLES[-3][1]
BAD_QUOTES: dict[str, bytes] = {
    "17 banks": without(QUOTE, "00000001000b03", "00000011000b03"),
    "a bitmap of no bytes": without(QUOTE, "000b03810000", "000b00"),
    "a bitmap of 33 bytes": without(QUOTE, "000b03810000", "000b21" + "00" * 33),
    "a safe flag of 2": without(QUOTE, "0000000200000003" + "00", "0000000200000003" + "02"),
}


@pytest.mark.parametrize("case", BAD_QUOTES)
def test_a_quote_outside_the_standard_is_refused(case: str) -> None:
    with pytest.raises(TpmDecodeError):
        parse_attest(BAD_QUOTES[case])


def test_a_statement_of_no_tpm_is_refused_by_name() -> None:
    _, attest = SAMPLES[-4]
    with pytest.raises(NotTpmGenerated, match="0xff544347"):
        parse_attest(b"\xff\x54\x43\x48" + attest[4:])


@pytest.mark.parametrize(
    ("bitmap", "pcrs"), [(b"\x00\x00\x00", ()), (b"\x81\x00\x80", (0, 7, 23)), (b"\x01", (0,)), (b"\x00\x01", (8,))]
)
def test_pcrs_are_counted_from_the_least_significant_bit(bitmap: bytes, pcrs: tuple[int, ...]) -> None:
    assert PcrSelection(ALG_SHA256, bitmap).pcrs() == pcrs


@pytest.mark.parametrize("template", EK_TEMPLATES)
def test_a_template_takes_only_its_own_kind_of_key(template: str) -> None:
    keys: dict[str, PublicKey] = {
        "p256": ec.generate_private_key(ec.SECP256R1()).public_key(),
        "p384": ec.generate_private_key(ec.SECP384R1()).public_key(),
        "rsa2048": rsa.generate_private_key(65537, 2048).public_key(),
    }
    public = parse_public(EK_TEMPLATES[template])
    for kind, key in keys.items():
        assert public.fits(key) is (kind == template)
        if kind != template:
            with pytest.raises(UnsupportedKey):
                public.with_key(key)
    filled = public.with_key(keys[template])
    assert filled.public_key() == keys[template]
    assert parse_public(filled.encode()) == filled


def test_a_template_does_not_take_an_rsa_key_with_another_exponent() -> None:
    key = rsa.RSAPublicNumbers(3, (1 << 2047) + 12345).public_key()
    assert not parse_public(EK_TEMPLATES["rsa2048"]).fits(key)


def test_a_name_is_the_digest_of_every_byte_of_the_public_area() -> None:
    public = parse_public(AK)
    changed = [
        replace(public, attributes=public.attributes ^ 1),
        replace(public, auth_policy=b"p"),
        replace(public, scheme=None),
        replace(public, symmetric=Symmetric(128)),
        replace(public, key=EccKey(3, b"x", b"y")),
        replace(public, key=EccKey(4, b"IAK", b"")),
    ]
    assert len({public.name(), *(other.name() for other in changed)}) == 7
    assert len(public.name()) == 34
    assert len(replace(public, name_alg=ALG_SHA384).name()) == 50
    with pytest.raises(UnsupportedKey):
        replace(public, name_alg=ALG_SHA1).name()
