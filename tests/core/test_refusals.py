"""The book of refusals is bounded, and never in the way."""

from datetime import UTC, datetime, timedelta

from birthmark_server.admission import NotExpected
from birthmark_server.domain import Caller, Refusal
from birthmark_server.refusals import RefusalBook
from birthmark_server.store.errors import StoreFailed
from birthmark_server.store.protocol import Store

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


def write(book: RefusalBook, at: datetime) -> None:
    book.write(NotExpected("who?"), door="enrollment", caller=Caller("r", "192.0.2.1"), at=at)


def book_on(pages: Pages) -> RefusalBook:
    store: Store = pages  # type: ignore[assignment]
    return RefusalBook(store, most_per_minute=3)


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
