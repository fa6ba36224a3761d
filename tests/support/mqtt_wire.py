"""The few MQTT 5 packets that a device needs, as bytes: for clients by the thousand, and sockets that must not hide.

Packets are built for the broker and split out of what came from it. Flags, wills, QoS 2 and all properties but the
session's expiry are left out; what a broker sends of them is skipped, never believed.
"""

from collections.abc import Iterator
from typing import Final

CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
SUBACK: Final = 9
DISCONNECT: Final = 14
GOODBYE: Final = b"\xe0\x00"
"""DISCONNECT, in order."""
PING: Final = b"\xc0\x00"

_SESSION_EXPIRY: Final = 0x11


def connect(client_id: str, *, session_expiry_s: int | None = None, keepalive_s: int = 0) -> bytes:
    """Return CONNECT. session_expiry_s: None for a clean start, else go on with the session that is there."""
    flags, properties = b"\x02", b""
    if session_expiry_s is not None:
        flags, properties = b"\x00", bytes([_SESSION_EXPIRY]) + session_expiry_s.to_bytes(4, "big")
    head = b"\x00\x04MQTT\x05" + flags + keepalive_s.to_bytes(2, "big")
    return _packet(0x10, head + bytes([len(properties)]) + properties + _text(client_id))


def subscribe(packet_id: int, topic: str) -> bytes:
    """Return SUBSCRIBE to one filter, QoS 1."""
    return _packet(0x82, packet_id.to_bytes(2, "big") + b"\x00" + _text(topic) + b"\x01")


def publish(packet_id: int, topic: str, payload: bytes) -> bytes:
    """Return PUBLISH: QoS 1, or QoS 0 with packet_id 0."""
    if not packet_id:
        return _packet(0x30, _text(topic) + b"\x00" + payload)
    return _packet(0x32, _text(topic) + packet_id.to_bytes(2, "big") + b"\x00" + payload)


def puback(packet_id: int) -> bytes:
    """Return PUBACK for a message that came."""
    return _packet(0x40, packet_id.to_bytes(2, "big"))


def split(received: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Take the whole packets off the front of `received`: type, flags, body. What is incomplete stays in it."""
    while len(received) >= 2:
        length, shift, at = 0, 0, 1
        while at < len(received) and at <= 4:
            length |= (received[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not received[at - 1] & 0x80:
                break
        else:
            return
        if len(received) < at + length:
            return
        first, body = received[0], bytes(received[at : at + length])
        del received[: at + length]
        yield first >> 4, first & 0x0F, body


def read_publish(flags: int, body: bytes) -> tuple[str, int, bytes]:
    """Return topic, packet id (0 for QoS 0) and payload of a PUBLISH."""
    end = 2 + int.from_bytes(body[:2], "big")
    topic, packet_id = body[2:end].decode(), 0
    if flags & 0x06:
        packet_id = int.from_bytes(body[end : end + 2], "big")
        end += 2
    length, shift = 0, 0
    while True:
        byte = body[end]
        end += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return topic, packet_id, body[end + length :]


def reason(kind: int, body: bytes) -> int:
    """Return the reason code of CONNACK, PUBACK, SUBACK or DISCONNECT; 0 where it may be left out and was."""
    if kind == SUBACK:
        return body[-1]
    at = {CONNACK: 1, PUBACK: 2, DISCONNECT: 0}[kind]
    return body[at] if len(body) > at else 0


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _packet(first: int, body: bytes) -> bytes:
    length, left = b"", len(body)
    while True:
        left, digit = left >> 7, left & 0x7F
        length += bytes([digit | (0x80 if left else 0)])
        if not left:
            return bytes([first]) + length + body
