"""Which device goes where: stable, even, and moving no more than it must."""

from collections import Counter

import pytest

from birthmark_server.broker.assignment import Assignment, Shard
from birthmark_server.errors import Misconfigured
from birthmark_wire.broker import BrokerEndpoint

DEVICES = [f"dev-{number}" for number in range(2000)]


def shard(name: str, *, drain: bool = False) -> Shard:
    return Shard(name, BrokerEndpoint(f"{name}.example", 8883), drain=drain)


def places(*shards: Shard) -> dict[str, str]:
    assignment = Assignment(shards)
    return {device: assignment.of(device).name for device in DEVICES}


def test_each_takes_its_share() -> None:
    assert all(600 < count < 740 for count in Counter(places(shard("a"), shard("b"), shard("c")).values()).values())


def test_neither_order_nor_endpoint_moves_a_device() -> None:
    elsewhere = Shard("b", BrokerEndpoint("new.example", 1))
    assert places(shard("a"), shard("b")) == places(elsewhere, shard("a"))


def test_one_more_takes_from_all_and_moves_nobody_else() -> None:
    before, after = places(shard("a"), shard("b")), places(shard("a"), shard("b"), shard("c"))
    moved = [device for device in DEVICES if before[device] != after[device]]
    assert {after[device] for device in moved} == {"c"}
    assert {before[device] for device in moved} == {"a", "b"}


def test_one_that_is_drained_gives_its_devices_to_the_others_and_moves_nobody_else() -> None:
    before = places(shard("a"), shard("b"), shard("c"))
    after = places(shard("a"), shard("b"), shard("c", drain=True))
    assert {before[device] for device in DEVICES if before[device] != after[device]} == {"c"}
    assert set(after.values()) == {"a", "b"}


def test_the_same_device_goes_to_the_same_place_in_every_version() -> None:
    """The hash is a contract with the settings: another one would move a fleet."""
    assert [places(shard("a"), shard("b"), shard("c"))[device] for device in DEVICES[:6]] == [
        "a",
        "c",
        "a",
        "a",
        "a",
        "a",
    ]


@pytest.mark.parametrize("shards", [[], [shard("a", drain=True)], [shard("a"), shard("a")]])
def test_shards_that_make_no_sense_are_refused(shards: list[Shard]) -> None:
    with pytest.raises(Misconfigured):
        Assignment(shards)
