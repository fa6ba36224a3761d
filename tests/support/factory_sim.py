"""A factory without hardware: devices with a TPM in software behind the Target protocol, and a server in memory.

`SimulatedDevice` is one board with its TPM; `SimulatedTarget` is it in a slot. `Steps` counts what happens, in order,
so that a test can cut the power at any of it. `MemoryDesk` keeps what the server must keep: one serial number, one EK,
one MAC, one birth each; it is also who a device proves itself to where no real server runs.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from birthmark_agent.csr import birth_names, build_request
from birthmark_server.factory.desk import FactoryRefused, ServerUnreachable, Standing
from birthmark_server.factory.entries import MOST_ENTRY_BYTES
from birthmark_server.factory.entry import ENTRY_TYPE, Entry
from birthmark_server.factory.errors import FactoryError
from birthmark_server.factory.target import Born, Flashed, Progress
from birthmark_server.factory.values import SerialBlock, WorkOrder
from birthmark_server.tpm.public import parse_public
from birthmark_wire import jws
from birthmark_wire.factory import DeviceIdentity, ProvisionRecord
from birthmark_wire.tpm_templates import AK, BIRTH_KEY
from support.software_tpm import SoftwareKey, SoftwareTpm, VendorCa

ORDER_P256: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Cut(BaseException):
    """The power went. Nothing catches it."""


class CableOut(FactoryError):
    """The cable was pulled."""

    code = "cable-out"


class Broken(FactoryError):
    """The device is not as it must be."""

    code = "broken"
    fails = True


@dataclass
class Steps:
    """Everything that happens, one step after another; the power goes before or behind step number `cut`."""

    cut: int = -1
    behind: bool = False
    taken: list[str] = field(default_factory=list)
    is_off: bool = False

    def step(self, name: str) -> Callable[[], None]:
        """Take a step; call what is returned when it is done."""
        if self.is_off:
            raise Cut(name)
        self.taken.append(name)
        here = len(self.taken) - 1 == self.cut
        if here and not self.behind:
            self._off(name)
        return lambda: self._off(name) if here else None

    def _off(self, name: str) -> None:
        self.is_off = True
        raise Cut(name)


def derived_tpm(vendor: VendorCa, name: str) -> SoftwareTpm:
    """Return the TPM of that name: the same one each time, in any process."""
    ek = _derived(f"{name} ek")

    def key(template: bytes, use: str) -> SoftwareKey:
        private = _derived(f"{name} {use}")
        return SoftwareKey(private, parse_public(template).with_key(private.public_key()))

    tpm = SoftwareTpm.create(vendor, ek_key=ek)
    return replace(tpm, ak=key(AK, "ak"), birth_key=key(BIRTH_KEY, "birth"))


def _derived(name: str) -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(hashlib.sha512(name.encode()).digest(), "big") % (ORDER_P256 - 1) + 1
    return ec.derive_private_key(number, ec.SECP256R1())


class Prover(Protocol):
    """Who a device proves itself to."""

    def prove(self, tpm: SoftwareTpm, record: ProvisionRecord) -> Born:
        """Have it be born, or raise FactoryError."""


@dataclass
class SimulatedDevice:
    """One board. record: what was flashed onto it. faults: by the name of a method, what it raises, once each."""

    tpm: SoftwareTpm
    mac: str = ""
    record: ProvisionRecord | None = None
    image_sha256: str = ""
    is_locked: bool = False
    flashes: int = 0
    faults: dict[str, list[Exception]] = field(default_factory=dict)

    def identity(self) -> DeviceIdentity:
        """What it says of itself."""
        serial = "unknown" if self.record is None else self.record.serial
        return DeviceIdentity(
            self.tpm.ek_certificates,
            self.tpm.ek_public.encode(),
            self.tpm.ak.public.encode(),
            build_request(self.tpm.birth_key, birth_names(serial)),
            "simulated/1.0",
            self.mac,
        )


@dataclass
class SimulatedTarget:
    """A device in a slot."""

    device: SimulatedDevice
    prover: Prover
    steps: Steps = field(default_factory=Steps)
    hang: dict[str, threading.Event] = field(default_factory=dict)
    is_closed: bool = False

    def flash(self, image: Path, record: ProvisionRecord, progress: Progress) -> Flashed:
        """Keep image and record."""
        done = self._begin("flash")
        data = image.read_bytes()
        for part in range(1, 5):
            progress(len(data) * part // 4, len(data))
        self.device.record, self.device.is_locked = record, False
        self.device.image_sha256 = hashlib.sha256(data).hexdigest()
        self.device.flashes += 1
        done()
        return Flashed(self.device.image_sha256, len(data), timedelta(seconds=1))

    def identify(self, *, limit: timedelta) -> DeviceIdentity:
        """Say who it is; a blank or a locked one says nothing."""
        done = self._begin("identify")
        if self.device.record is None or self.device.is_locked:
            raise CableOut("no answer from the device")
        done()
        return self.device.identity()

    def attest(self, *, limit: timedelta) -> Born:
        """Prove itself."""
        done = self._begin("attest")
        assert self.device.record is not None
        born = self.prover.prove(self.device.tpm, self.device.record)
        done()
        return born

    def self_test(self, *, limit: timedelta) -> Mapping[str, str]:
        """Say something over a broker that is not there."""
        self._begin("self_test")()
        return {"topic": "hello"}

    def lock(self) -> Mapping[str, str]:
        """End factory mode."""
        done = self._begin("lock")
        self.device.is_locked = True
        done()
        return {"locked": "yes"}

    def close(self) -> None:
        """Let go; what hangs is let go of too."""
        self.is_closed = True
        for event in self.hang.values():
            event.set()

    def _begin(self, name: str) -> Callable[[], None]:
        done = self.steps.step(name)
        if name in self.hang:
            assert self.hang[name].wait(60)
            raise CableOut("let go of")
        if faults := self.device.faults.get(name):
            raise faults.pop(0)
        return done


@dataclass
class MemoryDesk:
    """A server in memory: desk and prover. is_down: no answer; refuses: by serial number, code and words."""

    order: WorkOrder
    steps: Steps = field(default_factory=Steps)
    is_down: bool = False
    given: int = 0
    blocks: dict[str, SerialBlock] = field(default_factory=dict)
    brought: list[str] = field(default_factory=list)
    by_serial: dict[str, Entry] = field(default_factory=dict)
    births: dict[str, Born] = field(default_factory=dict)
    proofs: int = 0
    refuses: dict[str, tuple[str, str]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def workorder(self, name: str) -> WorkOrder:
        """The one that there is."""
        self._answer("workorder")()
        return self.order

    def take_serials(self, workorder: str, count: int, *, request: str) -> SerialBlock:
        """The next places; the same ones for the same request."""
        done = self._answer("take_serials")
        with self._turn:
            if request in self.blocks:
                return self.blocks[request]
            first = self.given
            count = min(count, self.order.quantity - first)
            if count == 0:
                raise FactoryRefused("no serial numbers are left", server_code="serials-exhausted")
            self.given += count
            block = self.blocks[request] = SerialBlock(workorder, "st-1", first, count, datetime.now(UTC))
        done()
        return block

    def close(self) -> None:
        """Nothing was opened."""

    def bring_entry(self, jws_bytes: bytes) -> str:
        """Take an entry; the same again changes nothing."""
        done = self._answer("bring_entry")
        entry = Entry.decode(jws.decode(jws_bytes, message_type=ENTRY_TYPE, most=MOST_ENTRY_BYTES).payload)
        with self._turn:
            if entry.serial in self.refuses:
                code, words = self.refuses[entry.serial]
                raise FactoryRefused(words, server_code=code)
            for other in self.by_serial.values():
                if (other.serial == entry.serial) != (other.ek_sha256 == entry.ek_sha256):
                    raise FactoryRefused(f"EK or serial number of {other.serial}", server_code="entry-conflict")
            if entry.serial not in self.by_serial:
                self.brought.append(entry.serial)
            self.by_serial[entry.serial] = entry
        done()
        return device_id(entry.serial)

    def device(self, serial: str) -> Standing | None:
        """Where a device is."""
        self._answer("device")()
        born = self.births.get(serial)
        if born is None:
            return None
        return Standing(born.device_id, serial, "active", NOW if serial in self.seen else None, born.certificate)

    def prove(self, tpm: SoftwareTpm, record: ProvisionRecord) -> Born:
        """A device proves itself: born once, and told again who it is."""
        done = self._answer("prove")
        with self._turn:
            self.proofs += 1
            entry = self.by_serial.get(record.serial)
            if entry is None or entry.ek_sha256 != tpm.ek_sha256:
                raise FactoryRefused("no manifest names this endorsement key", server_code="ek-not-listed")
            born = self.births.setdefault(
                record.serial, Born(device_id(record.serial), self._certify(record.serial, tpm))
            )
        done()
        return born

    def _certify(self, serial: str, tpm: SoftwareTpm) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, serial)])
        key = tpm.birth_key.private.public_key()
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(NOW)
        made = builder.not_valid_after(NOW + timedelta(days=1)).sign(self._key, hashes.SHA256())
        return made.public_bytes(Encoding.DER)

    def _answer(self, name: str) -> Callable[[], None]:
        done = self.steps.step(name)
        if self.is_down:
            raise ServerUnreachable("st-1: connection refused")
        return done


NOW: Final = datetime(2026, 11, 28, 5, 0, 0, tzinfo=UTC)


def device_id(serial: str) -> str:
    """The device id that goes with a serial number."""
    return f"dev-{serial.lower()}"
