"""Mosquitto with our gate passes the contract; and what its control makes of odd answers."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from birthmark_server.broker.control import COMMANDS_MOST, FIND_MOST, BrokerControl, Connection, MosquittoControl
from birthmark_server.broker.denyfile import DenyFile
from birthmark_server.broker.errors import BrokerRefused
from birthmark_server.broker.link import BrokerLink
from birthmark_server.broker.policy import Role
from birthmark_wire.encoding import JsonObject, read_json
from birthmark_wire.errors import DecodeError
from broker.contract import BrokerControlContract, Ear
from support.broker_pki import BrokerPki
from support.gate_site import Site


@pytest.mark.parts
class TestMosquittoControl(BrokerControlContract):
    """On a real Mosquitto."""

    @pytest.fixture
    def control(self, site: Site, ear: Ear) -> Iterator[BrokerControl]:
        """A control over a link of its own."""
        link = BrokerLink(
            host="localhost",
            port=site.broker.port,
            client_id="srv-control",
            context=site.pki.client_context(site.pki.control()),
            on_message=ear.hear,
        )
        link.start()
        assert link.wait_live(10)
        yield MosquittoControl(link=link, deny_file=site.broker.deny)
        link.stop()


class FakeGate:
    """Answers commands from a table, and keeps them. What is not in it is refused."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def ask(self, command: str, *, timeout_s: float = 5.0) -> JsonObject:
        """Return the answer to `command`."""
        self.asked.append(command)
        if command not in self._answers:
            raise BrokerRefused("full")
        return read_json(self._answers[command])

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None:
        """Take it."""


@pytest.fixture
def deny_file(pki: BrokerPki, tmp_path: Path) -> DenyFile:
    """A deny file that nobody reads."""
    file = DenyFile(tmp_path / "deny", signer=pki.deny_signer)
    file.create()
    return file


def control_of(answers: dict[str, bytes], deny_file: DenyFile) -> MosquittoControl:
    """Return a control whose gate answers so."""
    return MosquittoControl(link=FakeGate(answers), deny_file=deny_file)


def test_the_gate_is_told_each_denial_and_of_which_list_it_is(deny_file: DenyFile) -> None:
    gate = FakeGate({"block a 2": b"{}", "revoke 1f 2": b"{}"})
    MosquittoControl(link=gate, deny_file=deny_file).deny(devices=["a"], serials=["1f"])
    assert gate.asked == ["block a 2", "revoke 1f 2"]


def test_a_gate_that_cannot_be_told_finds_it_in_the_file(deny_file: DenyFile, caplog: pytest.LogCaptureFixture) -> None:
    gate = FakeGate({})
    MosquittoControl(link=gate, deny_file=deny_file).deny(devices=["a", "b"])
    assert gate.asked == ["block a 2"]  # one refusal is enough
    assert deny_file.read().devices == {"a", "b"}
    assert "broker not told by command" in caplog.text


def test_of_very_many_denials_the_file_tells_the_rest(deny_file: DenyFile) -> None:
    serials = [f"1{number:04x}" for number in range(COMMANDS_MOST + 10)]
    gate = FakeGate({f"revoke {serial} 2": b"{}" for serial in serials})
    MosquittoControl(link=gate, deny_file=deny_file).deny(serials=serials)
    assert len(gate.asked) == COMMANDS_MOST
    assert deny_file.read().serials == set(serials)


ONE = b'{"client":"a","id":"a","role":"device","serial":"1f","not_after":0}'


def test_pages_are_put_together(deny_file: DenyFile) -> None:
    control = control_of(
        {"list 0": b'{"connections":[' + ONE + b'],"next":7}', "list 7": b'{"connections":[' + ONE + b'],"next":0}'},
        deny_file,
    )
    one = Connection("a", "a", Role.DEVICE, "1f", datetime(1970, 1, 1, tzinfo=UTC))
    assert control.connections() == [one, one]


def test_a_cursor_that_does_not_advance_ends_the_list(deny_file: DenyFile) -> None:
    control = control_of(
        {"list 0": b'{"connections":[],"next":7}', "list 7": b'{"connections":[],"next":7}'}, deny_file
    )
    assert control.connections() == []


def test_a_gate_that_cannot_be_asked_for_single_devices_lists_everybody(deny_file: DenyFile) -> None:
    control = control_of(
        {"list 0": b'{"connections":[' + ONE + b"," + ONE.replace(b'"a"', b'"b"') + b'],"next":0}'}, deny_file
    )
    assert [one.identity for one in control.connections_of(["b"])] == ["b"]


def test_for_very_many_everybody_is_listed(deny_file: DenyFile) -> None:
    gate = FakeGate({"list 0": b'{"connections":[' + ONE + b'],"next":0}'})
    control = MosquittoControl(link=gate, deny_file=deny_file)
    assert control.connections_of([f"d{number}" for number in range(FIND_MOST)] + ["a"])
    assert gate.asked == ["list 0"]


@pytest.mark.parametrize(
    "answer",
    [
        b'{"connections":[],"next":null}',
        b'{"connections":[{"client":"a"}],"next":0}',
        b'{"connections":[' + ONE.replace(b"device", b"root") + b'],"next":0}',
        b'{"connections":[' + ONE.replace(b":0}", b":-1}") + b'],"next":0}',
    ],
)
def test_an_answer_that_is_none_is_refused(answer: bytes, deny_file: DenyFile) -> None:
    with pytest.raises(DecodeError):
        control_of({"list 0": answer}, deny_file).connections()
