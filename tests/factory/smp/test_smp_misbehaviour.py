"""Boards that answer wrongly, late or not at all, and TPMs behind them: each a FactoryError with its own code."""

import socket
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birthmark_server.factory.errors import FactoryError
from birthmark_server.factory.smp import errors
from birthmark_server.factory.smp.client import SmpBoard
from birthmark_server.factory.smp.group import Enrollment
from birthmark_server.factory.smp.line import Line
from birthmark_server.factory.smp.tpm_check import GET_RANDOM, check_tpm
from support.smp_peer import HangUp, Question, peer

WHO = {"serial": "", "fw": "1.2.0", "slot": 0, "sig": "ok", "mode": "factory", "mac": ""}
PERMANENT = "80010000001b000000000000000006000000010000020000000"


def ask(answer: Any) -> Any:
    """Ask a board that answers so who it is."""
    with peer(answer if callable(answer) else lambda _: answer) as board:
        line = Line.open(board.address, limit_s=5)
        try:
            return Enrollment(line).identify(limit_s=1)
        finally:
            line.close()


def hang_up(_: Question) -> Any:
    raise HangUp


def test_an_answer_is_found_among_other_things_that_the_board_says() -> None:
    def noisily(question: Question) -> bytes:
        good = question.frame(WHO)
        return b"*** Booting ***\r\n\x06\x09not base64\n\x04\x14AAAA\n\xff\xfe\x00" * 3 + good

    assert ask(noisily).firmware == "1.2.0"


def test_an_answer_to_an_earlier_question_is_passed_over() -> None:
    def late(question: Question) -> bytes:
        old = question.frame({**WHO, "fw": "0.0.1"}, sequence=(question.sequence - 1) % 256)
        return old + question.frame(WHO)

    assert ask(late).firmware == "1.2.0"


def test_a_damaged_answer_is_none() -> None:
    def damaged(question: Question) -> bytes:
        frame = bytearray(question.frame(WHO))
        frame[12] ^= 1
        return bytes(frame)

    with pytest.raises(errors.BoardSilent):
        ask(damaged)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (hang_up, errors.CableGone),
        (lambda _: None, errors.BoardSilent),
        (lambda _: b"\x06\x09" * 50_000, errors.BoardSilent),
        ([], errors.BoardGarbled),
        ({}, errors.BoardGarbled),
        ({**WHO, "fw": 12}, errors.BoardGarbled),
        ({**WHO, "slot": "0"}, errors.BoardGarbled),
        (lambda question: question.frame(WHO)[:-4] + b"\n", errors.BoardSilent),
        (lambda question: Question(2, 64, 0, question.sequence, {}).frame(WHO), errors.BoardGarbled),
        (lambda question: Question(0, 1, 0, question.sequence, {}).frame(WHO), errors.BoardGarbled),
        ({"rc": 3}, errors.DeviceRefused),
        ({"err": {"group": 64, "rc": 2}}, errors.BoardLocked),
    ],
    ids=["gone", "silent", "shouting", "list", "empty", "number", "text", "cut", "write", "group", "error", "locked"],
)
def test_a_board_that_does_not_say_who_it_is(answer: Any, kind: type[FactoryError]) -> None:
    with pytest.raises(kind) as raised:
        ask(answer)
    assert raised.value.next_step


@settings(max_examples=60, deadline=None)
@given(garbage=st.binary(min_size=1, max_size=200))
def test_any_bytes_from_a_board_are_an_error_and_nothing_else(garbage: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    line = Line(ours.detach(), "test")
    try:
        theirs.sendall(garbage)
        theirs.close()
        with pytest.raises(FactoryError):
            Enrollment(line).identify(limit_s=1)
    finally:
        line.close()


def test_a_board_that_is_let_go_of_keeps_nobody_waiting() -> None:
    with peer(lambda _: None) as board:
        line = Line.open(board.address, limit_s=5)
        began = time.monotonic()
        threading.Timer(0.2, line.interrupt).start()
        with pytest.raises(errors.CableGone, match="let go of"):
            line.ask(bytes([0, 0, 0, 1, 0, 64, 1, 0, 0xA0]), limit_s=60)
        assert time.monotonic() - began < 30
        line.close()


def test_an_address_of_no_known_form_is_refused() -> None:
    for address in ("COM3", "tcp:host", "tcp:host:99999", "unix:"):
        with pytest.raises(errors.BadAddress):
            Line.open(address, limit_s=0)


def test_a_port_that_is_not_there_is_a_cable() -> None:
    with pytest.raises(errors.CableGone, match="No such file"):
        Line.open("/dev/birthmark-none", limit_s=0)


# -- smpclient's part


def test_an_upload_that_goes_round_in_circles_ends() -> None:
    def stuck(question: Question) -> Any:
        return {"buf_size": 1024, "buf_count": 1} if question.group == 0 else {"off": 0}

    with (
        peer(stuck) as board,
        SmpBoard.open(board.address) as smp,
        pytest.raises(errors.BoardGarbled, match="the board wants byte 0 of"),
    ):
        smp.upload(bytes(5000), lambda done, total: None)


def test_an_upload_beyond_its_end_ends() -> None:
    def beyond(question: Question) -> Any:
        return {"buf_size": 1024, "buf_count": 1} if question.group == 0 else {"off": 6000}

    with (
        peer(beyond) as board,
        SmpBoard.open(board.address) as smp,
        pytest.raises(errors.BoardGarbled, match="the board wants byte 6000 of 5000"),
    ):
        smp.upload(bytes(5000), lambda done, total: None)


def test_a_refused_upload_names_the_boards_reason() -> None:
    def refuse(question: Question) -> Any:
        if question.group == 0:
            return {"buf_size": 1024, "buf_count": 1}
        return {"err": {"group": 1, "rc": 27}}

    with (
        peer(refuse) as board,
        SmpBoard.open(board.address) as smp,
        pytest.raises(errors.DeviceRefused, match="upload: current version is newer"),
    ):
        smp.upload(bytes(5000), lambda done, total: None)


@pytest.mark.parametrize(
    "images", [{"images": [{"slot": "x"}]}, {"images": 3}, {"images": [{"slot": 0, "version": "?"}]}]
)
def test_a_list_of_images_that_is_none(images: Any) -> None:
    def answer(question: Question) -> Any:
        return {"buf_size": 1024, "buf_count": 1} if question.group == 0 else images

    with peer(answer) as board, SmpBoard.open(board.address) as smp, pytest.raises(errors.BoardGarbled):
        smp.slots()


# -- the TPM behind it


@pytest.mark.parametrize(
    ("response", "kind", "words"),
    [
        (PERMANENT + "600", errors.TpmLockedOut, "dictionary-attack lockout"),
        ("", errors.TpmFailed, "answers nothing"),
        ("ffffffffffffffffffffffff", errors.TpmFailed, "no TPM response"),
        ("80010000000a00000100", errors.TpmFailed, "the error 0x100"),
        ("80010000000a00000000", errors.TpmFailed, "10 bytes, want 27"),
        (PERMANENT.replace("00000006", "00000007", 1) + "400", errors.TpmFailed, "what was not asked"),
    ],
    ids=["lockout", "nothing", "garbage", "not started", "short", "another"],
)
def test_a_tpm_that_can_not_be_worked_with(response: str, kind: type[FactoryError], words: str) -> None:
    with peer(lambda _: {"r": bytes.fromhex(response)}) as board:
        line = Line.open(board.address, limit_s=5)
        with pytest.raises(kind, match=words) as raised:
            check_tpm(Enrollment(line))
        line.close()
    assert raised.value.fails
    assert raised.value.next_step


def test_a_tpm_that_is_well_is_let_through() -> None:
    with peer(lambda _: {"r": bytes.fromhex(PERMANENT + "400")}) as board:
        line = Line.open(board.address, limit_s=5)
        check_tpm(Enrollment(line))
        line.close()


def test_a_command_that_the_board_does_not_carry() -> None:
    with peer(lambda _: {"err": {"group": 64, "rc": 1}}) as board:
        line = Line.open(board.address, limit_s=5)
        with pytest.raises(errors.CommandNotAllowed):
            Enrollment(line).tpm(GET_RANDOM)
        line.close()
