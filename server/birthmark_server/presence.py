"""The server's ear on the broker: what a device says there is a sign of life, and noted as one.

Trusts the gate for who speaks on a device's topics. Of a hello's payload one thing is kept, and believed no further
than that the device said so: which agent it runs. Rotation over MQTT comes with campaigns.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

from birthmark_server.broker.link import BrokerLink, MessageHandler, control_context
from birthmark_server.errors import Misconfigured
from birthmark_server.settings import BrokerSettings
from birthmark_wire.encoding import read_json
from birthmark_wire.errors import DecodeError

SIGNS_OF_LIFE: Final = ("hello", "status")
MOST_AGENT_CHARS: Final = 64


class PresenceStore(Protocol):
    """What the ear tells the record: a part of store.protocol.Store."""

    def touch_device(self, device_id: str, *, at: datetime) -> None: ...

    def note_agent(self, device_id: str, *, agent: str, at: datetime) -> None: ...


def agent_in(hello: bytes) -> str:
    """Return what a hello says of the agent, at most MOST_AGENT_CHARS printable characters; empty if it says nothing
    that can be read."""
    try:
        agent = read_json(hello).optional_text("agent", max_chars=MOST_AGENT_CHARS) or ""
    except DecodeError:
        return ""
    return agent if agent.isascii() and agent.isprintable() else ""


def open_link(broker: BrokerSettings, *, anchors: Path, store: PresenceStore) -> BrokerLink:
    """Return this server's connection to the broker, not yet started. Raise Misconfigured if its certificate can't be
    used. anchors: PEM, what the broker's certificate must lead to."""

    def heard(device_id: str, leaf: str, payload: bytes, at: datetime) -> None:
        if leaf in SIGNS_OF_LIFE:
            store.touch_device(device_id, at=at)
        agent = agent_in(payload) if leaf == "hello" else ""
        if agent:
            store.note_agent(device_id, agent=agent, at=at)

    return _open(broker, anchors=anchors, suffix=broker.control_replica, on_message=heard)


def open_errand(broker: BrokerSettings, *, anchors: Path) -> BrokerLink:
    """Return a connection for a few commands of this process, beside the server's own; else as open_link()."""
    return _open(broker, anchors=anchors, suffix=f"cli-{os.getpid()}", on_message=None)


def _open(broker: BrokerSettings, *, anchors: Path, suffix: str, on_message: MessageHandler | None) -> BrokerLink:
    certificate = Path(broker.control_certificate)
    try:
        context = control_context(
            anchors=anchors, certificate=certificate, key=Path(broker.control_key), server_name=broker.host
        )
        subject = x509.load_pem_x509_certificate(certificate.read_bytes()).subject
    except (OSError, ValueError) as error:
        raise Misconfigured(f"can't use the control certificate {certificate}: {error}") from None
    name = str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    return BrokerLink(
        host=broker.control_host or broker.host,
        port=broker.control_port or broker.port,
        client_id=f"{name}.{suffix}",
        context=context,
        on_message=on_message,
    )
