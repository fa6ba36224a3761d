"""An MQTT client for tests: paho in its thread, and everything that happened kept in order, to be waited for.

MQTT 5 unless 3.1.1 is asked for.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

WAIT_S = 30.0


class Client:
    """One client, not yet connected. Never reconnects by itself, so that what ended it can be seen."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        client_id: str,
        *,
        username: str = "",
        password: str | None = "x",
        protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5,
    ) -> None:
        self._v5 = protocol is MQTTProtocolVersion.MQTTv5
        self.client_id = client_id
        self.connack: ReasonCode | None = None
        self.session_present = False
        self.ended: str = ""
        self.messages: list[tuple[str, bytes]] = []
        self.subacks: list[int] = []
        self.pubacks: dict[int, int] = {}
        self._port = port
        self._changed = threading.Condition()
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=protocol,
            reconnect_on_failure=False,
        )
        self.paho.tls_set_context(context)
        if username:
            self.paho.username_pw_set(username, password)
        self.paho.on_socket_open = _send_at_once
        self.paho.on_connect = self._connected
        self.paho.on_disconnect = self._disconnected
        self.paho.on_message = self._received
        self.paho.on_subscribe = self._subscribed
        self.paho.on_publish = self._published

    def will(self, topic: str, payload: bytes, *, delay_s: int = 0) -> None:
        """Leave a will; before connect()."""
        properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]  # paho 2.2
        properties.WillDelayInterval = delay_s
        self.paho.will_set(topic, payload, qos=1, properties=properties)

    def connect(self, *, session_expiry_s: int = 0, clean_start: bool = True, keepalive_s: int = 60) -> "Client":
        """Connect; return when there is a CONNACK or an end. Does not raise for a refusal: see `refused`.

        Unless asked for, the session ends with the connection, so that no test finds another's subscriptions.
        """
        more: dict[str, Any] = {}
        if self._v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho 2.2
            properties.SessionExpiryInterval = session_expiry_s
            more = {"clean_start": clean_start, "properties": properties}
        try:
            self.paho.connect("localhost", self._port, keepalive_s, **more)
        except OSError as error:
            self.ended = f"TLS: {error}"
            return self
        self.paho.loop_start()
        self.wait(lambda: self.connack is not None or bool(self.ended))
        return self

    @property
    def up(self) -> bool:
        """Connected, as far as this side knows."""
        return self.connack is not None and not self.connack.is_failure and not self.ended

    @property
    def refused(self) -> bool:
        """Never let in."""
        return self.connack is None or bool(self.connack.is_failure)

    def subscribe(self, topic: str) -> int:
        """Subscribe; return the reason code of the SUBACK (0 to 2 granted, 135 not authorized)."""
        before = len(self.subacks)
        self.paho.subscribe(topic, qos=1)
        self.wait(lambda: len(self.subacks) > before or bool(self.ended))
        return self.subacks[before] if len(self.subacks) > before else -1

    def publish(self, topic: str, payload: bytes) -> int:
        """Publish, QoS 1; return the reason code of the PUBACK (0 or 16 taken, 135 not authorized), -1 for none."""
        info = self.paho.publish(topic, payload, qos=1)
        self.wait(lambda: info.mid in self.pubacks or bool(self.ended))
        return self.pubacks.get(info.mid, -1)

    def wait(self, condition: Any, timeout_s: float = WAIT_S) -> bool:
        """Wait until `condition()` holds; return whether it does."""
        with self._changed:
            return bool(self._changed.wait_for(condition, timeout_s))

    def wait_message(self, topic: str, payload: bytes, timeout_s: float = WAIT_S) -> bool:
        """Wait for one message."""
        return self.wait(lambda: (topic, payload) in self.messages, timeout_s)

    def wait_end(self, timeout_s: float = WAIT_S) -> str:
        """Wait for the end of the connection; return its reason."""
        self.wait(lambda: bool(self.ended), timeout_s)
        return self.ended

    def close(self) -> None:
        """Disconnect in order."""
        self.paho.disconnect()
        self.paho.loop_stop()

    def drop(self) -> None:
        """End the connection without a goodbye, so that the will is sent."""
        sock = self.paho.socket()
        if isinstance(sock, ssl.SSLSocket):
            sock.shutdown(socket.SHUT_RDWR)
        self.wait_end()
        self.paho.loop_stop()

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _connected(self, _client: Any, _data: Any, flags: paho.ConnectFlags, code: ReasonCode, _p: Any) -> None:
        self.session_present = bool(flags.session_present)
        self.connack = code
        self._note()

    def _disconnected(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _p: Any) -> None:
        self.ended = str(code)
        self._note()

    def _received(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload)))
        self._note()

    def _subscribed(self, _client: Any, _data: Any, _mid: int, codes: list[ReasonCode], _p: Any) -> None:
        self.subacks += [code.value for code in codes]
        self._note()

    def _published(self, _client: Any, _data: Any, mid: int, code: ReasonCode, _p: Any) -> None:
        self.pubacks[mid] = code.value
        self._note()


@contextmanager
def connected(port: int, context: ssl.SSLContext, client_id: str, **more: Any) -> Iterator[Client]:
    """Run a client that must be let in. more: of connect()."""
    client = Client(port, context, client_id).connect(**more)
    try:
        if not client.up:
            raise AssertionError(f"{client_id} was not let in: {client.connack} {client.ended}")
        yield client
    finally:
        client.close()


def _send_at_once(_client: Any, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def settle(seconds: float = 0.3) -> None:
    """Give what must not happen the time in which it would."""
    time.sleep(seconds)
