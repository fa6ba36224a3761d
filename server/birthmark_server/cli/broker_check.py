"""Can this server use its broker? Asked with the control certificate: a connection, and the gate's own figures."""

import json
import socket
import ssl
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import NameOID
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from birthmark_server.broker.link import control_context
from birthmark_server.broker.policy import ANSWER_TOPIC, CONTROL_TOPIC
from birthmark_server.ca.roots import anchors_pem
from birthmark_server.settings import Settings, ShardSettings

_TIMEOUT_S: Final = 5.0
_TAG: Final = "doctor"
_SHOWN: Final = ("connected", "capacity", "refused", "lease_s")
"""What doctor has room for; `birthmark broker status` shows more."""


@dataclass(frozen=True, slots=True)
class BrokerAnswer:
    """What came of it. detail: the gate's figures, or what went wrong; advice: what to do then."""

    connected: bool
    detail: str
    advice: str = ""


def ask_broker(settings: Settings, one: ShardSettings) -> BrokerAnswer:
    """Connect to one of the brokers as the control identity beside a running server, ask its gate for its figures, and
    hang up."""
    broker = settings.broker
    host, port = one.control_host or one.host, one.control_port or one.port
    context = control_context(
        anchors=partial(anchors_pem, Path(settings.ca.folder)),
        certificate=Path(broker.control_certificate),
        key=Path(broker.control_key),
        server_name=one.host,
    )
    # Client ids ID.APP share the rights of ID, and so this does not take over the server's own session.
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"{_control_name(broker.control_certificate)}.{_TAG}",
        protocol=MQTTProtocolVersion.MQTTv5,
        reconnect_on_failure=False,
    )
    client.tls_set_context(context)
    done, heard = threading.Event(), _Heard(client)
    heard.watch(done)
    try:
        client.connect(host, port, keepalive=10)
    except ssl.SSLError as error:
        return BrokerAnswer(False, f"TLS: {error.reason}", "does the broker have a certificate of this installation?")
    except socket.gaierror as error:
        advice = f"{host} has no address here: DNS, /etc/hosts, or control_host under [broker]"
        return BrokerAnswer(False, error.strerror or str(error), advice)
    except OSError as error:
        return BrokerAnswer(False, error.strerror or str(error), "is Mosquitto running? systemctl status mosquitto")
    client.loop_start()
    done.wait(_TIMEOUT_S)
    client.disconnect()
    client.loop_stop()
    if heard.answer is not None:
        return BrokerAnswer(True, ", ".join(f"{name} {heard.answer.get(name, '?')}" for name in _SHOWN))
    return BrokerAnswer(
        False, heard.refusal or "no answer from the gate", "birthmark broker config writes its configuration anew"
    )


class _Heard:
    """What the broker said."""

    def __init__(self, client: paho.Client) -> None:
        self._client = client
        self.answer: dict[str, Any] | None = None
        self.refusal = ""

    def watch(self, done: threading.Event) -> None:
        """Note everything until `done`."""

        def connected(client: paho.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
            if code.is_failure:
                self.refusal = f"refused the connection: {code}"
                done.set()
            else:
                client.subscribe(ANSWER_TOPIC, qos=1)

        def subscribed(client: paho.Client, _data: Any, _mid: int, _codes: Any, _properties: Any) -> None:
            client.publish(CONTROL_TOPIC, f"{_TAG} stats", qos=1)

        def received(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
            self.answer = json.loads(message.payload)
            done.set()

        def disconnected(_client: paho.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
            self.refusal = self.refusal or f"ended the connection: {code}"
            done.set()

        self._client.on_connect = connected
        self._client.on_subscribe = subscribed
        self._client.on_message = received
        self._client.on_disconnect = disconnected


def _control_name(path: str) -> str:
    certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
