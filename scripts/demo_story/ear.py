"""What the broker itself says: messages as they arrive, and the gate's list of who is connected with which certificate.

A control identity of the installation, beside the server's own: it may read all `up` topics and ask the gate.
"""

import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from birthmark_server.broker.policy import ANSWER_TOPIC, CONTROL_TOPIC
from birthmark_server.settings import Settings
from demo_story.parts import PartFailed

CONTROL_ID: Final = "srv-control.demo"
_CONNECT_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Heard:
    """One message on devices/ID/up/LEAF. at_s: time.monotonic() of its arrival here."""

    device_id: str
    leaf: str
    payload: dict[str, Any]
    at_s: float


class BrokerEar:
    """A connection to the broker. on_message: called on paho's thread."""

    def __init__(self, settings: Settings, *, root_pem: str, on_message: Callable[[Heard], None]) -> None:
        broker = settings.broker
        context = ssl.create_default_context(cafile=root_pem)
        context.load_cert_chain(broker.control_certificate, broker.control_key)
        self._on_message = on_message
        self._subscribed = threading.Event()
        self._connections: dict[str, str] = {}
        self._page: dict[str, str] = {}
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=CONTROL_ID, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.tls_set_context(context)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._received
        self._address = (broker.host, broker.port)

    def open(self) -> None:
        """Connect and subscribe; raise PartFailed."""
        self._client.connect(*self._address, keepalive=30)
        self._client.loop_start()
        if not self._subscribed.wait(_CONNECT_TIMEOUT_S):
            raise PartFailed("the broker does not let the control identity in")

    def close(self) -> None:
        """Hang up."""
        self._client.disconnect()
        self._client.loop_stop()

    def ask_connections(self) -> None:
        """Ask the gate who is connected; `serial_of` knows soon."""
        self._client.publish(CONTROL_TOPIC, "demo list")

    def serial_of(self, device_id: str) -> str:
        """Return the serial number of the certificate that the device's live connection showed, by the gate's word."""
        return self._connections.get(device_id, "")

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if not code.is_failure:
            client.subscribe([("devices/+/up/#", 1), (ANSWER_TOPIC, 1)])

    def _received(self, client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        at_s = time.monotonic()
        payload = json.loads(message.payload)
        if message.topic == ANSWER_TOPIC:
            self._take(client, payload)
            return
        _, device_id, _, leaf = message.topic.split("/", 3)
        self._on_message(Heard(device_id, leaf, payload, at_s))

    def _take(self, client: paho.Client, answer: dict[str, Any]) -> None:
        self._page |= {one["id"]: one["serial"] for one in answer.get("connections", []) if one["role"] == "device"}
        if answer.get("next"):
            client.publish(CONTROL_TOPIC, f"demo list {answer['next']}")
            return
        self._connections, self._page = self._page, {}
