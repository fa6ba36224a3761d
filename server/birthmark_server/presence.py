"""The server's ear on the broker: its connection, made from the settings. Who listens is rotation/engine.py."""

import os
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from birthmark_server.broker.link import BrokerLink, MessageHandler, control_context
from birthmark_server.errors import Misconfigured
from birthmark_server.settings import BrokerSettings


def open_link(broker: BrokerSettings, *, anchors: bytes, on_message: MessageHandler) -> BrokerLink:
    """Return this server's connection to the broker, not yet started. Raise Misconfigured if its certificate can't be
    used. anchors: PEM, what the broker's certificate must lead to."""
    return _open(broker, anchors=anchors, suffix=broker.control_replica, on_message=on_message)


def open_errand(broker: BrokerSettings, *, anchors: bytes) -> BrokerLink:
    """Return a connection for a few commands, beside all others of this process: a server does several at once; else as
    open_link()."""
    return _open(broker, anchors=anchors, suffix=f"cli-{os.getpid()}-{secrets.token_hex(4)}", on_message=None)


def _open(broker: BrokerSettings, *, anchors: bytes, suffix: str, on_message: MessageHandler | None) -> BrokerLink:
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
