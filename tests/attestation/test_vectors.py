"""The vectors of tests/vectors/tpm: births by an emulated TPM, and what one change to one of them meets."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from birthmark_server.attestation.replay import replay_activation
from birthmark_server.attestation.roots import TrustStore
from birthmark_server.attestation.verify import VerifiedDevice
from birthmark_server.domain import Evidence
from birthmark_server.errors import BirthmarkError
from birthmark_server.tpm.credential import kdfa, kdfe, protect
from birthmark_wire.enrollment import EnrollRequest

VECTORS = Path(__file__).parent.parent / "vectors" / "tpm"
BIRTHS = sorted(path.name for path in VECTORS.glob("birth-*.json"))
REFUSED = sorted(path.stem for path in (VECTORS / "refused").glob("*.json"))
Parts = dict[str, bytes]


def load(name: str) -> dict[str, Any]:
    """Read one vector."""
    loaded: dict[str, Any] = json.loads((VECTORS / name).read_text())
    return loaded


def parts_of(vector: dict[str, Any]) -> Parts:
    """Return the evidence's parts by name."""
    return {name: bytes.fromhex(value) for name, value in vector["evidence"]["parts"]}


def judge(vector: dict[str, Any], parts: Parts) -> VerifiedDevice:
    """Prove a birth from these parts."""
    roots = TrustStore.from_files({path: bytes.fromhex(data) for path, data in vector["trust_store"].items()})
    kept = vector["evidence"]
    evidence = Evidence(kept["kind"], kept["verifier_version"], kept["roots_version"], tuple(parts.items()))
    return replay_activation(evidence, roots=roots)


@pytest.mark.parametrize("name", BIRTHS)
def test_a_birth_that_was_accepted_once_stays_accepted(name: str) -> None:
    vector = load(name)
    device = judge(vector, parts_of(vector))
    assert device.ek_sha256 == vector["ek_sha256"]
    assert device.birth_spki.hex() == vector["birth_spki"]
    assert device.firmware_version == vector["firmware_version"]
    assert device.quote is not None


@pytest.mark.parametrize("name", REFUSED)
def test_what_was_refused_once_stays_refused_with_the_same_code(name: str) -> None:
    case = load(f"refused/{name}.json")
    vector = load(case["base"])
    parts = honest = parts_of(vector)
    for change in case["changes"]:
        parts = apply(change, parts, honest)
    with pytest.raises(BirthmarkError) as caught:
        judge(vector, parts)
    assert caught.value.code == case["code"]


FUZZED = load("birth-rsa2048.json")
SIGNED_OR_BOUND = (
    "nonce",
    "secret",
    "csr",
    "certify",
    "certify-signature",
    "quote",
    "quote-signature",
    "anchor-sha256",
)
SHOWN = ("request.ek_certificates.0", "request.ek_chain.0", "request.ak_public", "request.birth_key_public")


@given(part=st.sampled_from(SIGNED_OR_BOUND + SHOWN), where=st.integers(0, 5000), flip=st.integers(1, 255))
@settings(max_examples=150)
def test_one_changed_byte_anywhere_is_refused_by_name(part: str, where: int, flip: int) -> None:
    honest = parts_of(FUZZED)
    damaged = apply({"part": part, "flip": flip, "offset": where}, honest, honest)
    with pytest.raises(BirthmarkError) as caught:
        judge(FUZZED, damaged)
    assert caught.value.code not in ("refused", "malformed", "internal")


def apply(change: dict[str, Any], parts: Parts, honest: Parts) -> Parts:
    """Return the parts with one change. `request.MEMBER` and `request.MEMBER.0` are members of the request."""
    name, *member = change["part"].split(".")
    if not member:
        return parts | {name: edit(change, parts[name], honest)}
    request = EnrollRequest.decode(parts["request"])
    old: Any = getattr(request, member[0])
    new: Any
    if change.get("drop"):
        new = ()
    elif len(member) == 1:
        new = edit(change, old, honest)
    else:
        index = int(member[1])
        new = (*old[:index], edit(change, old[index], honest), *old[index + 1 :])
    members: dict[str, Any] = {member[0]: new}
    return parts | {"request": replace(request, **members).encode()}


def edit(change: dict[str, Any], old: bytes, honest: Parts) -> bytes:
    """Return `old` with octets put at an offset, appended, or replaced altogether."""
    if "become" in change:
        return bytes.fromhex(change["become"])
    if "copy" in change:
        return honest[change["copy"]]
    if "append" in change:
        return old + bytes.fromhex(change["append"])
    offset = change["offset"] % len(old)
    octets = bytes((old[offset] ^ change["flip"],)) if "flip" in change else bytes.fromhex(change["put"])
    new = old[:offset] + octets + old[offset + len(octets) :]
    assert new != old, "this change changes nothing"
    return new


@pytest.mark.parametrize("index", [0, 1])
def test_a_credential_is_made_of_its_seed(index: int) -> None:
    vector: dict[str, Any] = json.loads((VECTORS / "credential.json").read_text())[index]
    algorithm = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}[vector["hash"]]
    seed, name, secret = (bytes.fromhex(vector[key]) for key in ("seed", "name", "secret"))
    size, aes_bits = algorithm.digest_size, vector["aes_bits"]
    assert protect(seed, name, secret, algorithm=algorithm, aes_bits=aes_bits).hex() == vector["id_object"]
    assert kdfa(algorithm, seed, b"STORAGE\0", name, b"", aes_bits).hex() == vector["kdfa_storage"]
    derived = kdfe(algorithm, b"z" * size, b"IDENTITY\0", b"u" * size, b"v" * size, 8 * size)
    assert derived.hex() == vector["kdfe_identity"]
