"""The server's ear on its brokers: the connections, made from the settings. Who listens is rotation/engine.py."""

import os
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from birthmark_server.broker.assignment import Assignment, Shard
from birthmark_server.broker.link import Anchors, BrokerLink, MessageHandler, control_context
from birthmark_server.broker.shards import ShardedControl
from birthmark_server.denials import open_deny_file
from birthmark_server.errors import Misconfigured
from birthmark_server.settings import BrokerSettings, ShardSettings
from birthmark_wire.broker import BrokerEndpoint


def assignment_of(broker: BrokerSettings) -> Assignment:
    """Return which device goes to which broker. Raise Misconfigured."""
    return Assignment(_shard(one) for one in broker.every)


def open_control(broker: BrokerSettings, *, anchors: Anchors, on_message: MessageHandler) -> ShardedControl:
    """Return this server's connections to its brokers, not yet started. Raise Misconfigured if its certificate can't be
    used. anchors: what the brokers' certificates must lead to."""
    return _control(broker, anchors=anchors, suffix=broker.control_replica, on_message=on_message)


def open_errand(broker: BrokerSettings, *, anchors: Anchors) -> ShardedControl:
    """Return connections for a few commands, beside all others of this process: a server does several at once; else as
    open_control()."""
    suffix = f"cli-{os.getpid()}-{secrets.token_hex(4)}"
    return _control(broker, anchors=anchors, suffix=suffix, on_message=None)


def _control(
    broker: BrokerSettings, *, anchors: Anchors, suffix: str, on_message: MessageHandler | None
) -> ShardedControl:
    ways = {one.name: one for one in broker.every}

    def make_link(shard: Shard, heard: MessageHandler | None) -> BrokerLink:
        return _link(broker, ways[shard.name], anchors=anchors, suffix=suffix, on_message=heard)

    return ShardedControl(
        shards=[_shard(one) for one in broker.every],
        make_link=make_link,
        on_message=on_message,
        deny_file=open_deny_file(broker) if broker.deny_file and on_message else None,
    )


def _shard(one: ShardSettings) -> Shard:
    return Shard(one.name, BrokerEndpoint(one.host, one.port), drain=one.drain)


def _link(
    broker: BrokerSettings, way: ShardSettings, *, anchors: Anchors, suffix: str, on_message: MessageHandler | None
) -> BrokerLink:
    certificate = Path(broker.control_certificate)
    try:
        context = control_context(
            anchors=anchors, certificate=certificate, key=Path(broker.control_key), server_name=way.host
        )
        subject = x509.load_pem_x509_certificate(certificate.read_bytes()).subject
    except (OSError, ValueError) as error:
        raise Misconfigured(f"can't use the control certificate {certificate}: {error}") from None
    name = str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    return BrokerLink(
        host=way.control_host or way.host,
        port=way.control_port or way.port,
        client_id=f"{name}.{suffix}",
        context=context,
        on_message=on_message,
    )
