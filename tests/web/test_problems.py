"""One table from error to HTTP, complete for every error class of the server."""

import importlib
import json
import pkgutil
from collections.abc import Iterator

import pytest

import birthmark_server
from birthmark_server.errors import BirthmarkError, Busy, Misconfigured
from birthmark_server.store.errors import DeniedDevice, StoreBusy, StoreFailed, UnknownDevice
from birthmark_server.web.errors import BodyTooLarge, TooManyRequests
from birthmark_server.web.problems import TABLE, answer_for, code_of, status_of
from birthmark_wire.errors import DecodeError


def error_classes() -> list[type[BirthmarkError]]:
    for module in pkgutil.walk_packages(birthmark_server.__path__, "birthmark_server."):
        if not module.name.startswith("birthmark_server.store.migrations"):  # Alembic runs those, nobody imports them
            importlib.import_module(module.name)
    return sorted(descendants(BirthmarkError), key=lambda c: (c.__module__, c.__qualname__))


def descendants(parent: type[BirthmarkError]) -> Iterator[type[BirthmarkError]]:
    for child in parent.__subclasses__():
        yield child
        yield from descendants(child)


def test_every_error_class_is_in_the_table_or_inherits_from_one_that_is_not_the_root() -> None:
    ours = {"journal-damaged", "certificate-lint", "token-spent"}  # faults of our own: 500 is what they are
    forgotten = [
        cls
        for cls in error_classes()
        if cls.__module__.startswith("birthmark_server.")
        and not any(parent in TABLE for parent in cls.__mro__[:-1] if parent is not BirthmarkError)
        and cls.code not in ours
        and not cls.__module__.startswith(
            ("birthmark_server.broker", "birthmark_server.cli", "birthmark_server.factory")
        )
    ]
    assert not forgotten


def test_every_error_class_has_a_code_of_its_own() -> None:
    codes: dict[str, type[BirthmarkError]] = {}
    for cls in error_classes():
        if cls.__module__.startswith("birthmark_server.") and "code" in vars(cls):
            assert codes.setdefault(cls.code, cls) is cls, f"{cls} and {codes[cls.code]} share {cls.code}"
            assert cls.__doc__, cls


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DecodeError("is missing", field="csr"), 400, "malformed"),
        (UnknownDevice("no"), 404, "unknown-device"),
        (BodyTooLarge("big"), 413, "body-too-large"),
        (TooManyRequests("slow down", retry_after_s=3), 429, "too-many-requests"),
        (StoreBusy("locked", retry_after_s=1), 503, "store-busy"),
        (StoreFailed("disk full"), 503, "store-failed"),
        (Misconfigured("a path"), 500, "misconfigured"),
        (RuntimeError("a secret"), 500, "internal"),
    ],
)
def test_status_and_code(error: Exception, status: int, code: str) -> None:
    document = json.loads(answer_for(error, request_id="r-1").body)
    assert (status_of(error)[0], code_of(error)) == (status, code)
    assert (document["status"], document["code"], document["request_id"]) == (status, code, "r-1")
    assert document["type"] == f"urn:birthmark:problem:{code}"


def test_a_refusal_says_what_was_seen_and_trouble_of_our_own_says_nothing() -> None:
    assert b"no device of that kind" in answer_for(UnknownDevice("no device of that kind"), request_id="r").body
    for error in (RuntimeError("secret"), StoreFailed("secret path"), Misconfigured("secret")):
        assert b"secret" not in answer_for(error, request_id="r").body
        assert b"secret" not in answer_for(error, request_id="r", est=True).body


def test_a_malformed_message_names_the_member() -> None:
    document = json.loads(answer_for(DecodeError("is missing", field="certify.attest"), request_id="r").body)
    assert document["field"] == "certify.attest"


def test_busy_says_when_to_come_back() -> None:
    assert ("Retry-After", "7") in answer_for(Busy("later", retry_after_s=7), request_id="r").headers


def test_est_gets_plain_text_unless_it_takes_problem_documents() -> None:
    plain = answer_for(UnknownDevice("gone"), request_id="r-9", est=True)
    assert plain.media_type == "text/plain; charset=utf-8"
    assert b"gone" in plain.body
    assert b"unknown-device" in plain.body
    assert b"r-9" in plain.body
    problem = answer_for(UnknownDevice("gone"), request_id="r", est=True, accept="*/*, application/problem+json")
    assert problem.media_type == "application/problem+json"


@pytest.mark.parametrize("est", [False, True])
def test_why_a_device_is_denied_is_not_for_the_client(est: bool) -> None:
    answer = answer_for(DeniedDevice("device dev-1 is denied: stolen, see case 4711"), request_id="r", est=est)
    assert b"4711" not in answer.body
    assert b"dev-1" not in answer.body
    assert b"denied-device" in answer.body
