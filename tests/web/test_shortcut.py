"""The short way takes what is plain, whole and in memory, and lets everything else pass untouched."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.errors import Busy
from birthmark_server.web.doors import Answer, Call
from birthmark_server.web.shortcut import Incomplete, Shortcut

POST = b"POST /pki/ocsp HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nContent-Length: 4\r\n\r\nasks"
GET = b"GET /pki/ocsp/YXNrcw== HTTP/1.1\r\nHost: x\r\n\r\n"
KNOWN = Answer(200, b"said", "application/ocsp-response", (("Cache-Control", "no-store"),))


def kept(method: str, call: Call) -> Answer | None:
    known = call.body == b"asks" if method == "POST" else call.argument == "YXNrcw=="
    return KNOWN if known else None


def shortcut(*, take: Callable[[str], None] = lambda _: None) -> Shortcut:
    return Shortcut(folder="/pki/ocsp", kept=kept, take=take, request_ids=(f"r-{n}" for n in itertools.count(1)))


@pytest.mark.parametrize("request_", [POST, GET])
def test_what_is_kept_is_answered(request_: bytes) -> None:
    response = shortcut()(request_, "192.0.2.1")
    assert isinstance(response, bytes)
    head, _, body = response.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert (lines[0], body) == ("HTTP/1.1 200 OK", b"said")
    assert {"Content-Type: application/ocsp-response", "Cache-Control: no-store", "Content-Length: 4"} < set(lines)
    assert "X-Request-Id: r-1" in lines


@pytest.mark.parametrize("request_", [POST, GET])
def test_a_request_in_pieces_is_waited_for(request_: bytes) -> None:
    for size in range(len(b"POST /pki/ocsp"), len(request_)):
        assert shortcut()(request_[:size], "192.0.2.1") is Incomplete.MORE, size


@pytest.mark.parametrize(
    "other",
    {
        "another path": POST.replace(b"/pki/ocsp", b"/pki/crl"),
        "a path that only begins so": GET.replace(b"/pki/ocsp/", b"/pki/ocsp"),
        "a longer word": POST.replace(b"/pki/ocsp", b"/pki/ocspx"),
        "another method": POST.replace(b"POST", b"PUT"),
        "HTTP/1.0": POST.replace(b"1.1", b"1.0"),
        "no host": GET.replace(b"Host: x\r\n", b""),
        "not in memory": POST.replace(b"asks", b"asky"),
        "two at once": POST + POST,
        "chunked": POST.replace(b"Host: x", b"Host: x\r\nTransfer-Encoding: chunked"),
        "an expectation": POST.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue"),
        "to be closed": POST.replace(b"Host: x", b"Host: x\r\nConnection: close"),
        "two lengths": POST.replace(b"Host: x", b"Host: x\r\nContent-Length: 4"),
        "a length that is none": POST.replace(b"Length: 4", b"Length: +4"),
        "a folded header": POST.replace(b"Host: x", b"Host: x\r\n y"),
        "a space before the colon": POST.replace(b"Host:", b"Host :"),
        "bare newlines": POST.replace(b"\r\n", b"\n") + b"\r\n\r\n",
        "no ASCII": GET.replace(b"YXNr", b"\xff\xff\xff\xff"),
        "too long": GET.replace(b" HTTP", b"A" * 5000 + b" HTTP")[:5000],
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_not_plain_goes_the_long_way(other: tuple[str, bytes]) -> None:
    assert shortcut()(other[1], "192.0.2.1") is None


def test_a_limit_holds_on_the_short_way_too() -> None:
    def take(address: str) -> None:
        raise Busy(f"too many by {address}", retry_after_s=1)

    assert shortcut(take=take)(POST, "192.0.2.1") is None


@given(st.binary(max_size=300), st.integers(0, len(POST)))
def test_any_bytes_are_answered_waited_for_or_passed_on(data: bytes, size: int) -> None:
    for request_ in (data, POST[:size] + data, GET[:size] + data):
        answered = shortcut()(request_, "192.0.2.1")
        assert answered is None or answered is Incomplete.MORE or answered.startswith(b"HTTP/1.1 200 OK\r\n")
