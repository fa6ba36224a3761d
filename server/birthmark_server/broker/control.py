"""What the server may ask of a broker, whichever it is, and how our gate in Mosquitto does it.

Every back end passes tests/broker/contract.py.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from cryptography import x509

from birthmark_server.broker.denyfile import Denials, DenyFile, DenyList
from birthmark_server.broker.errors import BrokerRefused, BrokerUnavailable
from birthmark_server.broker.policy import Role
from birthmark_server.broker.trust_files import ISSUERS_MOST, IssuersInForce, TrustSet
from birthmark_wire.encoding import JsonObject
from birthmark_wire.errors import DecodeError

_PAGE_MOST = 1000  # far more than the gate puts into one answer
_PAGES_MOST = 50_000  # a page that is not the last holds 80 at least
_COUNT_MOST = 2**63 - 1

COMMANDS_MOST: Final = 256
"""How many denials are told one by one; a list of more is read by the gate within a second anyway."""

IDS_MOST: Final = 32
"""How many devices one question names (server/mosquitto_gate/command.h)."""

FIND_MOST: Final = 512
_COMMAND_TIMEOUT_S: Final = 2.0
_TRUST_TIMEOUT_S: Final = 10.0
_TRUST_LOOK_S: Final = 0.1
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Connection:
    """One live connection, as the broker itself knows it. serial: of its certificate, lower-case hex.

    node: where, by name, if the broker is more than one machine.
    """

    client_id: str
    identity: str
    role: Role
    serial: str
    not_after: datetime
    node: str = ""


@dataclass(frozen=True, slots=True)
class BrokerHealth:
    """How the broker is. deny_version: of the list in force there; deny_stale: it could not read a newer one.

    lease_s: for how long it will still let new connections in if it hears nothing more; open: whether it does now.
    unreachable: which of its machines did not answer, by name. Of several that did, counts are added up, and of the
    rest the worst is shown.
    """

    connected: int
    capacity: int
    accepted: int
    refused: int
    refused_topics: int
    kicked: int
    deny_version: int
    deny_entries: int
    deny_stale: bool
    lease_s: int
    open: bool
    round_trip_ms: float
    unreachable: tuple[str, ...] = ()


class BrokerControl(Protocol):
    """One broker. Errors: BrokerUnavailable, BrokerRefused, and OSError for files."""

    def deny(self, *, devices: Collection[str] = (), serials: Collection[str] = ()) -> DenyList:
        """Refuse these from now on, devices by id and certificates by serial number; idempotent. Durable when it
        returns. Whoever is connected with one of them is cut off within milliseconds while the broker answers us, and
        within two seconds where it only sees the list."""

    def set_denied(self, read_denials: Callable[[], Denials]) -> DenyList:
        """Make the deny list exactly what `read_denials` returns, as the database has it: after a restart or a restore,
        or to let in again. It is called while no deny() can write, so that none is lost."""

    def kick(self, device_id: str) -> int:
        """Cut every connection of a device now; return how many. It may come back at once: deny() comes first."""

    def connections(self) -> list[Connection]:
        """Who is connected. Whoever is so during the whole call is in the list."""

    def connections_of(self, device_ids: Collection[str]) -> list[Connection]:
        """As connections(), of the sessions of these devices alone: client id = device id."""

    def health(self) -> BrokerHealth:
        """Ask for counters, and measure how long the answer takes."""

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None:
        """Hand a message over for a device; see link.BrokerLink.publish."""

    def update_trust(
        self,
        *,
        roots: Sequence[x509.Certificate],
        fleet: Sequence[x509.Certificate],
        infra: Sequence[x509.Certificate],
        links: Sequence[x509.Certificate] = (),
    ) -> IssuersInForce:
        """Have the broker go by these CAs from now on (trust_files.TrustSet says what they are), and return what is in
        force there: its acknowledgement. Idempotent. Durable when it returns; connections that are open stay so.

        Raises Misconfigured for a set that can't stand, of which nothing reached the broker; BrokerUnavailable where
        the broker did not confirm it in time: it may still be going to, and the call can be repeated.
        """

    def issuers(self) -> IssuersInForce:
        """Ask by which Fleet and Infra CAs it judges clients now."""


class GateLink(Protocol):
    """The part of link.BrokerLink that a control needs."""

    def ask(self, command: str, *, timeout_s: float = 5.0) -> JsonObject:
        """Send a command to the gate and return its answer."""

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None:
        """Hand a message to the broker."""


class MosquittoControl:
    """BrokerControl for a Mosquitto with our gate on this machine: commands by `link`, denials by `deny_file`."""

    def __init__(self, *, link: GateLink, deny_file: DenyFile) -> None:
        self._link = link
        self._deny_file = deny_file

    def deny(self, *, devices: Collection[str] = (), serials: Collection[str] = ()) -> DenyList:
        """See BrokerControl. The file comes first, and is the second line: the gate looks at it once a second."""
        denied = self._deny_file.add(devices=devices, serials=serials)
        tell_gate(self._link, denied, devices=devices, serials=serials)
        return denied

    def set_denied(self, read_denials: Callable[[], Denials]) -> DenyList:
        """See BrokerControl."""
        return self._deny_file.replace(read_denials)

    def kick(self, device_id: str) -> int:
        """See BrokerControl."""
        return gate_kick(self._link, device_id)

    def connections(self) -> list[Connection]:
        """See BrokerControl."""
        return gate_connections(self._link)

    def connections_of(self, device_ids: Collection[str]) -> list[Connection]:
        """See BrokerControl."""
        return gate_find(self._link, device_ids)

    def health(self) -> BrokerHealth:
        """See BrokerControl."""
        return gate_health(self._link)

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None:
        """See BrokerControl."""
        self._link.publish(topic, payload, expires_s=expires_s)

    def update_trust(
        self,
        *,
        roots: Sequence[x509.Certificate],
        fleet: Sequence[x509.Certificate],
        infra: Sequence[x509.Certificate],
        links: Sequence[x509.Certificate] = (),
    ) -> IssuersInForce:
        """See BrokerControl. The files lie beside the deny file; the gate looks at its two once a second.

        Only a restart of Mosquitto (or SIGHUP, where it has a crlfile) makes its TLS layer read ca-bundle.pem. Until
        then it knows the old roots alone. A client below a new root gets in all the same, by the link from an old root
        at the end of the chain that it shows; one below a root that was taken out passes TLS, and the gate refuses it.
        Where Mosquitto has a crlfile, the CRL of a new CA must be in it, and in force, before its first client comes.
        """
        wanted = TrustSet.checked(roots=roots, fleet=fleet, infra=infra, links=links)
        wanted.install(self._deny_file.path.parent)
        return await_issuers(self._link, IssuersInForce.of(wanted))

    def issuers(self) -> IssuersInForce:
        """See BrokerControl."""
        return gate_issuers(self._link)


def gate_kick(link: GateLink, device_id: str) -> int:
    """Have the gate cut every connection of a device; return how many."""
    return link.ask(f"kick {device_id}").integer("kicked", low=0, high=_COUNT_MOST)


def gate_connections(link: GateLink) -> list[Connection]:
    """Ask the gate who is connected, page by page. Whoever is so during the whole call is in the list.

    Raises DecodeError for a list that no gate has: each connection is in a slot of its own, and it comes to an end.
    """
    found: list[Connection] = []
    cursor = 0
    for _ in range(_PAGES_MOST):
        answer = link.ask(f"list {cursor}")
        page = _connections(answer)
        found += page
        following = answer.integer("next", low=0, high=80 * _PAGES_MOST)
        if following <= cursor:  # 0: that was the last page
            return found
        if len(page) > following - cursor:
            raise DecodeError(f"{len(page)} connections in the slots from {cursor} to {following}", field="next")
        cursor = following
    raise DecodeError(f"no end after {_PAGES_MOST} pages", field="next")


def gate_find(link: GateLink, device_ids: Collection[str]) -> list[Connection]:
    """Ask the gate for the sessions of these devices. A gate from before it could be asked so lists everybody, and so
    does one where that takes fewer questions."""
    wanted = sorted(device_ids)
    if len(wanted) > FIND_MOST:
        return _only(wanted, gate_connections(link))
    found: list[Connection] = []
    try:
        for start in range(0, len(wanted), IDS_MOST):
            found += _connections(link.ask(f"find {' '.join(wanted[start : start + IDS_MOST])}"))
    except BrokerRefused:
        return _only(wanted, gate_connections(link))
    return found


def _only(wanted: Sequence[str], every: Sequence[Connection]) -> list[Connection]:
    ids = frozenset(wanted)
    return [one for one in every if one.client_id in ids]


def gate_health(link: GateLink) -> BrokerHealth:
    """Ask the gate for its counters."""
    began = time.perf_counter()
    answer = link.ask("stats")
    elapsed = time.perf_counter() - began

    def count(name: str) -> int:
        return answer.integer(name, low=0, high=_COUNT_MOST)

    return BrokerHealth(
        connected=count("connected"),
        capacity=count("capacity"),
        accepted=count("accepted"),
        refused=count("refused"),
        refused_topics=count("refused_topics"),
        kicked=count("kicked"),
        deny_version=count("deny_version"),
        deny_entries=count("deny_entries"),
        deny_stale=answer.boolean("deny_stale"),
        lease_s=count("lease_s"),
        open=answer.boolean("open"),
        round_trip_ms=elapsed * 1000,
    )


def gate_issuers(link: GateLink) -> IssuersInForce:
    """Ask the gate by which CAs it judges."""
    answer = link.ask("issuers")
    fleet, infra = (frozenset(answer.texts(kind, most=ISSUERS_MOST, max_chars=64)) for kind in ("fleet", "infra"))
    return IssuersInForce(fleet, infra, answer.boolean("stale"))


def await_issuers(link: GateLink, wanted: IssuersInForce, *, timeout_s: float = _TRUST_TIMEOUT_S) -> IssuersInForce:
    """Return once the gate says that exactly these are in force. Raise BrokerUnavailable where it does not, in time."""
    deadline = time.monotonic() + timeout_s
    while (seen := gate_issuers(link)) != wanted:
        if time.monotonic() > deadline:
            why = "it can't read its CA files: its log says why" if seen.stale else "it has not read them"
            raise BrokerUnavailable(f"the gate does not go by the new CAs after {timeout_s:g} s: {why}")
        time.sleep(_TRUST_LOOK_S)
    return seen


def merge_health(every: Sequence[BrokerHealth], *, unreachable: Sequence[str] = ()) -> BrokerHealth:
    """Return how several are together; `every` has at least one."""
    return BrokerHealth(
        connected=sum(one.connected for one in every),
        capacity=sum(one.capacity for one in every),
        accepted=sum(one.accepted for one in every),
        refused=sum(one.refused for one in every),
        refused_topics=sum(one.refused_topics for one in every),
        kicked=sum(one.kicked for one in every),
        deny_version=min(one.deny_version for one in every),
        deny_entries=min(one.deny_entries for one in every),
        deny_stale=any(one.deny_stale for one in every),
        lease_s=min(one.lease_s for one in every),
        open=all(one.open for one in every),
        round_trip_ms=max(one.round_trip_ms for one in every),
        unreachable=tuple(unreachable),
    )


def tell_gate(link: GateLink, denied: DenyList, *, devices: Collection[str], serials: Collection[str]) -> bool:
    """Run ahead of the deny file `denied`, which is on the disk: have these refused and cut off now; return whether
    the gate did it. What fails is logged: the file says the same within a second."""
    commands = [f"block {one} {denied.version}" for one in devices]
    commands += [f"revoke {one} {denied.version}" for one in serials]
    try:
        for command in commands[:COMMANDS_MOST]:
            link.ask(command, timeout_s=_COMMAND_TIMEOUT_S)
    except (BrokerUnavailable, BrokerRefused) as error:
        _log.warning("broker not told by command", extra={"fields": {"reason": str(error)}})
        return False
    return True


def _connections(answer: JsonObject) -> list[Connection]:
    return [_connection(one) for one in answer.members("connections", most=_PAGE_MOST)]


def _connection(one: JsonObject) -> Connection:
    role = one.text("role")
    if role not in tuple(Role):
        raise DecodeError(f"want a role, got {role[:80]!r}", field="role")
    return Connection(
        client_id=one.text("client"),
        identity=one.text("id"),
        role=Role(role),
        serial=one.text("serial"),
        not_after=datetime.fromtimestamp(one.integer("not_after", low=0, high=253_402_300_799), UTC),
    )
