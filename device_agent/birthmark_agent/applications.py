"""Applications on this device share its connection, through a local Unix socket and a protocol of lines.

    HELLO NAME              first; OK, or ERR CODE REASON and the end
    PUB TAG TOPIC BASE64    publish to devices/ID/up/app/NAME/TOPIC: ACK TAG once the broker has it, or NAK TAG CODE
    SUB FILTER              hear what comes below devices/ID/down/app/NAME/: OK, then MSG TOPIC BASE64 for each message
                            (LOST N: N messages came while nobody took them, and there was no room)

Rules:
- Who may be which application is a matter of the user id, asked of the kernel (SO_PEERCRED), never of what is said.
- Everything is bounded. Whoever sends faster than its rate, or than the broker takes, is not read from: its own writes
  wait. What was read is sent in order, in spite of new certificates and lost connections (outbox.py).
- A connection may end for writing and still be told its ACKs. What an application published and then left is sent.
- What comes from the broker for an application that is away, or slow, waits in memory, the oldest out first.
"""

import base64
import binascii
import re
import select
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from paho.mqtt.client import topic_matches_sub

from birthmark_agent import log
from birthmark_agent.errors import AgentError, Misconfigured
from birthmark_agent.mqtt import Session
from birthmark_agent.outbox import Message, Outbox
from birthmark_agent.settings import ApplicationSettings
from birthmark_wire import topics

_MOST_CONNECTIONS: Final = 64
_MOST_OF_ONE_USER: Final = 16
_MOST_SUBSCRIPTIONS: Final = 32
_PENDING_BYTES: Final = 262_144
_TAG: Final = re.compile(r"[A-Za-z0-9-]{1,32}", re.ASCII)
_TOPIC: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}(/[A-Za-z0-9_.:-]{1,64}){0,7}", re.ASCII)
_FILTER: Final = re.compile(r"#|(\+|[A-Za-z0-9_.:-]{1,64})(/(\+|[A-Za-z0-9_.:-]{1,64})){0,7}(/#)?", re.ASCII)
_LINE_MORE: Final = 640  # what a line holds beside its payload, at most
_GONE: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL


class LineRefused(AgentError):
    """An application said something that ends its connection. args: code and reason."""

    code = "line-refused"
    advice = "compare with the protocol of lines, and look who may be which application in [applications.users]"

    def __str__(self) -> str:
        return f"{self.args[0]} {self.args[1]}"


class _Peer:
    """One connection of one application."""

    def __init__(self, sock: socket.socket, *, rate_per_s: float) -> None:
        self.sock = sock
        self.uid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        self.name = ""
        self.filters: list[str] = []
        self.received = bytearray()
        self.to_send = bytearray()
        self.no_more = False  # it will send nothing any more
        self.gone = False  # nor will it read
        self.pending = 0
        self.pending_bytes = 0
        self.tokens = self._most_tokens = max(rate_per_s, 1.0)
        self._rate_per_s = rate_per_s
        self._counted_s = time.monotonic()

    def count(self) -> None:
        """Let the bucket fill."""
        now_s = time.monotonic()
        self.tokens = min(self._most_tokens, self.tokens + (now_s - self._counted_s) * self._rate_per_s)
        self._counted_s = now_s

    def token_in_s(self) -> float:
        """Return when there is a token for a line that waits."""
        return max(0.0, 1.0 - self.tokens) / self._rate_per_s

    def say(self, line: str) -> None:
        if not self.gone:
            self.to_send += line.encode("ascii") + b"\n"

    def receive(self) -> None:
        try:
            data = self.sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.received += data
        self.no_more = self.no_more or not data

    def hang_up(self) -> None:
        """The other end is closed: read what it left, and forget what it will not read."""
        while not self.no_more:
            before = len(self.received)
            self.receive()
            if len(self.received) == before:
                break
        self.no_more = self.gone = True
        self.to_send.clear()

    def send(self) -> None:
        if not self.to_send or self.gone:
            return
        try:
            del self.to_send[: self.sock.send(self.to_send)]
        except BlockingIOError:
            return
        except OSError:
            self.hang_up()


class Applications:
    """The socket and who is connected to it: a waitable.Waitable. open() first; without a path in the settings it is
    nothing at all."""

    def __init__(self, settings: ApplicationSettings) -> None:
        self._settings = settings
        self._listener: socket.socket | None = None
        self._peers: dict[int, _Peer] = {}
        self._outbox = Outbox()
        self._waiting: dict[str, deque[tuple[str, bytes]]] = {name: deque() for name in settings.users}
        self._lost: Counter[str] = Counter()
        self._most_line = settings.max_message_bytes * 4 // 3 + _LINE_MORE

    def open(self) -> None:
        """Listen. Raise Misconfigured where the path can't be used."""
        path = self._settings.socket
        if path is None:
            return
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)  # of an agent that was killed; ours is the only one, by the folder's lock
            listener.bind(str(path))
            path.chmod(0o666)  # everybody may knock: who is let in, is asked of the kernel
            listener.listen(_MOST_CONNECTIONS)
        except OSError as error:
            listener.close()
            raise Misconfigured(f"applications.socket: {path}: {error.strerror or error}") from None
        listener.setblocking(False)
        self._listener = listener

    def close(self) -> None:
        """Close the socket and all connections."""
        for peer in list(self._peers.values()):
            self._drop(peer)
        if self._listener is not None and self._settings.socket is not None:
            self._listener.close()
            self._settings.socket.unlink(missing_ok=True)
            self._listener = None

    @property
    def names(self) -> list[str]:
        """Who is connected."""
        return sorted({peer.name for peer in self._peers.values() if peer.name and not peer.gone})

    # -- the broker's side

    @property
    def all_sent(self) -> bool:
        """Whether the broker has all that was read from them."""
        return self._outbox.empty

    def attach(self, session: Session | None) -> None:
        """Send through this session from now on; None while there is none."""
        self._outbox.attach(session)

    def published(self, session: Session, mid: int, taken: bool) -> None:
        """See mqtt.OnPublished."""
        self._outbox.published(session, mid, taken)

    def deliver(self, leaf: str, payload: bytes) -> None:
        """Take a message for an application. leaf: `app/NAME/TOPIC`, below `devices/ID/down/`."""
        _app, _slash, rest = leaf.partition("/")
        name, _slash, topic = rest.partition("/")
        waiting = self._waiting.get(name)
        if waiting is None or not _TOPIC.fullmatch(topic):
            log.debug("message-ignored", leaf=leaf, size=len(payload))
            return
        waiting.append((topic, payload))
        while len(waiting) > self._settings.queue or sum(len(held) for _topic, held in waiting) > _PENDING_BYTES:
            waiting.popleft()
            self._lost[name] += 1
        self._hand_out(name)

    # -- waitable.Waitable

    def interests(self) -> list[tuple[int, int]]:
        """See Waitable."""
        found = [] if self._listener is None else [(self._listener.fileno(), select.POLLIN)]
        for fd, peer in self._peers.items():
            reads = not peer.no_more and len(peer.received) < self._most_line
            events = (select.POLLIN if reads else 0) | (select.POLLOUT if peer.to_send else 0)
            if not peer.gone:
                found.append((fd, events))
        return found

    def step(self, ready: Mapping[int, int]) -> None:
        """See Waitable."""
        if self._listener is not None and ready.get(self._listener.fileno()):
            self._accept(self._listener)
        for fd, peer in list(self._peers.items()):
            events = ready.get(fd, 0)
            if events & select.POLLIN:
                peer.receive()
            if events & _GONE:
                peer.hang_up()
            self._obey(peer)
        self._outbox.pump()
        for name in self._waiting:
            self._hand_out(name)
        for peer in list(self._peers.values()):
            peer.send()
            if peer.no_more and not peer.to_send and (peer.gone or not peer.pending) and b"\n" not in peer.received:
                self._drop(peer)

    def wait_s(self) -> float:
        """See Waitable."""
        held = [peer for peer in self._peers.values() if b"\n" in peer.received and self._has_room(peer)]
        return min((peer.token_in_s() for peer in held), default=float("inf"))

    # -- one application

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            sock, _address = listener.accept()
            sock.setblocking(False)
            peer = _Peer(sock, rate_per_s=self._settings.rate_per_s)
            if (refusal := self._refusal(peer.uid)) is None:
                self._peers[sock.fileno()] = peer
                return
            log.failed("application-refused", refusal, uid=peer.uid)
            with sock:
                sock.send(f"ERR {refusal}\n".encode())

    def _refusal(self, uid: int) -> LineRefused | None:
        """Return why this user gets no connection at all: strangers must not take others' places."""
        if not any(uid in users for users in self._settings.users.values()):
            return LineRefused("not-allowed", f"user {uid} may be no application: applications.users")
        of_user = sum(peer.uid == uid for peer in self._peers.values())
        if of_user >= _MOST_OF_ONE_USER or len(self._peers) >= _MOST_CONNECTIONS:
            return LineRefused("too-many", f"want at most {_MOST_OF_ONE_USER} connections of one user")
        return None

    def _drop(self, peer: _Peer) -> None:
        del self._peers[peer.sock.fileno()]
        peer.sock.close()
        peer.gone = True
        if peer.name:
            log.info("application-left", application=peer.name, pending=peer.pending)

    def _has_room(self, peer: _Peer) -> bool:
        return peer.pending < self._settings.queue and peer.pending_bytes < _PENDING_BYTES

    def _obey(self, peer: _Peer) -> None:
        """Take as many lines as its rate and the broker allow."""
        peer.count()
        try:
            while peer.tokens >= 1.0 and self._has_room(peer) and (end := peer.received.find(b"\n")) >= 0:
                line = bytes(peer.received[:end])
                del peer.received[: end + 1]
                peer.tokens -= 1.0
                if end > self._most_line:
                    raise LineRefused("too-large", f"want at most {self._most_line} bytes in a line")
                self._line(peer, line)
            if len(peer.received) > self._most_line and b"\n" not in peer.received:
                raise LineRefused("too-large", f"want at most {self._most_line} bytes in a line")
        except LineRefused as error:
            log.failed("application-refused", error, application=peer.name, uid=peer.uid)
            peer.say(f"ERR {error}")
            peer.received.clear()
            peer.send()
            self._drop(peer)

    def _line(self, peer: _Peer, line: bytes) -> None:
        try:
            word, *rest = line.decode("ascii").rstrip("\r").split(" ")
        except UnicodeDecodeError:
            raise LineRefused("not-ascii", "want ASCII, and payloads in base64") from None
        match word, rest:
            case "HELLO", [name] if not peer.name:
                self._hello(peer, name)
            case "PUB", [tag, topic, *payload] if peer.name and len(payload) < 2 and _TAG.fullmatch(tag):
                self._publish(peer, tag, topic, payload[0] if payload else "")
            case "SUB", [wanted] if peer.name and _FILTER.fullmatch(wanted):
                if len(peer.filters) == _MOST_SUBSCRIPTIONS:
                    raise LineRefused("too-many", f"want at most {_MOST_SUBSCRIPTIONS} subscriptions")
                peer.filters.append(wanted)
                peer.say("OK")
            case _:
                raise LineRefused("not-understood", "want HELLO NAME first, then PUB TAG TOPIC BASE64 or SUB FILTER")

    def _hello(self, peer: _Peer, name: str) -> None:
        if peer.uid not in self._settings.users.get(name, ()):
            raise LineRefused("not-allowed", f"user {peer.uid} may not be that application: applications.users")
        peer.name = name
        peer.say("OK")
        log.info("application-connected", application=name, uid=peer.uid)

    def _publish(self, peer: _Peer, tag: str, topic: str, text: str) -> None:
        try:
            payload = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise LineRefused("not-base64", "want the payload in base64") from None
        if not _TOPIC.fullmatch(topic):
            peer.say(f"NAK {tag} topic-unusable")
            return
        if len(payload) > self._settings.max_message_bytes:
            peer.say(f"NAK {tag} too-large")
            return

        def settled(taken: bool) -> None:
            peer.pending -= 1
            peer.pending_bytes -= len(payload)
            peer.say(f"ACK {tag}" if taken else f"NAK {tag} broker-refused")

        peer.pending += 1
        peer.pending_bytes += len(payload)
        self._outbox.put(Message(f"{topics.APPLICATIONS}/{peer.name}/{topic}", payload, settled))

    def _hand_out(self, name: str) -> None:
        """Give what waits for an application to its connections that want it, in order, as far as they read."""
        waiting = self._waiting[name]
        peers = [peer for peer in self._peers.values() if peer.name == name and peer.filters and not peer.gone]
        if not peers or not (waiting or self._lost[name]):
            return
        if (lost := self._lost.pop(name, 0)) > 0:
            log.info("application-missed-messages", application=name, count=lost)
            for peer in peers:
                peer.say(f"LOST {lost}")
        unwanted: deque[tuple[str, bytes]] = deque()
        while waiting:
            topic, payload = waiting[0]
            wanting = [peer for peer in peers if any(topic_matches_sub(one, topic) for one in peer.filters)]
            if any(len(peer.to_send) > _PENDING_BYTES for peer in wanting):
                break
            waiting.popleft()
            if not wanting:
                unwanted.append((topic, payload))
            for peer in wanting:
                peer.say(f"MSG {topic} {base64.b64encode(payload).decode()}")
        waiting.extendleft(reversed(unwanted))
