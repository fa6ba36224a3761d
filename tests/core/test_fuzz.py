"""Any bytes are parsed or refused: only the server's own errors come out, and nothing goes into the database."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birthmark_server.domain import Caller
from birthmark_server.errors import Busy, Malformed, Refused
from birthmark_wire.encoding import b64, unb64
from birthmark_wire.errors import DecodeError
from support.core import STRANGER, Core
from support.server import Clock, Installation

REFUSALS = (DecodeError, Malformed, Refused, Busy)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Target:
    """A device that has got as far as it can, and what it would send next."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.tpm, self.device_id = core.listed()
        self.begin_body = self.tpm.enroll_request(server_name="localhost").encode()
        self.challenge = core.begin(self.tpm)
        self.finish_body = core.answer(self.tpm, self.challenge)
        born, born_id = core.listed()
        self.idevid = core.enroll(born)
        self.caller = core.caller(self.idevid)
        _, self.csr = core.request(born, self.idevid, born_id)

    def state(self) -> tuple[object, ...]:
        """What must not change."""
        store = self.core.store
        return (
            store.count_devices(),
            store.get_pending(self.challenge.enrollment_id),
            len(store.list_certificates(limit=10_000)),
        )

    def begin(self, body: bytes) -> None:
        self.core.services.enrollment.begin(body, replace(STRANGER, source="fuzz"))

    def finish(self, body: bytes) -> None:
        self.core.services.enrollment.finish(self.challenge.enrollment_id, body, STRANGER)

    def enroll(self, body: bytes) -> None:
        self.core.services.renewal.enroll(body, self.caller)

    def reenroll(self, body: bytes) -> None:
        self.core.services.renewal.reenroll(body, self.caller)


@pytest.fixture(scope="module")
def target(site: Installation) -> Iterator[Target]:
    clock = Clock()
    with site.services(clock) as services:
        yield Target(Core(site, services, clock))


def hit(target: Target, send: Callable[[bytes], None], body: bytes) -> None:
    """Send what is not valid; see that it is refused and changes nothing."""
    before = target.state()
    with pytest.raises(REFUSALS):
        send(body)
    assert target.state() == before


@FUZZ
@given(body=st.binary(max_size=2000))
@pytest.mark.parametrize("door", ["begin", "finish", "enroll", "reenroll"])
def test_any_bytes_are_refused(target: Target, door: str, body: bytes) -> None:
    hit(target, getattr(target, door), body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4),
    max_leaves=10,
)


def paths_of(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON document."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, child in value.items():
            yield from paths_of(child, (*path, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from paths_of(child, (*path, index))


def put(document: Any, path: tuple[str | int, ...], value: object) -> bytes:
    """Return the document with another value in one place."""
    for step in path[:-1]:
        document = document[step]
    document[path[-1]] = value
    return b""


@FUZZ
@given(data=st.data())
@pytest.mark.parametrize("door", ["begin", "finish"])
def test_any_json_in_any_place_is_refused_or_is_the_same(target: Target, door: str, data: st.DataObject) -> None:
    original: bytes = getattr(target, f"{door}_body")
    document = json.loads(original)
    path = data.draw(st.sampled_from(sorted(paths_of(document), key=str)))
    put(document, path, data.draw(json_values))
    body = json.dumps(document).encode()
    harmless = path == ("agent",) or json.loads(body) == json.loads(original)
    harmless = harmless or (path in (("claim",), ("quote",), ("ek_public",)) and document[path[0]] is None)
    harmless = harmless or path[0] in ("ek_chain",)  # chains may hold more than is needed
    if not harmless:
        hit(target, getattr(target, door), body)


@FUZZ
@given(data=st.data())
@pytest.mark.parametrize("door", ["begin", "finish"])
def test_any_flipped_bit_in_any_evidence_is_refused(target: Target, door: str, data: st.DataObject) -> None:
    """Certificates, public areas, statements, signatures, secret, CSR: all bytes of all of them count."""
    document = json.loads(getattr(target, f"{door}_body"))
    places: dict[str, list[tuple[str | int, ...]]] = {
        "begin": [("ek_certificates", 0), ("ek_public",), ("ak_public",), ("birth_key_public",)],
        "finish": [("secret",), ("csr",), ("certify", "attest"), ("certify", "signature")],
    }
    path = data.draw(st.sampled_from(places[door]))
    place: Any = document
    for step in path:
        place = place[step]
    value = bytearray(unb64(place, field="x"))
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    value[bit // 8] ^= 1 << bit % 8
    put(document, path, b64(bytes(value)))
    if door == "begin":
        # A changed AK or birth key may still be a well-formed other key; the proof comes with the second request.
        try:
            target.begin(json.dumps(document).encode())
        except REFUSALS:
            return
        assert path in (("ak_public",), ("birth_key_public",))
    else:
        hit(target, target.finish, json.dumps(document).encode())


@FUZZ
@given(data=st.data())
def test_any_flipped_bit_in_a_csr_is_refused(target: Target, data: st.DataObject) -> None:
    value = bytearray(target.csr)
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    value[bit // 8] ^= 1 << bit % 8
    hit(target, target.enroll, bytes(value))


def test_what_was_fuzzed_is_still_good(target: Target) -> None:
    """Last in the file: all of that spoilt nothing."""
    target.finish(target.finish_body)
    assert isinstance(target.caller, Caller)
    target.enroll(target.csr)
