"""Devices in software on a real broker: a paho client each, that takes over its own session when it rotates."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from birthmark_wire import topics
from support.mosquitto import Broker, running_broker
from support.pki import Leaf
from support.rotating import RotatingDevice, Said
from support.server import Identity, Installation, Server


@dataclass
class LiveDevice:
    """mute: leaves that it keeps to itself, to stand for messages lost."""

    device: RotatingDevice
    port: int
    folder: Path
    root_pem: Path
    mute: set[str] = field(default_factory=set)
    clients: list[paho.Client] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Connect, and stay so."""
        self.clients.append(self._connect(self.device.identity, threading.Event()))

    def stop(self) -> None:
        """Leave the broker; the session stays."""
        with self.turn:
            for client in self.clients:
                client.disconnect()
                client.loop_stop()
            self.clients.clear()

    def start_over(self) -> None:
        """Take over with the certificate that it has, as an agent does that was started anew."""
        self._take_over()

    def say(self, said: Said) -> None:
        """Publish on the newest connection."""
        for leaf, payload in said:
            if leaf not in self.mute:
                self.clients[-1].publish(topics.up(self.device.device_id, leaf), payload, qos=1)

    def _connect(self, identity: Identity, heard: threading.Event) -> paho.Client:
        context = ssl.create_default_context(cafile=str(self.root_pem))
        context.load_cert_chain(*identity.write(self.folder, self.device.device_id))
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=self.device.device_id, protocol=MQTTProtocolVersion.MQTTv5
        )
        client.tls_set_context(context)
        client.reconnect_delay_set(1, 2)

        def connected(*_: Any) -> None:
            client.subscribe(f"devices/{self.device.device_id}/down/#", qos=1)

        def subscribed(*_: Any) -> None:
            heard.set()
            for leaf, payload in self.device.hello():
                client.publish(topics.up(self.device.device_id, leaf), payload, qos=1)

        def received(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
            with self.lock:
                said = self.device.take(message.topic.rpartition("/")[2], bytes(message.payload))
                self.say(said)
                if self.device.spare is not None and "active" not in self.mute:
                    threading.Thread(target=self._take_over, daemon=True).start()

        client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, received
        expiry = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho 2.2
        expiry.SessionExpiryInterval = 3600
        client.connect_async("localhost", self.port, 60, clean_start=False, properties=expiry)
        client.loop_start()
        return client

    def _take_over(self) -> None:
        """One at a time. The lock is not held while a client's thread is waited for, which may want it itself."""
        with self.turn:
            spare = self.device.spare
            if spare is None or not self.clients:
                return
            self.clients[-1].loop_stop()  # it must not come back when the broker closes it
            heard = threading.Event()
            self.clients.append(self._connect(spare, heard))
            if heard.wait(20):
                with self.lock:
                    self.say(self.device.switch())


@contextmanager
def broker_of(
    site: Installation, leaf: Leaf | None = None, *, name: str = "mosquitto", **more: Any
) -> Iterator[Broker]:
    """Run a Mosquitto with our gate for this installation. leaf: its certificate; None for one for localhost. name: of
    its folder."""
    chain, key = (leaf or site.pki.broker()).write(site.folder, f"broker-{name}")
    authority = site.pki.authority
    with running_broker(
        site.folder / name,
        certificate=chain,
        key=key,
        roots=[authority.root.certificate],
        fleet=[authority.fleet.certificate],
        infra=[authority.infra.certificate],
        trust_domain=authority.namespace.trust_domain,
        signer=site.pki.deny_signer(),
        **more,
    ) as broker:
        yield broker


def born(site: Installation, server: Server, broker: Broker, serial: str) -> LiveDevice:
    """Enroll a device and give it its first LDevID; not yet connected."""
    tpm, device_id = site.listed_device(serial), f"dev-{serial.lower()}"
    ldevid = server.first_ldevid(tpm, server.enroll(tpm), device_id)
    of = RotatingDevice(device_id, tpm, ldevid, site.pki.authority.infra.certificate)
    return LiveDevice(of, broker.port, site.folder, site.pki.root_pem)


@contextmanager
def connected(devices: list[LiveDevice]) -> Iterator[None]:
    """Have them connected for the length of a with block."""
    for one in devices:
        one.start()
    try:
        yield
    finally:
        for one in devices:
            one.stop()
