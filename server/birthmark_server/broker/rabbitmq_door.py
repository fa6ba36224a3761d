"""What RabbitMQ asks before it lets anybody do anything (rabbitmq_auth_backend_http), and what we answer.

    /user       username: the URI SAN of the certificate that TLS verified, for there is no password
    /vhost      ... and client_id: the CONNECT of a device
    /resource   its queue, and the exchange
    /topic      publish (write) or subscribe (read); the routing key is the topic with `.` for `/` and `*` for `+`

RabbitMQ tells the name and nothing else of the certificate: neither its serial number nor its end nor its issuer. So
TLS judges those, by a bundle of CAs and the CRLs of exactly those whose certificates may come in (rabbitmq_config.py),
and here the rest is judged: whose name it is, client id = id, the deny list by device and its lease, and each topic by
the one policy (policy.py). Whatever is not understood is denied.

Rules: nothing is remembered but counters; the list is read again whenever its file is another one.
"""

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from birthmark_server.broker.denyfile import DenyFile, DenyList
from birthmark_server.broker.errors import DenyFileMalformed
from birthmark_server.broker.policy import Access, Role, Verdict, judge
from birthmark_wire import ids
from birthmark_wire.errors import DecodeError

EXCHANGE: Final = "amq.topic"
VHOST: Final = "/"
RECENT_S: Final = 10.0
_MOST_RECENT: Final = 200
_QUEUE: Final = re.compile(r"mqtt-subscription-(.*)qos[01]", re.ASCII)
_log: Final = logging.getLogger(__name__)


class _No(Exception):
    """Denied; its text is the reason, as the gate names it."""


@dataclass(frozen=True, slots=True)
class DoorCounts:
    """Since the door was made. accepted: connects. refused: connects that came as far as here."""

    accepted: int
    refused: int
    refused_topics: int


class RabbitDoor:
    """The answers of one server. clock: Unix time in seconds.

    shut_out: is asked of each device that connects, by its id; returns why it may not, empty if it may.
    """

    def __init__(
        self,
        *,
        trust_domain: str,
        deny_file: DenyFile,
        shut_out: Callable[[str], str] = lambda _device_id: "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._prefix = ids.device_uri(trust_domain, "")
        self._deny_file = deny_file
        self._shut_out = shut_out
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._list: DenyList | None = None
        self._devices: frozenset[str] = frozenset()
        self._accepted = self._refused = self._refused_topics = 0
        self._recent: deque[tuple[str, float]] = deque(maxlen=_MOST_RECENT)

    @property
    def counts(self) -> DoorCounts:
        """How often what was answered."""
        return DoorCounts(self._accepted, self._refused, self._refused_topics)

    def in_force(self) -> DenyList | None:
        """Return the deny list that is gone by; None while there was none that can be read."""
        with self._lock:
            try:
                found = self._deny_file.path.stat()
                seen = (found.st_mtime_ns, found.st_ino)
                if seen != self._seen:
                    newer = self._deny_file.read()
                    if self._list is None or newer.version >= self._list.version:
                        self._list, self._devices = newer, newer.devices
                    self._seen = seen
            except (OSError, DenyFileMalformed) as error:
                _log.error("deny list not read", extra={"fields": {"reason": str(error)}})
            return self._list

    def lease_s(self) -> int:
        """Return for how long new connections are let in if the list is not renewed; 0 where none is."""
        denied = self.in_force()
        return 0 if denied is None else max(0, int(denied.lease.until_s - self._clock()))

    def decide(self, question: str, form: Mapping[str, str]) -> bool:
        """Answer one question. question: `user`, `vhost`, `resource` or `topic`. form: what RabbitMQ sent."""
        try:
            self._ask(question, form)
        except (_No, DecodeError) as no:
            self._count_refusal(question)
            asked = {name: form.get(name, "")[:200] for name in ("username", "client_id", "routing_key")}
            _log.info("rabbitmq: refused", extra={"fields": {"question": question, "reason": str(no), **asked}})
            return False
        if question == "vhost":
            with self._lock:
                self._accepted += 1
                self._recent.append((form["client_id"], time.monotonic()))
        return True

    def recent(self) -> set[str]:
        """Return the devices that were let in within the last RECENT_S, of very many the last."""
        since = time.monotonic() - RECENT_S
        with self._lock:
            return {identity for identity, at in self._recent if at >= since}

    def _count_refusal(self, question: str) -> None:
        with self._lock:
            if question in ("user", "vhost"):
                self._refused += 1
            else:
                self._refused_topics += 1

    def _ask(self, question: str, form: Mapping[str, str]) -> None:
        identity = self._identity(form)
        match question:
            case "user":
                self._check_user(identity, form)
            case "vhost":
                self._check_user(identity, form)
                if form.get("vhost") != VHOST:
                    raise _No("another-vhost")
                if form.get("client_id") != identity:
                    raise _No("client-id-mismatch")
                if why := self._shut_out(identity):
                    raise _No(why)
            case "resource":
                self._check_resource(identity, form)
            case "topic":
                self._check_topic(identity, form)
            case _:
                raise _No("unknown-question")

    def _identity(self, form: Mapping[str, str]) -> str:
        username = form.get("username", "")
        if not username.startswith(self._prefix):
            raise _No("bad-uri")
        return ids.device_id(username.removeprefix(self._prefix))

    def _check_user(self, identity: str, form: Mapping[str, str]) -> None:
        # A name that somebody claims, not the certificate's. RabbitMQ 4 sends `none` for both, so that is refused too.
        if "password" in form:
            raise _No("password")
        if self.lease_s() == 0:
            raise _No("lease-over")
        if identity in self._devices:
            raise _No("device-denied")

    def _check_resource(self, identity: str, form: Mapping[str, str]) -> None:
        kind, name, permission = form.get("resource"), form.get("name", ""), form.get("permission")
        if kind == "exchange" and name == EXCHANGE and permission in ("read", "write"):
            return
        queue = _QUEUE.fullmatch(name) if kind == "queue" else None
        if queue is None or queue[1] != identity:
            raise _No("another-resource")

    def _check_topic(self, identity: str, form: Mapping[str, str]) -> None:
        if form.get("name") != EXCHANGE:
            raise _No("another-resource")
        topic = form.get("routing_key", "").replace(".", "/")
        match form.get("permission"):
            case "write":
                verdict = judge(Role.DEVICE, identity, Access.WRITE, topic)
            case "read":
                verdict = judge(Role.DEVICE, identity, Access.SUBSCRIBE, topic.replace("*", "+"))
            case _:
                raise _No("unknown-permission")
        if verdict is not Verdict.ALLOWED:
            raise _No(verdict)
