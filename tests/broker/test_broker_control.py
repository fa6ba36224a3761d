"""Mosquitto with our gate passes the contract; and what its control makes of odd answers."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from birthmark_server.broker.control import BrokerControl, Connection, MosquittoControl
from birthmark_server.broker.denyfile import DenyFile
from birthmark_server.broker.link import BrokerLink
from birthmark_server.broker.policy import Role
from birthmark_wire.encoding import JsonObject, read_json
from birthmark_wire.errors import DecodeError
from broker.contract import BrokerControlContract
from support.gate_site import Site


def ignore(device_id: str, leaf: str, payload: bytes, at: datetime) -> None:
    """Hear a message, and do nothing."""


@pytest.mark.parts
class TestMosquittoControl(BrokerControlContract):
    """On a real Mosquitto."""

    @pytest.fixture
    def control(self, site: Site) -> Iterator[BrokerControl]:
        """A control over a link of its own."""
        link = BrokerLink(
            host="localhost",
            port=site.broker.port,
            client_id="srv-control",
            context=site.pki.client_context(site.pki.control()),
            on_message=ignore,
        )
        link.start()
        assert link.wait_live(10)
        yield MosquittoControl(link=link, deny_file=site.broker.deny)
        link.stop()


class FakeGate:
    """Answers commands from a table."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self._answers = answers

    def ask(self, command: str, *, timeout_s: float = 5.0) -> JsonObject:
        """Return the answer to `command`."""
        return read_json(self._answers[command])

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None:
        """Take it."""


def control_of(answers: dict[str, bytes]) -> MosquittoControl:
    """Return a control whose gate answers so."""
    return MosquittoControl(link=FakeGate(answers), deny_file=DenyFile(Path("/nowhere/deny")))


ONE = b'{"client":"a","id":"a","role":"device","serial":"1f","not_after":0}'


def test_pages_are_put_together() -> None:
    control = control_of(
        {"list 0": b'{"connections":[' + ONE + b'],"next":7}', "list 7": b'{"connections":[' + ONE + b'],"next":0}'}
    )
    one = Connection("a", "a", Role.DEVICE, "1f", datetime(1970, 1, 1, tzinfo=UTC))
    assert control.connections() == [one, one]


def test_a_cursor_that_does_not_advance_ends_the_list() -> None:
    control = control_of({"list 0": b'{"connections":[],"next":7}', "list 7": b'{"connections":[],"next":7}'})
    assert control.connections() == []


@pytest.mark.parametrize(
    "answer",
    [
        b'{"connections":[],"next":null}',
        b'{"connections":[{"client":"a"}],"next":0}',
        b'{"connections":[' + ONE.replace(b"device", b"root") + b'],"next":0}',
        b'{"connections":[' + ONE.replace(b":0}", b":-1}") + b'],"next":0}',
    ],
)
def test_an_answer_that_is_none_is_refused(answer: bytes) -> None:
    with pytest.raises(DecodeError):
        control_of({"list 0": answer}).connections()
