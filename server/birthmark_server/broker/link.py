"""The server's own connection to its broker: an MQTT 5 client with the control certificate, in a thread of its own.

It hears what devices publish (`topics.SERVER_SUBSCRIPTION`, shared by all replicas of the server), and carries what the
server publishes to them. The device id of a message is its topic's, and the gate let nobody but the holder of that
device's certificate publish there; what the payload says is the device's word.

Rules: the session persists (`clean_start` False), so what comes while the server restarts waits at the broker. A
message is acknowledged when its handler has returned; a handler that raises is logged, and stops nothing. Nothing is
queued here: the database is the queue, so publishing while there is no connection is refused. paho reconnects by
itself, with delays that double up to `RECONNECT_MAX_S`.
"""

import itertools
import logging
import queue
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from birthmark_server.broker.errors import BrokerRefused, BrokerUnavailable
from birthmark_server.broker.policy import ANSWER_TOPIC, CONTROL_TOPIC
from birthmark_wire import ids, topics
from birthmark_wire.encoding import JsonObject, read_json
from birthmark_wire.errors import DecodeError

RECONNECT_MIN_S: Final = 1
RECONNECT_MAX_S: Final = 60
KEEPALIVE_S: Final = 60
SESSION_EXPIRY_S: Final = 15
"""How long messages wait for a server that is away: longer than a restart takes, and no longer, for Mosquitto goes on
giving a replica that was killed its share of the devices' messages until then. What is lost is said again: by the
server to a device that is silent (rotation/round.py), by a device at its next hello."""

_MAX_INFLIGHT: Final = 1000
_log: Final = logging.getLogger(__name__)


class MessageHandler(Protocol):
    """Called for each message of a device, one at a time, on the link's thread; at: when it arrived here (UTC).

    leaf is one of topics.UP. The message is acknowledged when this returns or raises. It may call `publish`, never
    `ask`: the answer comes on this same thread.
    """

    def __call__(self, device_id: str, leaf: str, payload: bytes, at: datetime) -> None: ...


Anchors = Callable[[], bytes]
"""Returns the roots that are believed now, PEM."""


class _NamedContext(ssl.SSLContext):
    """A context that expects one server name, whatever address was dialled, and closes what fails its handshake.

    Each handshake is another context's, that trusts what `anchors` says then: roots come and go while a server runs.
    make: builds one that trusts these.
    """

    server_name: str
    anchors: Anchors
    make: Callable[[bytes], ssl.SSLContext]
    _built: tuple[bytes, ssl.SSLContext] | None = None

    def current(self) -> ssl.SSLContext:
        """Return the context of the next handshake."""
        anchors = self.anchors()
        if self._built is None or self._built[0] != anchors:
            self._built = anchors, self.make(anchors)
        return self._built[1]

    def wrap_socket(self, sock: socket.socket, *args: Any, **more: Any) -> ssl.SSLSocket:
        tls = self.current().wrap_socket(sock, *args, **{**more, "server_hostname": self.server_name})
        try:
            # paho asks for the handshake later, and then drops a socket that failed it without closing it.
            tls.do_handshake()
        except OSError:
            tls.close()
            raise
        return tls


def control_context(
    *, anchors: Anchors, certificate: Path, key: Path, server_name: str, passphrase: bytes | None = None
) -> ssl.SSLContext:
    """Return the TLS context of a control connection: TLS 1.3, no other trust than `anchors`, asked at each handshake.

    certificate: PEM, the control certificate and its CA's. server_name: as in the broker's certificate; the address
    that is dialled may be another. Raises OSError (ssl.SSLError where they don't fit together).
    """

    def trusting(roots: bytes) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=roots.decode())
        context.load_cert_chain(certificate, key, password=passphrase)
        return context

    named = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    named.server_name, named.anchors, named.make = server_name, anchors, trusting
    named.current()
    return named


def utc_now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


class BrokerLink:
    """One connection. client_id: the control certificate's id, or `ID.REPLICA`: one for each process of the server.

    on_message: None for an errand: it hears no device, leaves no session behind, and is there to ask and publish.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        client_id: str,
        context: ssl.SSLContext,
        on_message: MessageHandler | None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._address = (host, port)
        self._where = f"{host}:{port}"
        self._on_message = on_message
        self._clock = clock
        self._live = threading.Event()
        self._tried = threading.Event()
        self._network_thread = 0
        self._tags = itertools.count(1)
        self._answers: dict[str, queue.SimpleQueue[JsonObject]] = {}
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.tls_set_context(context)
        self._client.max_inflight_messages_set(_MAX_INFLIGHT)
        self._client.reconnect_delay_set(RECONNECT_MIN_S, RECONNECT_MAX_S)
        self._client.on_socket_open = _send_at_once
        self._client.on_connect = self._connected
        self._client.on_connect_fail = self._unreachable
        self._client.on_subscribe = self._subscribed
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._received

    def start(self) -> None:
        """Begin to connect, and keep connected; returns at once. A broker that is down is no error."""
        expiry = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho 2.2
        errand = self._on_message is None
        expiry.SessionExpiryInterval = 0 if errand else SESSION_EXPIRY_S
        self._client.connect_async(*self._address, keepalive=KEEPALIVE_S, clean_start=errand, properties=expiry)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect, and return when the thread has ended. The session stays at the broker."""
        self._live.clear()
        self._client.disconnect()
        self._client.loop_stop()

    def wait_live(self, timeout_s: float) -> bool:
        """Wait until connected and subscribed; return whether we are."""
        return self._live.wait(timeout_s)

    def wait_tried(self, timeout_s: float) -> bool:
        """Wait until the first attempt to connect has come to something; return whether we are connected."""
        self._tried.wait(timeout_s)
        return self._live.is_set()

    @property
    def live(self) -> bool:
        """Connected, and hearing the devices."""
        return self._live.is_set()

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None:
        """Hand a message to the broker: QoS 1, never retained. expires_s: the broker forgets it after so long.

        Returns before the broker has it: what must arrive is sent again from the database until the device answers.
        Raises BrokerUnavailable while there is no connection.
        """
        if not self._live.is_set():
            raise BrokerUnavailable(f"not connected to the broker at {self._where}")
        properties = None
        if expires_s is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho 2.2
            properties.MessageExpiryInterval = expires_s
        self._client.publish(topic, payload, qos=1, properties=properties)

    def ask(self, command: str, *, timeout_s: float = 5.0) -> JsonObject:
        """Send a command to the gate (server/mosquitto_gate/command.h, without its tag) and return the answer.

        Members `tag` and `ok` are read already. Raises BrokerUnavailable without an answer in time, BrokerRefused when
        the gate says no.
        """
        if threading.get_ident() == self._network_thread:
            raise RuntimeError("a message handler can't ask: the answer would have to come on its own thread")
        tag = f"{next(self._tags)}"
        answers = self._answers[tag] = queue.SimpleQueue()
        try:
            self.publish(CONTROL_TOPIC, f"{tag} {command}".encode(), expires_s=max(1, int(timeout_s)))
            answer = answers.get(timeout=timeout_s)
        except queue.Empty:
            raise BrokerUnavailable(f"the gate at {self._where} did not answer within {timeout_s} s") from None
        finally:
            del self._answers[tag]
        if not answer.boolean("ok"):
            raise BrokerRefused(f"the gate refused {command!r}: {answer.text('error')}")
        return answer

    # -- paho's callbacks, all on its thread

    def _connected(self, _client: Any, _data: Any, flags: paho.ConnectFlags, code: ReasonCode, _p: Any) -> None:
        self._network_thread = threading.get_ident()
        if code.is_failure:
            self._say("broker refused", reason=str(code))
            self._tried.set()
            return
        self._say("broker connected", session_present=bool(flags.session_present))
        if self._on_message is None:
            self._come_alive()
        else:
            self._client.subscribe(topics.SERVER_SUBSCRIPTION, qos=1)

    def _subscribed(self, _client: Any, _data: Any, _mid: int, codes: list[ReasonCode], _p: Any) -> None:
        if any(code.is_failure for code in codes):
            self._say("broker refused", reason=f"subscription: {codes[0]}")
            return
        self._come_alive()

    def _come_alive(self) -> None:
        self._live.set()
        self._tried.set()

    def _unreachable(self, _client: Any, _data: Any) -> None:
        self._say("broker unreachable")
        self._tried.set()

    def _disconnected(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _p: Any) -> None:
        self._live.clear()
        self._tried.set()
        self._say("broker disconnected", reason=str(code))

    def _received(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            if message.topic == ANSWER_TOPIC:
                self._take_answer(bytes(message.payload))
            else:
                self._take_message(message.topic, bytes(message.payload))
        except DecodeError as error:
            self._say("broker message unreadable", topic=message.topic[:200], reason=str(error))
        except Exception:  # noqa: BLE001  # this thread carries every device's messages: none of them may end it
            _log.exception("broker message failed", extra={"fields": {"topic": message.topic[:200]}})

    def _take_answer(self, payload: bytes) -> None:
        answer = read_json(payload)
        waiting = self._answers.get(answer.text("tag"))
        if waiting is not None:
            waiting.put(answer)

    def _take_message(self, topic: str, payload: bytes) -> None:
        match topic.split("/"):
            case ["devices", device, "up", leaf] if leaf in topics.UP and self._on_message is not None:
                self._on_message(ids.device_id(device, field="topic"), leaf, payload, self._clock())
            case _:
                raise DecodeError("want devices/ID/up/ and one of our leaves", field="topic")

    def _say(self, event: str, **fields: object) -> None:
        _log.info(event, extra={"fields": {"broker": self._where, **fields}})


def _send_at_once(_client: Any, _data: Any, sock: Any) -> None:
    """Turn Nagle's algorithm off: with it a command takes 40 ms."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
