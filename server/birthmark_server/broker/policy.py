"""Which topics an identity may use. Pure: the gate's own rules (server/mosquitto_gate/policy.c), in Python.

Devices:  read and subscribe below `devices/ID/down/`, write below `devices/ID/up/`; nothing else, so no `$share`, no
          `$SYS`, no `$CONTROL`, and no wildcard that reaches beyond their own branch.
Control:  read and subscribe below `devices/ID/up/` and `devices/+/up/`, alone or as `$share/birthmark/...`; write below
          `devices/ID/down/`; publish to `$CONTROL/birthmark/v1` and read its answers.

tests/gate/vectors/topics.txt holds both implementations to one table. A broker that asks for its decisions over HTTP
(RabbitMQ) gets them from here.
"""

import re
from enum import StrEnum
from typing import Final

CONTROL_TOPIC: Final = "$CONTROL/birthmark/v1"
ANSWER_TOPIC: Final = "$CONTROL/birthmark/v1/response"

_SHARE: Final = "$share/"
_OUR_SHARE: Final = "$share/birthmark/"
_BRANCH: Final = "devices/"
_ANY_DEVICE: Final = re.compile(r"[a-z0-9-]{1,64}(?=/)", re.ASCII)
_ANY_DEVICE_OR_ALL: Final = re.compile(r"(?:\+|[a-z0-9-]{1,64})(?=/)", re.ASCII)


class Role(StrEnum):
    """What a certificate makes of its holder at the broker."""

    DEVICE = "device"
    CONTROL = "control"


class Access(StrEnum):
    """What is done with a topic; `SUBSCRIBE` with a filter."""

    READ = "read"
    WRITE = "write"
    SUBSCRIBE = "subscribe"


class Verdict(StrEnum):
    """`ALLOWED`, or why not. The values stand in the gate's log."""

    ALLOWED = "allowed"
    OUTSIDE = "topic-outside"
    RESERVED = "topic-reserved"
    SHARED = "shared-subscription"
    ANOTHER_DEVICE = "another-device"
    WRONG_DIRECTION = "wrong-direction"
    NO_LEAF = "no-leaf"


def judge(role: Role, identity: str, access: Access, topic: str) -> Verdict:
    """Judge one access of the holder of a certificate for the id `identity`."""
    if role is Role.CONTROL:
        return _judge_control(access, topic)
    return _judge_device(identity, access, topic)


def _judge_device(identity: str, access: Access, topic: str) -> Verdict:
    if topic.startswith(_SHARE):
        return Verdict.SHARED
    if topic.startswith("$"):
        return Verdict.RESERVED
    if not topic.startswith(_BRANCH):
        return Verdict.OUTSIDE
    rest = topic.removeprefix(_BRANCH)
    if not rest.startswith(identity + "/"):
        return Verdict.ANOTHER_DEVICE
    return _judge_direction(rest[len(identity) :], "/up/" if access is Access.WRITE else "/down/")


def _judge_control(access: Access, topic: str) -> Verdict:
    if topic == (CONTROL_TOPIC if access is Access.WRITE else ANSWER_TOPIC):
        return Verdict.ALLOWED
    if topic.startswith(_SHARE):
        if access is not Access.SUBSCRIBE or not topic.startswith(_OUR_SHARE):
            return Verdict.SHARED
        topic = topic.removeprefix(_OUR_SHARE)
    if topic.startswith("$"):
        return Verdict.RESERVED
    if not topic.startswith(_BRANCH):
        return Verdict.OUTSIDE
    rest = topic.removeprefix(_BRANCH)
    device = (_ANY_DEVICE_OR_ALL if access is Access.SUBSCRIBE else _ANY_DEVICE).match(rest)
    if device is None:
        return Verdict.ANOTHER_DEVICE
    return _judge_direction(rest[device.end() :], "/down/" if access is Access.WRITE else "/up/")


def _judge_direction(rest: str, direction: str) -> Verdict:
    if not rest.startswith(direction):
        return Verdict.WRONG_DIRECTION
    return Verdict.ALLOWED if rest != direction else Verdict.NO_LEAF
