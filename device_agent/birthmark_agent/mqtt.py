"""One MQTT 5 connection of one identity, driven from outside: no thread, no reconnect of its own.

paho-mqtt does the protocol; its sockets are polled here together, so that two connections (the old identity's and the
new one's, during a rotation) and the agent's wake-up share one loop, and no client ever comes back by itself to fight
its successor for the session.

Rules: `clean_start` is False, or each connect would wipe the session with its messages; only a device that has just
been born begins with a clean one (a board that was swapped out may have left its own behind). The will waits
WILL_DELAY_S, so a take-over announces no death (MQTT 5 §3.1.3.2.2). TCP_NODELAY from the first byte (36 ms against 0.6
where Nagle meets delayed ACKs). The wire's alert for a refused certificate arrives after a TLS 1.3 handshake: whoever
owns the session asks the server over HTTPS before concluding anything from a cut connection.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from birthmark_agent.errors import AgentError
from birthmark_agent.http import TlsFailed, Unreachable, explain_failure
from birthmark_agent.waitable import Waitable
from birthmark_wire import topics
from birthmark_wire.encoding import write_json

WILL_DELAY_S: Final = 5
_MAX_INFLIGHT: Final = 100
_POLL_MOST_S: Final = 5.0

OnMessage = Callable[[str, bytes], None]
OnPublished = Callable[["Session", int, bool], None]


class BrokerRefused(AgentError):
    """The broker answered and said no. reason: MQTT 5's name of its reason code."""

    code = "broker-refused"
    advice = "ask the operator whether this device is revoked or denied: `birthmark device show` on the server"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ConnectionLost(AgentError):
    """The connection to the broker ended. taken_over: by another connection of ours."""

    code = "broker-connection-lost"
    advice = "`birthmark-agent trace` shows at which step; the broker's log says why it cut the connection"

    def __init__(self, message: str, *, taken_over: bool = False) -> None:
        super().__init__(message)
        self.taken_over = taken_over


class SessionState(StrEnum):
    """A session goes through these in order, and to CLOSED from any."""

    NEW = "new"
    CONNECTING = "connecting"
    SUBSCRIBING = "subscribing"
    LIVE = "live"
    CLOSED = "closed"


class Session:
    """One connection. on_message: called with the topic below `devices/ID/down/` and the payload; the message is
    acknowledged to the broker when it returns, unless acknowledge is False: then it comes again in a later connection.
    on_published: called with the session, what publish() returned as `.mid`, and whether the broker took it. client_id:
    the device id where it is empty."""

    def __init__(
        self,
        *,
        device_id: str,
        host: str,
        port: int,
        context: ssl.SSLContext,
        keepalive_s: int,
        session_expiry_s: int,
        connect_timeout_s: float,
        on_message: OnMessage,
        on_published: OnPublished = lambda *_: None,
        client_id: str = "",
        acknowledge: bool = True,
        clean_start: bool = False,
    ) -> None:
        self.device_id = device_id
        self.state = SessionState.NEW
        self.session_present = False
        self.failure: AgentError | None = None
        self.where = f"{host}:{port}"
        self.address = (host, port)
        self._keepalive_s = keepalive_s
        self._session_expiry_s = session_expiry_s
        self._clean_start = clean_start
        self._on_message = on_message
        self._on_published = on_published
        self._below = len(topics.down(device_id, ""))
        self._last_error = ""
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or device_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=not acknowledge,
        )
        self._client.connect_timeout = connect_timeout_s
        self._client.max_inflight_messages_set(_MAX_INFLIGHT)
        self._dialer = _Dialer(context)
        self._client.tls_set_context(self._dialer)  # type: ignore[arg-type]  # it calls wrap_socket and nothing else
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._subscribed
        self._client.on_message = self._received
        self._client.on_publish = self._published
        self._client.on_disconnect = self._disconnected
        self._client.on_log = self._logged

    def open(self, *, will: bool = True) -> None:
        """Connect, with the TLS handshake, and send CONNECT; CONNACK and SUBACK come with drive().

        Raises Unreachable, TlsFailed, TlsKeyFailed or TpmError (our own key could not sign).
        """
        if will:
            topic, delay = (
                topics.up(self.device_id, "status"),
                _properties("WILLMESSAGE", WillDelayInterval=WILL_DELAY_S),
            )
            self._client.will_set(topic, status_payload("offline", "lost"), qos=1, properties=delay)
        expiry = _properties("CONNECT", SessionExpiryInterval=self._session_expiry_s)
        self.state = SessionState.CONNECTING
        try:
            self._client.connect(*self.address, self._keepalive_s, clean_start=self._clean_start, properties=expiry)
        except (OSError, ValueError) as error:
            self._dialer.close()
            self.state = SessionState.CLOSED
            self.failure = explain_failure(error, self.where)
            raise self.failure from error.__cause__

    def publish(self, leaf: str, payload: bytes) -> paho.MQTTMessageInfo:
        """Publish to our own `up` topic, QoS 1. `.is_published()` of the result: the broker has it."""
        return self._client.publish(topics.up(self.device_id, leaf), payload, qos=1)

    def has(self, sent: paho.MQTTMessageInfo) -> bool:
        """Return whether the broker has what publish() was given."""
        try:
            return bool(sent.is_published())
        except (ValueError, RuntimeError):  # it was given while there was no connection
            return False

    def close(self, *, announce: bool) -> None:
        """Say goodbye in order: no will is sent. announce: publish `offline` first, as a person's stop does."""
        if announce and self.state is SessionState.LIVE:
            farewell = self.publish("status", status_payload("offline", "stopped"))
            drive_until([self], farewell.is_published, timeout_s=2.0)
        self._client.disconnect()
        self._dialer.close()
        self.state = SessionState.CLOSED

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The TLS socket while there is one."""
        sock = self._client.socket()
        return sock if isinstance(sock, ssl.SSLSocket) else None

    def peer_not_after(self) -> datetime | None:
        """Return the end of the broker's certificate, None where there is no connection."""
        peer = self.tls.getpeercert() if self.tls else None
        if not peer:
            return None
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(peer["notAfter"])), UTC)

    def raise_failure(self) -> None:
        """Raise what ended this session, if it ended."""
        if self.state is SessionState.CLOSED:
            raise self.failure or ConnectionLost(f"{self.where}: the connection is closed")

    # -- paho's callbacks: each only notes what happened

    def _connected(self, _client: Any, _data: Any, flags: paho.ConnectFlags, code: ReasonCode, _p: Any) -> None:
        if code.is_failure:
            self._fail(BrokerRefused(f"{self.where} refused the connection: {code}", reason=str(code)))
            return
        self.session_present = bool(flags.session_present)
        self.state = SessionState.SUBSCRIBING
        self._client.subscribe(topics.down(self.device_id, "#"), qos=1)

    def _subscribed(self, _client: Any, _data: Any, _mid: int, codes: list[ReasonCode], _p: Any) -> None:
        refused = next((code for code in codes if code.is_failure), None)
        if refused is not None:
            self._fail(BrokerRefused(f"{self.where} refused our subscription: {refused}", reason=str(refused)))
            self._client.disconnect()
        elif self.state is SessionState.SUBSCRIBING:
            self.state = SessionState.LIVE

    def _received(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._on_message(message.topic[self._below :], bytes(message.payload))

    def _published(self, _client: Any, _data: Any, mid: int, code: ReasonCode, _p: Any) -> None:
        self._on_published(self, mid, not code.is_failure)

    def _disconnected(self, _client: Any, _data: Any, flags: paho.DisconnectFlags, code: ReasonCode, _p: Any) -> None:
        by_broker = flags.is_disconnect_packet_from_server
        if by_broker and code.getName() == "Session taken over":
            self._fail(ConnectionLost(f"{self.where}: another connection took the session over", taken_over=True))
        elif by_broker:
            self._fail(BrokerRefused(f"{self.where} ended the connection: {code}", reason=str(code)))
        elif "alert" in self._last_error.lower():
            self._fail(TlsFailed(f"{self.where} refused us: {_alert_name(self._last_error)}", peer=True))
        else:
            self._fail(ConnectionLost(f"{self.where}: the connection was cut"))

    def _logged(self, _client: Any, _data: Any, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR:
            self._last_error = text

    def _fail(self, error: AgentError) -> None:
        self.failure = self.failure or error  # the first word is the true one
        self.state = SessionState.CLOSED

    # -- the loop's side

    def _step(self, events: int) -> None:
        readable = events & (select.POLLIN | select.POLLHUP | select.POLLERR)
        if readable or self._pending():
            self._client.loop_read()
        if events & select.POLLOUT:
            self._client.loop_write()
        if self._client.loop_misc() is MQTTErrorCode.MQTT_ERR_CONN_LOST and self.failure is None:
            self._fail(ConnectionLost(f"{self.where}: no sign of life"))

    def _pending(self) -> bool:
        return self.tls is not None and self.tls.pending() > 0

    def _interest(self) -> tuple[int, int] | None:
        sock = self._client.socket()
        if sock is None or self.state is SessionState.CLOSED:
            return None
        return sock.fileno(), select.POLLIN | (select.POLLOUT if self._client.want_write() else 0)


def drive(
    sessions: Sequence[Session],
    *,
    timeout_s: float,
    wake: socket.socket | None = None,
    others: Sequence[Waitable] = (),
) -> None:
    """Wait for events on all sessions, on `others` and on `wake` (which is drained), handle them; return after
    timeout_s at most."""
    poll = select.poll()
    by_fd: dict[int, Session] = {}
    for session in sessions:
        interest = session._interest()
        if interest is not None:
            by_fd[interest[0]] = session
            poll.register(*interest)
    if wake is not None:
        poll.register(wake.fileno(), select.POLLIN)
    for other in others:
        timeout_s = min(timeout_s, other.wait_s())
        for fd, events in other.interests():
            poll.register(fd, events)
    if any(session._pending() for session in by_fd.values()):
        timeout_s = 0.0
    ready = dict(poll.poll(max(0.0, min(timeout_s, _POLL_MOST_S)) * 1000))
    if wake is not None and ready.pop(wake.fileno(), 0):
        wake.recv(4096)
    for fd, session in by_fd.items():
        session._step(ready.get(fd, 0))
    for other in others:
        other.step(ready)


def drive_until(
    sessions: Sequence[Session], done: Callable[[], bool], *, timeout_s: float, others: Sequence[Waitable] = ()
) -> bool:
    """Drive until `done()` or until the time is over; return whether it was done."""
    deadline = time.monotonic() + timeout_s
    while not done():
        left = deadline - time.monotonic()
        if left <= 0 or all(session.state is SessionState.CLOSED for session in sessions):
            return done()
        drive(sessions, timeout_s=left, others=others)
    return True


def wait_live(
    session: Session, *, timeout_s: float, beside: Sequence[Session] = (), others: Sequence[Waitable] = ()
) -> None:
    """Drive until `session` is LIVE, others beside it; raise what ended it, or Unreachable if nothing came in time."""
    ended = (SessionState.LIVE, SessionState.CLOSED)
    drive_until([session, *beside], lambda: session.state in ended, timeout_s=timeout_s, others=others)
    session.raise_failure()
    if session.state is not SessionState.LIVE:
        asked = "SUBSCRIBE" if session.state is SessionState.SUBSCRIBING else "CONNECT"
        raise Unreachable(f"{session.where}: no answer to {asked} in {timeout_s:g} s")


def status_payload(state: str, reason: str) -> bytes:
    """Return what `up/status` says; the last will is one too."""
    return write_json({"state": state, "reason": reason})


def _properties(packet: str, **values: int) -> Properties:
    properties = Properties(getattr(PacketTypes, packet))  # type: ignore[no-untyped-call]  # paho types all but this
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _alert_name(text: str) -> str:
    """Return "certificate revoked" from paho's log line "... [SSL: SSLV3_ALERT_CERTIFICATE_REVOKED] ..."."""
    _before, _alert, rest = text.upper().partition("ALERT_")
    return rest.partition("]")[0].lower().replace("_", " ") or "TLS alert"


class _Dialer:
    """Stands between paho and the TLS context, so that the handshake too runs without Nagle's delay, and so that a
    socket whose handshake failed is closed (paho forgets it)."""

    check_hostname = True  # paho asks, and would otherwise check with a function that Python 3.12 no longer has

    def __init__(self, context: ssl.SSLContext) -> None:
        if not context.check_hostname:
            raise ValueError("want a context that checks the server's name")
        self._context = context
        self._socket: ssl.SSLSocket | None = None

    def wrap_socket(self, sock: socket.socket, **options: Any) -> ssl.SSLSocket:
        """As ssl.SSLContext.wrap_socket."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = self._context.wrap_socket(sock, **options)
        return self._socket

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self._socket is not None:
            self._socket.close()
