"""A Linux device in a slot, whose console says what it should, or does not. The whole way, with a device that boots and
a server, is tests/factory/test_line_of_linux_devices.py."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from birthmark_server.factory.disk.errors import (
    BootFailed,
    ConsoleGarbled,
    ConsoleGone,
    ConsoleSilent,
    DeviceFailed,
    NotADisk,
)
from birthmark_server.factory.disk.target import DiskTarget
from birthmark_server.factory.errors import FactoryError
from birthmark_server.factory.station.settings import SlotSettings, StationSettings
from birthmark_server.factory.station.targets import Place
from birthmark_server.factory.target import Born
from birthmark_server.factory.values import WorkOrder
from birthmark_wire.factory import GO, IDENTITY_MARK, LOCK, DeviceIdentity
from support.factory_plant import VENDOR
from support.factory_sim import MemoryDesk, SimulatedDevice, derived_tpm
from support.scripted_console import HANGS_UP, Hears, ScriptedConsole, Step, state

LIMIT = timedelta(seconds=30)
SHORT = timedelta(seconds=0.3)
BORN = Born("dev-sn-1", b"\x30\x00")

Slot = Callable[[Sequence[Step]], tuple[DiskTarget, ScriptedConsole]]


@pytest.fixture(scope="module")
def identity() -> DeviceIdentity:
    return SimulatedDevice(derived_tpm(VENDOR, "linux"), "02:00:00:00:00:01").identity()


@pytest.fixture(scope="module")
def says(identity: DeviceIdentity) -> bytes:
    return IDENTITY_MARK.encode() + identity.encode() + b"\r\n"


@pytest.fixture
def desk() -> MemoryDesk:
    now = datetime.now(UTC)
    desk = MemoryDesk(WorkOrder("W1", "model-a", 1, "SN-{}", "alice", now, now + timedelta(days=1)))
    desk.births["SN-1"] = BORN
    desk.seen.add("SN-1")
    return desk


@pytest.fixture
def slot(tmp_path: Path, desk: MemoryDesk) -> Iterator[Slot]:
    with ExitStack() as ends:

        def make(script: Sequence[Step]) -> tuple[DiskTarget, ScriptedConsole]:
            device = ends.enter_context(ScriptedConsole(tmp_path / "c", script))
            station = StationSettings(server="https://localhost:1", certificate=tmp_path, key=tmp_path, root=tmp_path)
            settings = SlotSettings(target="disk:/dev/null", console=device.address)
            target = DiskTarget(Place(settings, station, "SN-1", tmp_path, desk))
            ends.callback(target.close)
            return target, device

        yield make


def test_a_device_goes_the_whole_way_by_the_stations_words(slot: Slot, says: bytes, identity: DeviceIdentity) -> None:
    boot = b"Linux version 6.1\r\nbirthmark-device: started\r\n"
    script: list[Step] = [
        boot,
        says,
        b"birthmark-device: holding\r\n",
        Hears(GO),
        state("operational", device_id="dev-sn-1"),
    ]
    script += [state("connected", broker="localhost:8883"), Hears(LOCK), state("locked")]
    target, device = slot(script)
    assert target.identify(limit=LIMIT) == identity
    assert target.attest(limit=LIMIT) == BORN
    seen = target.self_test(limit=LIMIT)
    assert (seen["device_id"], seen["broker"]) == ("dev-sn-1", "localhost:8883")
    assert target.lock() == {"mode": "locked", "power": "off"}
    target.close()
    assert device.heard == [GO, LOCK]


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ([b"Kernel panic - not syncing: VFS\n"], BootFailed, "Kernel panic - not syncing: VFS"),
        ([b"[    1.0] Kernel panic - not syncing: VFS\n"], BootFailed, "not syncing: VFS"),
        ([b"birthmark-boot: root-a is not what\n"], BootFailed, "root-a is not what"),
        ([state("unprovisioned", reason="no device.json")], BootFailed, "found no record: no device.json"),
        ([IDENTITY_MARK.encode() + b"{}\n"], ConsoleGarbled, "identity can't be read: format"),
        ([IDENTITY_MARK.encode() + b"\xff\xfe\n"], ConsoleGarbled, "identity can't be read"),
        ([b"BIRTHMARK-STATE [1]\n"], ConsoleGarbled, "state can't be read"),
        ([b"BIRTHMARK-STATE nonsense\n"], ConsoleGarbled, "state can't be read"),
        ([state("failed", code="tpm-failed", reason="no TPM")], DeviceFailed, "tpm-failed: no TPM"),
        ([b"U-Boot 2023.01\n=> ", HANGS_UP], ConsoleGone, "it last said: U-Boot 2023.01"),
        ([b"login:\n"], ConsoleSilent, "no BIRTHMARK-IDENTITY on .* it last said: login:"),
    ],
)
def test_what_keeps_a_device_from_saying_who_it_is_is_named(
    slot: Slot, script: list[Step], error: type[FactoryError], words: str
) -> None:
    target, _device = slot(script)
    limit = SHORT if error is ConsoleSilent else LIMIT
    with pytest.raises(error, match=words):
        target.identify(limit=limit)


def test_a_slot_without_a_console_says_what_to_write(tmp_path: Path, desk: MemoryDesk) -> None:
    station = StationSettings(server="https://localhost:1", certificate=tmp_path, key=tmp_path, root=tmp_path)
    target = DiskTarget(Place(SlotSettings(target="disk:/dev/null"), station, "SN-1", tmp_path, desk))
    with pytest.raises(NotADisk, match=r"want console = \.\.\. in station\.toml"):
        target.identify(limit=LIMIT)
    target.close()


def test_the_servers_refusal_is_in_the_devices_words(slot: Slot, says: bytes) -> None:
    refused = state("failed", code="server-refused", reason="ek-not-listed: no manifest names this endorsement key")
    target, _device = slot([says, Hears(GO), refused])
    target.identify(limit=LIMIT)
    with pytest.raises(DeviceFailed, match="server-refused: ek-not-listed: no manifest") as raised:
        target.attest(limit=LIMIT)
    assert raised.value.fails


@pytest.mark.parametrize("code", ["server-unreachable", "broker-refused", "tpm-busy"])
def test_what_an_agent_tries_again_is_waited_for(slot: Slot, says: bytes, code: str) -> None:
    target, _device = slot([says, Hears(GO), state("failed", code=code, reason="later"), state("operational")])
    target.identify(limit=LIMIT)
    assert target.attest(limit=LIMIT) == BORN


def test_a_device_that_says_it_is_born_is_not_believed(slot: Slot, says: bytes, desk: MemoryDesk) -> None:
    desk.births.clear()
    target, _device = slot([says, Hears(GO), state("operational", device_id="dev-sn-1")])
    target.identify(limit=LIMIT)
    with pytest.raises(DeviceFailed, match="says that it was born, and the server knows no SN-1"):
        target.attest(limit=LIMIT)


def test_a_device_that_says_it_is_connected_is_not_believed(slot: Slot, says: bytes, desk: MemoryDesk) -> None:
    desk.seen.clear()
    target, _device = slot([says, Hears(GO), state("operational"), state("connected")])
    target.identify(limit=LIMIT)
    target.attest(limit=LIMIT)
    with pytest.raises(DeviceFailed, match="the server heard nothing of SN-1"):
        target.self_test(limit=SHORT)


def test_a_device_that_cant_be_locked_says_why(slot: Slot, says: bytes) -> None:
    target, _device = slot([says, Hears(LOCK), state("failed", reason="device.json can't be changed")])
    target.identify(limit=LIMIT)
    with pytest.raises(DeviceFailed, match=r"device\.json can't be changed"):
        target.lock()


def test_a_device_that_dies_while_it_is_attested_is_not_waited_for(slot: Slot, says: bytes) -> None:
    target, _device = slot([says, Hears(GO), b"Kernel panic - not syncing: attempted to kill init\n"])
    target.identify(limit=LIMIT)
    with pytest.raises(BootFailed, match="attempted to kill init"):
        target.attest(limit=LIMIT)
