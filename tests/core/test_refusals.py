"""The book of refusals is bounded, and never in the way."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from birthmark_server.admission import NotExpected
from birthmark_server.attestation.errors import AkUnrestricted
from birthmark_server.domain import Caller, CertificateProfile, Refusal
from birthmark_server.refusals import EXCERPT_BYTES, RefusalBook, excerpt
from birthmark_server.store.errors import StoreFailed
from support.core import STRANGER, Core, station
from support.server import sha256_hex

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Pages:
    """A store that only keeps refusals, or fails to."""

    def __init__(self, *, broken: bool = False) -> None:
        self.kept: list[Refusal] = []
        self.broken = broken

    def record_refusal(self, refusal: Refusal) -> None:
        if self.broken:
            raise StoreFailed("disk full")
        self.kept.append(refusal)


def write(book: RefusalBook, at: datetime, source: str = "192.0.2.1", *, proven: bool = False) -> None:
    book.write(NotExpected("who?"), door="enrollment", caller=Caller("r", source), at=at, proven=proven)


def book_on(pages: Pages, *, most_per_source: int = 3) -> RefusalBook:
    return RefusalBook(pages, most_per_minute=3, most_per_source=most_per_source)


def test_each_refusal_is_kept_with_its_code_and_reason() -> None:
    pages = Pages()
    write(book_on(pages), AT)
    assert (pages.kept[0].code, pages.kept[0].detail, pages.kept[0].door) == ("not-expected", "who?", "enrollment")


def test_a_flood_of_refusals_is_not_kept_and_the_next_minute_is() -> None:
    pages = Pages()
    book = book_on(pages)
    for _ in range(10):
        write(book, AT)
    assert len(pages.kept) == 3
    write(book, AT + timedelta(minutes=1))
    assert len(pages.kept) == 4


def test_a_book_that_can_not_be_written_does_not_change_the_refusal() -> None:
    write(book_on(Pages(broken=True)), AT)


def test_one_source_does_not_fill_the_book() -> None:
    pages = Pages()
    book = book_on(pages, most_per_source=2)
    for source in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "198.51.100.7"):
        write(book, AT, source)
    assert [refusal.source for refusal in pages.kept] == ["192.0.2.1", "192.0.2.1", "198.51.100.7"]


def test_strangers_do_not_keep_out_those_who_have_proven_something() -> None:
    pages = Pages()
    book = book_on(pages)
    for number in range(20):
        write(book, AT, f"192.0.2.{number}")
    write(book, AT, "198.51.100.7", proven=True)
    assert [refusal.source for refusal in pages.kept[3:]] == ["198.51.100.7"]


def test_many_workers_write_no_more_than_one_does() -> None:
    pages = Pages()
    book = book_on(pages, most_per_source=3)
    begin = threading.Barrier(8)

    def work() -> None:
        begin.wait()
        for minute in range(200):
            write(book, AT + timedelta(minutes=minute))
            begin.wait()

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(pages.kept) == 200 * 3


def test_what_was_not_kept_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    book = book_on(Pages())
    for _ in range(10):
        write(book, AT)
    write(book, AT + timedelta(minutes=1))
    assert [record.__dict__["fields"] for record in caplog.records] == [{"count": 7}]


@pytest.mark.parametrize("size", [0, 1, 1024, 1025, 65_536])
def test_an_excerpt_names_the_whole(size: int) -> None:
    body = bytes(range(256)) * 256
    kept = excerpt(body[:size])
    assert len(kept) < 1200
    line, _, beginning = kept.rpartition(b"\n") if size > 1024 else (b"", b"", kept)
    assert (sha256(body[:size]).hexdigest().encode() in line) == (size > 1024)
    assert size <= 1024 or kept.endswith(body[:1024])
    assert size > 1024 or beginning == body[:size]


# -- what an enrollment leaves in it


def bulky_request(core: Core) -> bytes:
    """The first request of a device that nobody expects, with as much in it as there may be."""
    request = core.site.tpm().enroll_request(server_name="localhost")
    return replace(request, ek_chain=tuple(bytes(4096) for _ in range(11))).encode()


def test_what_a_stranger_sends_is_not_kept_whole(core: Core) -> None:
    body = bulky_request(core)
    with pytest.raises(NotExpected):
        core.services.enrollment.begin(body, Caller("stranger", "192.0.2.77"))
    (kept,) = (refusal for refusal in core.refusals("not-expected") if refusal.request_id == "stranger")
    assert kept.evidence == excerpt(body)
    assert len(kept.evidence) < 1200


def test_what_a_station_relays_is_kept_whole(core: Core) -> None:
    leaf = core.site.infra(CertificateProfile.STATION, "line-7")
    found = core.store.certificate_by_sha256(sha256_hex(leaf.der))
    assert found is not None
    body = bulky_request(core)
    with pytest.raises(NotExpected):
        core.services.enrollment.begin(body, replace(station("line-7"), certificate=found[0]))
    kept = core.refusals("not-expected")[0]
    assert (kept.source, kept.evidence) == ("line-7", body)


def test_what_shows_a_proven_ek_is_kept_whole(core: Core) -> None:
    tpm, device_id = core.listed()
    request = tpm.enroll_request(server_name="localhost")
    body = replace(request, ak_public=request.birth_key_public).encode()
    with pytest.raises(AkUnrestricted):
        core.services.enrollment.begin(body, STRANGER)
    kept = core.store.list_refusals(device_id=device_id)[0]
    assert kept.evidence == body
    assert len(body) > EXCERPT_BYTES
