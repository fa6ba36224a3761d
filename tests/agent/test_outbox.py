"""Messages of applications leave in their order, at least once, whatever becomes of the sessions that carry them."""

from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from birthmark_agent.mqtt import Session, SessionState
from birthmark_agent.outbox import Message, Outbox


@dataclass
class FakeSession:
    """A session whose broker takes what was sent in order, and may end without telling what it took."""

    broker: list[bytes]
    state: SessionState = SessionState.LIVE
    sent: list[tuple[int, bytes]] = field(default_factory=list)
    mid: int = 0

    def publish(self, _leaf: str, payload: bytes) -> Any:
        self.mid += 1
        self.sent.append((self.mid, payload))
        return self

    def take(self, outbox: Outbox, *, tells: bool) -> None:
        """Let the broker take the next message, and maybe say so."""
        if self.sent:
            mid, payload = self.sent.pop(0)
            self.broker.append(payload)
            if tells:
                outbox.published(cast(Session, self), mid, True)
                outbox.pump()


@given(st.lists(st.sampled_from(["put", "take", "take silently", "new session", "end"]), max_size=120))
def test_first_arrivals_are_in_turn_and_all_is_there_in_the_end(happens: list[str]) -> None:
    outbox, broker, settled = Outbox(), list[bytes](), list[int]()
    session = FakeSession(broker)
    outbox.attach(cast(Session, session))
    put = silent = 0
    for event in happens:
        if event == "put":
            outbox.put(Message("app/a/t", b"%d" % put, lambda taken, number=put: settled.append(number)))  # type: ignore[misc]
            put += 1
            outbox.pump()
        elif event == "take" and not silent:
            session.take(outbox, tells=True)
        elif event == "take silently":  # the broker's last words before a session ends are lost
            silent += 1
            session.take(outbox, tells=False)
        else:
            session.state, silent = SessionState.CLOSED, 0
            session = FakeSession(broker)
            outbox.attach(cast(Session, session) if event == "new session" else None)
            if event == "end":
                outbox.attach(cast(Session, session))
    session = FakeSession(broker)
    outbox.attach(cast(Session, session))
    while session.sent:
        session.take(outbox, tells=True)
    assert outbox.empty
    assert list(dict.fromkeys(broker)) == [b"%d" % number for number in range(put)]
    assert sorted(settled) == list(range(put))


def test_the_word_of_an_older_session_counts_for_nothing() -> None:
    outbox, settled = Outbox(), list[bool]()
    old, new = FakeSession([]), FakeSession([])
    outbox.attach(cast(Session, old))
    outbox.put(Message("app/a/t", b"1", settled.append))
    outbox.pump()
    outbox.attach(cast(Session, new))
    outbox.published(cast(Session, old), 1, True)
    assert not settled
    outbox.published(cast(Session, new), 1, False)
    assert settled == [False]
    assert outbox.empty
