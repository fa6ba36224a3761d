"""The tap: certificates, algorithms and alerts come from the wire."""

import ssl

from hypothesis import given
from hypothesis import strategies as st

from birthmark_agent.tls_tap import CERTIFICATE, Message, Tap, certificates_in, signature_scheme


def entry(der: bytes) -> bytes:
    return len(der).to_bytes(3, "big") + der + b"\x00\x02\xab\xcd"


def test_certificates_of_a_certificate_message() -> None:
    entries = entry(b"leaf") + entry(b"issuer")
    body = b"\x00" + len(entries).to_bytes(3, "big") + entries
    assert certificates_in(Message(CERTIFICATE, False, 0.0, body)) == (b"leaf", b"issuer")


@given(st.binary(min_size=1, max_size=200))
def test_any_message_is_taken_apart_without_a_word(body: bytes) -> None:
    message = Message(CERTIFICATE, False, 0.0, body)
    certificates_in(message)
    assert signature_scheme(message)


def test_messages_and_alerts_are_told_apart() -> None:
    tap = Tap()
    tap._overhear(None, "write", None, 22, None, b"\x01\x00\x00\x01x")
    tap._overhear(None, "read", None, 21, None, b"\x01\x00")
    assert tap.refusal() == ""
    tap._overhear(None, "read", None, 21, None, b"\x02\x2c")
    tap._overhear(None, "read", None, 257, None, b"\x17")
    assert tap.find(1, sent=True) is not None
    assert tap.find(1, sent=False) is None
    assert tap.refusal() == "certificate_revoked"
    assert tap.first_data_at_s > 0


def test_the_hook_is_where_cpython_keeps_it() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    Tap().put_on(context)
    assert context._msg_callback is not None  # type: ignore[attr-defined]
