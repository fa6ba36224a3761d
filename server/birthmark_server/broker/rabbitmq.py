"""BrokerControl for a RabbitMQ cluster, by its management API on any node; and how a server hears the devices there.

Who gets in is asked of our servers (rabbitmq_door.py) and decided by TLS with CRLs; here are the acts: deny, cut, list,
publish. The nodes' API listens on loopback: a server runs beside a node, and asks the next where that one is down.

RabbitMQ does not know serial numbers. A connection shows the validity of its certificate; which one that is `Records`
finds, by the device's own. A list of connections is as old as the nodes' statistics: connections() waits that out.
"""

import base64
import http.client
import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from cryptography import x509

from birthmark_server.broker.control import BrokerHealth, Connection
from birthmark_server.broker.denyfile import Denials, DenyFile, DenyList
from birthmark_server.broker.errors import BrokerRefused, BrokerUnavailable
from birthmark_server.broker.link import MessageHandler, utc_now
from birthmark_server.broker.policy import Role
from birthmark_server.broker.rabbitmq_door import EXCHANGE, RabbitDoor
from birthmark_server.broker.trust_files import FLEET_FILE, INFRA_FILE, IssuersInForce, TrustSet, fingerprint
from birthmark_wire import ids, topics
from birthmark_wire.errors import DecodeError

QUEUE: Final = "birthmark"
"""Shared by all servers: each message goes to one of them."""

_BINDING: Final = "devices.*.up.*"
_QUEUE_BYTES: Final = 268_435_456
_TIMEOUT_S: Final = 5.0
_AT_ONCE: Final = 500
_PAUSE_S: Final = 0.05
_INTERVALS: Final = 4
_PATIENCE_S: Final = 10.0
_log: Final = logging.getLogger(__name__)


class Records(Protocol):
    """What our own records say of certificates."""

    def serial_of(self, device_id: str, not_before: datetime, not_after: datetime) -> str:
        """Return the serial number of the device's certificate with this validity, to the second; empty where none, or
        more than one, has it."""

    def device_of(self, serial: str) -> str:
        """Return whose certificate it is; empty where nobody knows."""

    def write_crls(self, fleet: Sequence[x509.Certificate]) -> None:
        """Put a CRL of each of these CAs, and of no other, where every node reads them (rabbitmq_config.write_crls);
        they name all that is revoked. Raises OSError."""


@dataclass(frozen=True, slots=True)
class ManagementApi:
    """The HTTP API of the nodes. endpoints: host and port of each, the nearest first."""

    endpoints: tuple[tuple[str, int], ...]
    user: str
    password: str

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Send one request to the first node that answers; return its JSON, None for none and for what is not there.

        Raises BrokerUnavailable, BrokerRefused.
        """
        for host, port in self.endpoints:
            try:
                return self._ask(host, port, method, path, body)
            except (OSError, http.client.HTTPException) as error:
                failure = f"{host}:{port}: {error}"
        raise BrokerUnavailable(f"no node of the cluster answers: {failure}")

    def _ask(self, host: str, port: int, method: str, path: str, body: object) -> Any:
        credentials = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, f"/api{path}", None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status == 404:
            return None
        if response.status >= 500:
            raise http.client.HTTPException(f"{response.status} {content[:200]!r}")
        if response.status >= 300:
            raise BrokerRefused(f"{method} {path}: {response.status} {content[:200]!r}")
        return json.loads(content) if content else None


class RabbitControl:
    """BrokerControl. trust_folder: of the nodes' ca-bundle.pem (trust_files.py). statistics_s: how often the nodes
    gather their statistics (rabbitmq_config.STATISTICS_MS)."""

    def __init__(
        self,
        *,
        api: ManagementApi,
        door: RabbitDoor,
        deny_file: DenyFile,
        records: Records,
        trust_domain: str,
        trust_folder: Path,
        statistics_s: float,
    ) -> None:
        self._trust_folder = trust_folder
        self._api = api
        self._door = door
        self._deny_file = deny_file
        self._records = records
        self._prefix = ids.device_uri(trust_domain, "")
        self._trust_domain = trust_domain
        self._statistics_s = statistics_s

    def deny(self, *, devices: Collection[str] = (), serials: Collection[str] = ()) -> DenyList:
        """See BrokerControl. The list is on the disk first, then the CRLs; then every connection of these devices is
        cut, for RabbitMQ can't tell which of them used the certificate: one with another comes back at once."""
        denied = self._deny_file.add(devices=devices, serials=serials)
        if serials:
            self.write_crls()
        try:
            self.cut(devices=devices, serials=serials)
        except (BrokerUnavailable, BrokerRefused) as error:
            _log.warning("broker not told by command", extra={"fields": {"reason": str(error)}})
        return denied

    def write_crls(self) -> None:
        """Have the nodes' CRLs name all that is revoked, of each Fleet CA in force. Raises OSError, and what
        `Records` does."""
        self._records.write_crls(self._fleet())

    def cut(self, *, devices: Collection[str], serials: Collection[str]) -> None:
        """Cut every connection of these devices, and of those whose certificates these are."""
        met = {*devices, *(self._records.device_of(serial) for serial in serials)} - {""}
        for device_id in sorted(met):
            self.kick(device_id)

    def set_denied(self, read_denials: Callable[[], Denials]) -> DenyList:
        """See BrokerControl."""
        return self._deny_file.replace(read_denials)

    def kick(self, device_id: str) -> int:
        """See BrokerControl."""
        live = self._live(device_id)
        if live:
            self._api.ask("DELETE", self._path(device_id))
        return len(live)

    def sweep(self, *, at: datetime) -> int:
        """Cut who is connected with a certificate that is over or denied, or as a device that is: what a kick missed.
        RabbitMQ itself looks at a certificate at the handshake only. Return how many devices were cut; to be called
        every second or two by each server."""
        denied = self._door.in_force()
        devices, serials = (denied.devices, denied.serials) if denied else (frozenset(), frozenset())
        over = {
            one.identity
            for one in self._listed()
            if one.not_after <= at or one.identity in devices or one.serial in serials
        }
        return sum(self.kick(device_id) > 0 for device_id in sorted(over))

    def connections(self) -> list[Connection]:
        """See BrokerControl. Takes as long as the nodes' statistics may be old, and longer while a device that this
        server's door let in lately is not in them yet; one that another server let in may be missing where the nodes
        are slow."""
        time.sleep(_INTERVALS * self._statistics_s)
        live = {device_id: self._live(device_id) for device_id in self._door.recent()}
        wanted, deadline = set().union(*live.values()), time.monotonic() + _PATIENCE_S
        while wanted - (entries := self._entries()).keys() and time.monotonic() < deadline:
            time.sleep(self._statistics_s)
        known = ((name, self._connection(entry)) for name, entry in entries.items())
        # What is gone may still be in the statistics.
        return [one for name, one in known if one and name in live.get(one.identity, {name})]

    def connections_of(self, device_ids: Collection[str]) -> list[Connection]:
        """See BrokerControl."""
        wanted = frozenset(device_ids)
        return [one for one in self.connections() if one.client_id in wanted]

    def _listed(self) -> list[Connection]:
        return [one for entry in self._entries().values() if (one := self._connection(entry))]

    def _entries(self) -> dict[str, dict[str, Any]]:
        """Return the statistics of every connection, by its name."""
        return {str(entry.get("name")): entry for entry in self._api.ask("GET", "/connections") or []}

    def _live(self, device_id: str) -> set[str]:
        """Return the names of a device's connections, as they are at this moment."""
        return {str(entry.get("name")) for entry in self._api.ask("GET", self._path(device_id)) or []}

    def _path(self, device_id: str) -> str:
        return f"/connections/username/{quote(ids.device_uri(self._trust_domain, device_id), safe='')}"

    def _connection(self, entry: dict[str, Any]) -> Connection | None:
        """Return what one entry of the list shows; None for what is no device's, or half gathered yet."""
        user, client = str(entry.get("user", "")), entry.get("variable_map", {})
        validity = str(entry.get("peer_cert_validity", ""))
        if not user.startswith(self._prefix) or not isinstance(client, dict) or " - " not in validity:
            return None
        device_id = user.removeprefix(self._prefix)
        not_before, not_after = (datetime.fromisoformat(text).astimezone(UTC) for text in validity.split(" - "))
        return Connection(
            client_id=str(client.get("client_id", "")),
            identity=device_id,
            role=Role.DEVICE,
            serial=self._records.serial_of(device_id, not_before, not_after),
            not_after=not_after,
            node=str(entry.get("node", "")),
        )

    def health(self) -> BrokerHealth:
        """See BrokerControl; connected as of the last statistics. Counts of connects and the list's state are this
        server's door's; who TLS refused is in RabbitMQ's log alone."""
        began = time.perf_counter()
        nodes = self._api.ask("GET", "/nodes") or []
        elapsed = time.perf_counter() - began
        running = [one for one in nodes if one.get("running")]
        counts, denied, lease_s = self._door.counts, self._door.in_force(), self._door.lease_s()
        return BrokerHealth(
            connected=len(self._listed()),
            capacity=sum(int(one.get("sockets_total", 0)) for one in running),
            accepted=counts.accepted,
            refused=counts.refused,
            refused_topics=counts.refused_topics,
            kicked=0,
            deny_version=denied.version if denied else 0,
            deny_entries=len(denied.entries) if denied else 0,
            deny_stale=denied is None,
            lease_s=lease_s,
            open=lease_s > 0,
            round_trip_ms=elapsed * 1000,
            unreachable=tuple(sorted(str(one.get("name")) for one in nodes if not one.get("running"))),
        )

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None:
        """See BrokerControl."""
        properties: dict[str, object] = {"delivery_mode": 2}
        if expires_s is not None:
            properties["expiration"] = str(expires_s * 1000)
        message = {
            "routing_key": topic.replace("/", "."),
            "payload": base64.b64encode(payload).decode(),
            "payload_encoding": "base64",
            "properties": properties,
        }
        self._api.ask("POST", f"/exchanges/%2F/{EXCHANGE}/publish", message)

    def update_trust(
        self,
        *,
        roots: Sequence[x509.Certificate],
        fleet: Sequence[x509.Certificate],
        infra: Sequence[x509.Certificate],
        links: Sequence[x509.Certificate] = (),
    ) -> IssuersInForce:
        """See BrokerControl. A Fleet CA counts by its CRL, which each handshake reads: that is written last, and taken
        away first. Of a new root the nodes learn when they read ca-bundle.pem again, minutes later or at a restart;
        until then its devices get in by a link from an old one. Infra CAs open nothing here, and are only kept."""
        wanted = TrustSet.checked(roots=roots, fleet=fleet, infra=infra, links=links)
        wanted.install(self._trust_folder)
        self._records.write_crls(wanted.fleet)
        return self.issuers()

    def issuers(self) -> IssuersInForce:
        """See BrokerControl; as the files say, for RabbitMQ can't be asked."""
        infra = x509.load_pem_x509_certificates((self._trust_folder / INFRA_FILE).read_bytes())
        return IssuersInForce(frozenset(map(fingerprint, self._fleet())), frozenset(map(fingerprint, infra)))

    def _fleet(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates((self._trust_folder / FLEET_FILE).read_bytes())


class RabbitEar:
    """Hears devices, from start() to stop(): takes what is in the shared queue, again and again.

    By the management API, which needs no other client and carries hundreds of messages a call; a message is gone from
    the queue when it is taken, so one that a server dies with is said again, as with a device that is away.
    """

    def __init__(
        self, *, api: ManagementApi, on_message: MessageHandler, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._api = api
        self._on_message = on_message
        self._clock = clock
        self._over = threading.Event()
        self._live = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="rabbitmq_ear", daemon=True)

    @property
    def live(self) -> bool:
        """Whether the queue is there, and could be asked last time."""
        return self._live.is_set()

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End; the queue stays."""
        self._over.set()
        self._thread.join()

    def wait_live(self, timeout_s: float) -> bool:
        """Wait until it hears; return whether it does."""
        return self._live.wait(timeout_s)

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                if not self._live.is_set():
                    self._make_queue()
                    self._live.set()
                heard = self._take()
            except (BrokerUnavailable, BrokerRefused) as error:
                self._live.clear()
                _log.warning("broker not heard", extra={"fields": {"reason": str(error)}})
                self._over.wait(1.0)
                continue
            for message in heard:
                self._hear(message)
            if len(heard) < _AT_ONCE:
                self._over.wait(_PAUSE_S)

    def _make_queue(self) -> None:
        arguments = {"x-queue-type": "quorum", "x-max-length-bytes": _QUEUE_BYTES}
        self._api.ask("PUT", f"/queues/%2F/{QUEUE}", {"durable": True, "arguments": arguments})
        self._api.ask("POST", f"/bindings/%2F/e/{EXCHANGE}/q/{QUEUE}", {"routing_key": _BINDING})

    def _take(self) -> Sequence[dict[str, Any]]:
        wanted = {"count": _AT_ONCE, "ackmode": "ack_requeue_false", "encoding": "base64"}
        taken = self._api.ask("POST", f"/queues/%2F/{QUEUE}/get", wanted)
        if taken is None:
            raise BrokerUnavailable(f"the queue {QUEUE} is not there")
        found: Sequence[dict[str, Any]] = taken
        return found

    def _hear(self, message: dict[str, Any]) -> None:
        key = str(message.get("routing_key", ""))
        try:
            match key.split("."):
                case ["devices", device, "up", leaf] if leaf in topics.UP:
                    payload = base64.b64decode(str(message.get("payload", "")))
                    self._on_message(ids.device_id(device, field="topic"), leaf, payload, self._clock())
                case _:
                    raise DecodeError("want devices.ID.up. and one of our leaves", field="topic")
        except DecodeError as error:
            _log.info("broker message unreadable", extra={"fields": {"topic": key[:200], "reason": str(error)}})
        except Exception:  # noqa: BLE001  # this thread carries every device's messages: none of them may end it
            _log.exception("broker message failed", extra={"fields": {"topic": key[:200]}})
