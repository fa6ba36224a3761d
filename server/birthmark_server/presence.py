"""The server's ear on its brokers: the connections, made from the settings. Who listens is rotation/engine.py."""

import os
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from birthmark_server.broker.assignment import Assignment, Shard
from birthmark_server.broker.control import BrokerControl
from birthmark_server.broker.denyfile import DenyList
from birthmark_server.broker.link import Anchors, BrokerLink, MessageHandler, control_context
from birthmark_server.broker.rabbitmq import ManagementApi, RabbitEar
from birthmark_server.broker.rabbitmq_config import MANAGEMENT_USER
from birthmark_server.broker.rabbitmq_door import RabbitDoor
from birthmark_server.broker.rabbitmq_http import RabbitDoorServer
from birthmark_server.broker.rabbitmq_live import RabbitServer, trust_folder
from birthmark_server.broker.shards import ShardedControl, ShardHealth
from birthmark_server.broker.trust_files import FLEET_FILE, IssuersInForce
from birthmark_server.broker_records import StoreRecords
from birthmark_server.ca import passphrase
from birthmark_server.denials import open_deny_file
from birthmark_server.errors import Misconfigured
from birthmark_server.settings import BrokerSettings, ShardSettings
from birthmark_wire.broker import BrokerEndpoint


class Presence(BrokerControl, Protocol):
    """A server's ear and hand at its brokers, from start() to stop(): ShardedControl, RabbitServer."""

    @property
    def live(self) -> bool:
        """Whether at least one broker can be used."""

    @property
    def all_live(self) -> bool:
        """Whether all of them hear us."""

    def start(self) -> None:
        """Begin; returns at once."""

    def stop(self) -> None:
        """End."""

    def tell(self, denied: DenyList, *, devices: Collection[str], serials: Collection[str]) -> None:
        """Run ahead of the list `denied`, which is on the disk. Raises nothing."""

    def each_health(self) -> list[ShardHealth]:
        """Ask each how it is; those that don't answer are in the list too."""

    def each_issuers(self) -> Mapping[str, IssuersInForce]:
        """Ask each by which CAs it judges, by its address; those that don't answer are left out."""


@dataclass(frozen=True, slots=True)
class RabbitNeeds:
    """What a RabbitMQ cluster needs of a server besides the settings of the broker: see RabbitServer."""

    records: StoreRecords
    crl_every_s: float


def assignment_of(broker: BrokerSettings) -> Assignment:
    """Return which device goes to which broker. Raise Misconfigured."""
    return Assignment(_shard(one) for one in broker.every)


def open_control(
    broker: BrokerSettings, *, anchors: Anchors, on_message: MessageHandler, rabbit: RabbitNeeds | None = None
) -> Presence:
    """Return this server's connections to its brokers, not yet started. Raise Misconfigured if its certificate can't be
    used. anchors: what the brokers' certificates must lead to. rabbit: given for `kind = "rabbitmq"`."""
    if rabbit is not None:
        return _rabbit_server(broker, rabbit, on_message)
    return _control(broker, anchors=anchors, suffix=broker.control_replica, on_message=on_message)


def open_errand(broker: BrokerSettings, *, anchors: Anchors) -> ShardedControl:
    """Return connections for a few commands, beside all others of this process: a server does several at once; else as
    open_control()."""
    suffix = f"cli-{os.getpid()}-{secrets.token_hex(4)}"
    return _control(broker, anchors=anchors, suffix=suffix, on_message=None)


def management_api(broker: BrokerSettings) -> ManagementApi:
    """Return the way to the nodes of a RabbitMQ cluster. Raise PassphraseUnavailable."""
    urls = [urlsplit(url) for url in broker.rabbitmq.management]
    return ManagementApi(
        tuple((url.hostname or "", url.port or 0) for url in urls),
        MANAGEMENT_USER,
        passphrase.read(broker.rabbitmq.management_password).decode(),
    )


def door_endpoint(broker: BrokerSettings) -> tuple[str, int]:
    """Return where the node on this machine asks us: host and port."""
    host, _, port = broker.rabbitmq.door.rpartition(":")
    return host.strip("[]"), int(port)


def _rabbit_server(broker: BrokerSettings, needs: RabbitNeeds, on_message: MessageHandler) -> RabbitServer:
    api, deny_file = management_api(broker), open_deny_file(broker)
    fleet = trust_folder(deny_file) / FLEET_FILE
    if not fleet.exists():
        raise Misconfigured(f"there is no {fleet}: birthmark broker config-rabbitmq writes it")
    trust_domain = needs.records.trust_domain
    door = RabbitDoor(trust_domain=trust_domain, deny_file=deny_file, shut_out=needs.records.shut_out)
    host, port = door_endpoint(broker)
    return RabbitServer(
        shard=_shard(broker.every[0]),
        answers=RabbitDoorServer(door, host=host, port=port),
        ear=RabbitEar(api=api, on_message=on_message),
        crl_every_s=needs.crl_every_s,
        api=api,
        door=door,
        deny_file=deny_file,
        records=needs.records,
        trust_domain=trust_domain,
    )


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
