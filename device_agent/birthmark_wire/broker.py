"""Where a device's broker is, as the server says it: "where to go next".

    EnrollResult                       at birth (members broker_host and broker_port)
    header Birthmark-Broker            HOST:PORT, on each answer of EST to a device: nonce and certificate
    down/broker   BrokerEndpoint       over MQTT, to a device that says hello at another broker than its own

A device keeps what it was told last, and goes there at its next connect; the connection that it has it keeps. No
signature is needed: whoever answers there must show a certificate for that name below the root that the device pins,
and a device that finds nobody asks the server, over HTTPS.
"""

from dataclasses import dataclass
from typing import Final

from birthmark_wire import PROTOCOL, ids
from birthmark_wire.encoding import read_json, write_json
from birthmark_wire.errors import DecodeError

HEADER: Final = "Birthmark-Broker"
LEAF: Final = "broker"
"""Of the topic below `devices/ID/down/`."""


@dataclass(frozen=True, slots=True)
class BrokerEndpoint:
    """A DNS name and a port; as text `HOST:PORT`."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def of_text(cls, text: str) -> "BrokerEndpoint":
        """Read `HOST:PORT` or raise DecodeError."""
        host, _, port = text.rpartition(":")
        if not (port.isascii() and port.isdecimal() and 1 <= len(port) <= 5 and 1 <= int(port) <= 65_535):
            raise DecodeError(f"want HOST:PORT, got {text[:80]!r}", field="broker")
        return cls(ids.trust_domain(host, field="broker"), int(port))

    def encode(self) -> bytes:
        """Return the payload."""
        return write_json({"protocol": PROTOCOL, "host": self.host, "port": self.port})

    @classmethod
    def decode(cls, payload: bytes) -> "BrokerEndpoint":
        """Read the payload or raise DecodeError."""
        message = read_json(payload)
        seen = message.text("protocol", max_chars=64)
        if seen != PROTOCOL:
            raise DecodeError(f"want {PROTOCOL!r}, got {seen!r}", field="protocol")
        endpoint = cls(
            ids.trust_domain(message.text("host", max_chars=253), field="host"),
            message.integer("port", low=1, high=65_535),
        )
        message.done()
        return endpoint
