"""For applications on a device: publish and hear through the agent. Standard library only; may be copied alone.

    with AgentClient("meter") as agent:
        agent.publish("readings", b"21.5")            # returns when the broker has it
        agent.subscribe("settings/#")
        for message in agent.messages():
            print(message.topic, message.payload)

Topics are relative: `devices/ID/up/app/NAME/` stands before what is published, `devices/ID/down/app/NAME/` before what
is heard. A message may come twice, and what was not acknowledged when the connection ended may have arrived or not: a
payload that must count once carries a number of its own. One thread per client.
"""

import base64
import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final

DEFAULT_PATH: Final = "/run/birthmark-agent/applications"
PATH_VARIABLE: Final = "BIRTHMARK_APPLICATIONS"


class Refused(Exception):
    """The agent or the broker said no. code: as `not-allowed`, `too-large`, `topic-unusable`, `broker-refused`."""

    def __init__(self, code: str, reason: str = "") -> None:
        super().__init__(f"{code}: {reason}" if reason else code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Message:
    """What came for this application. topic: relative."""

    topic: str
    payload: bytes


class AgentClient:
    """One connection. name: of this application. path: the agent's socket; $BIRTHMARK_APPLICATIONS or DEFAULT_PATH.

    lost: how many messages the agent had no room for while this application was away or slow.
    Raises OSError where no agent listens, Refused where this user may not be `name`.
    """

    def __init__(self, name: str, *, path: str = "", timeout_s: float = 10.0) -> None:
        self.lost = 0
        self._received = b""
        self._messages: deque[Message] = deque()
        self._acknowledged: dict[str, str] = {}
        self._sent = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(path or os.environ.get(PATH_VARIABLE) or DEFAULT_PATH)
            self._say(f"HELLO {name}")
            self._until_ok(timeout_s)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "AgentClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect. What send() was given is published all the same."""
        self._socket.close()

    def publish(self, topic: str, payload: bytes, *, timeout_s: float | None = None) -> None:
        """Return when the broker has it. Raise Refused, TimeoutError (it is still on its way), ConnectionError."""
        self.wait(self.send(topic, payload), timeout_s=timeout_s)

    def send(self, topic: str, payload: bytes) -> str:
        """Hand a message to the agent and return its tag, for wait(). Blocks where the agent takes no more."""
        self._sent += 1
        tag = str(self._sent)
        self._say(f"PUB {tag} {topic} {base64.b64encode(payload).decode()}")
        return tag

    def wait(self, tag: str, *, timeout_s: float | None = None) -> None:
        """Return when the broker has what send() returned `tag` for. Raise as publish()."""
        deadline = _deadline(timeout_s)
        while tag not in self._acknowledged:
            self._take_line(deadline)
        code = self._acknowledged.pop(tag)
        if code:
            raise Refused(code)

    def subscribe(self, topic_filter: str, *, timeout_s: float = 10.0) -> None:
        """Hear what matches, `+` and `#` as in MQTT; what waited for us comes too."""
        self._say(f"SUB {topic_filter}")
        self._until_ok(timeout_s)

    def receive(self, *, timeout_s: float | None = None) -> Message | None:
        """Return the next message, None if none came in time. Raise ConnectionError when the agent went away."""
        deadline = _deadline(timeout_s)
        try:
            while not self._messages:
                self._take_line(deadline)
        except TimeoutError:
            return None
        return self._messages.popleft()

    def messages(self) -> Iterator[Message]:
        """Give messages as they come, until the agent goes away (ConnectionError)."""
        while True:
            message = self.receive()
            if message is not None:
                yield message

    # -- lines

    def _say(self, line: str) -> None:
        self._socket.settimeout(None)
        try:
            self._socket.sendall(line.encode("ascii") + b"\n")
        except BrokenPipeError:
            self._take_line(time.monotonic() + 1.0)  # the agent's reason, where it gave one
            raise

    def _until_ok(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._take_line(deadline) != "OK":
            continue

    def _take_line(self, deadline: float | None) -> str:
        """Read one line, do what it says, and return its first word."""
        while b"\n" not in self._received:
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise TimeoutError("no answer of the agent in time")
            self._socket.settimeout(left_s)
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionError("the agent closed the connection")
            self._received += data
        line, _newline, self._received = self._received.partition(b"\n")
        word, *rest = line.decode("ascii").split(" ")
        match word, rest:
            case "ACK", [tag]:
                self._acknowledged[tag] = ""
            case "NAK", [tag, code]:
                self._acknowledged[tag] = code
            case "MSG", [topic, payload]:
                self._messages.append(Message(topic, base64.b64decode(payload)))
            case "LOST", [count]:
                self.lost += int(count)
            case "ERR", [code, *reason]:
                raise Refused(code, " ".join(reason))
        return word


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s
