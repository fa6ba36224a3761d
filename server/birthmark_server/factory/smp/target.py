"""`smp:ADDRESS`: a microcontroller in a slot.

flash      image checked, uploaded by MCUboot's serial recovery (an empty board) or by our own firmware (an update),
           booted, its slot's hash read back; then the unit's record, read back too
identify   the firmware and `birthmark-agent identify`, at the station, with the board's TPM
attest     `birthmark-agent enroll`, the same way
self-test  `birthmark-agent run` until the server has heard it over the broker
lock       factory mode ends, and a TPM command is refused from then on
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_server.errors import Misconfigured
from birthmark_server.factory.desk import Desk, Standing
from birthmark_server.factory.errors import ReadBackDiffers
from birthmark_server.factory.smp import errors
from birthmark_server.factory.smp.agent import AgentServer, BoardAgent
from birthmark_server.factory.smp.client import SmpBoard
from birthmark_server.factory.smp.group import BoardIdentity
from birthmark_server.factory.smp.image import SLOT_BYTES, FirmwareImage, Version, read_image, read_image_key
from birthmark_server.factory.smp.tpm_check import GET_RANDOM, check_tpm
from birthmark_server.factory.station.targets import Place, TargetKind, register
from birthmark_server.factory.target import Born, Flashed, Progress
from birthmark_wire.errors import DecodeError
from birthmark_wire.factory import IDENTITY_MARK, DeviceIdentity, ProvisionRecord

_BOOT_S: Final = 60.0
_LOOK_S: Final = 0.25


class SmpTarget:
    """One board; used once. See factory.target.Target for what each method promises.

    folder: of this unit, for its agent. key: what firmware is signed by. desk: where the self-test asks what the server
    has heard; None for a target that is only flashed. close() may come from any thread; whatever blocks then raises.
    """

    def __init__(
        self,
        address: str,
        *,
        serial: str,
        folder: Path,
        key: ec.EllipticCurvePublicKey,
        server: AgentServer,
        desk: Desk | None,
        slot_bytes: int = SLOT_BYTES,
    ) -> None:
        self._address = address
        self._serial = serial
        self._key = key
        self._desk = desk
        self._slot_bytes = slot_bytes
        self._agent = BoardAgent(folder, address=address, server=server)
        self._turn = threading.Lock()
        self._open: SmpBoard | None = None
        self._closed = False

    # -- the phases

    def flash(self, image: Path, record: ProvisionRecord, progress: Progress) -> Flashed:
        began_s = time.monotonic()
        firmware = read_image(image, key=self._key, slot_bytes=self._slot_bytes)
        with self._board() as board:
            written = self._write(board, firmware, progress)
        with self._booted(firmware.version) as board:
            self._read_back(board, firmware)
            board.enrollment.provision(record.encode())
            if (found := board.enrollment.record()) != record.encode():
                raise ReadBackDiffers(f"the record reads back as {found[:80]!r}")
        return Flashed(firmware.sha256, written, timedelta(seconds=time.monotonic() - began_s))

    def identify(self, *, limit: timedelta) -> DeviceIdentity:
        with self._board() as board:
            who = self._who(board)
            if who.locked:
                raise errors.BoardLocked(f"the board was locked before, as {who.serial or 'nobody'}")
            check_tpm(board.enrollment)
        printed = self._agent.ask("identify", "--console", "--serial", self._serial, limit=limit)
        for line in printed.splitlines():
            if line.startswith(IDENTITY_MARK):
                try:
                    seen = DeviceIdentity.decode(line.removeprefix(IDENTITY_MARK).encode())
                except DecodeError as error:
                    raise errors.AgentFailed(f"birthmark-agent identify printed no identity: {error}") from None
                firmware = f"firmware/{who.firmware}"
                return DeviceIdentity(seen.ek_certificates, seen.ek_public, seen.ak_public, seen.csr, firmware, who.mac)
        raise errors.AgentFailed(f"birthmark-agent identify printed no identity, but {printed[:200]!r}")

    def attest(self, *, limit: timedelta) -> Born:
        self._agent.ask("enroll", "--json", limit=limit)
        if (standing := self._standing()) is None:
            raise errors.AttestationRefused(f"the agent was enrolled, and the server knows no device {self._serial}")
        return Born(standing.device_id, standing.idevid)

    def self_test(self, *, limit: timedelta) -> Mapping[str, str]:
        until = time.monotonic() + limit.total_seconds()
        before = self._standing()
        self._agent.begin("run")
        try:
            while True:
                self._agent.check_running()
                standing = self._standing()
                if standing and standing.last_seen_at and standing.last_seen_at != (before and before.last_seen_at):
                    break
                if time.monotonic() > until:
                    raise errors.NotSeen(f"the server heard nothing of {self._serial} within {limit}")
                time.sleep(_LOOK_S)
            report = self._agent.status().get("report")
        finally:
            self._agent.end()
        broker = str(report.get("broker", "")) if isinstance(report, dict) else ""
        return {
            "device_id": standing.device_id,
            "seen_at": f"{standing.last_seen_at:%Y-%m-%dT%H:%M:%SZ}",
            "broker": broker,
        }

    def lock(self) -> Mapping[str, str]:
        with self._board() as board:
            if not self._who(board).locked:
                board.enrollment.lock()
            who = self._who(board)
            try:
                board.enrollment.tpm(GET_RANDOM)
            except errors.BoardLocked:
                if who.locked:
                    return {"mode": who.mode, "firmware": who.firmware, "tpm": "refused"}
            raise errors.NotLocked(f"after lock the board says {who.mode!r}, and answers TPM commands as before")

    def close(self) -> None:
        with self._turn:
            self._closed = True
            if self._open is not None:
                self._open.interrupt()
        self._agent.stop()

    # -- one after the other

    def _write(self, board: SmpBoard, firmware: FirmwareImage, progress: Progress) -> int:
        """Upload and start the image; return how many bytes were written: none where the board runs it already."""
        who = board.enrollment.identify()
        if who and who.locked:
            raise errors.BoardLocked(f"the board was locked before, as {who.serial or 'nobody'}")
        slots = board.slots()
        for slot in slots:
            firmware.check_not_below(slot.version)
        if who and any(slot.active and slot.digest == firmware.digest for slot in slots):
            progress(len(firmware.data), len(firmware.data))
            return 0
        board.upload(firmware.data, progress)
        if who:
            board.test(firmware.digest)
        board.reset()
        return len(firmware.data)

    def _read_back(self, board: SmpBoard, firmware: FirmwareImage) -> None:
        active = [slot for slot in board.slots() if slot.active]
        if [slot.digest for slot in active] != [firmware.digest]:
            found = ", ".join(f"{slot.version} {slot.digest.hex()}" for slot in active) or "nothing"
            raise ReadBackDiffers(f"want {firmware.digest.hex()} in the slot that runs, the board has {found}")
        if not active[0].confirmed:
            board.confirm(firmware.digest)

    def _standing(self) -> Standing | None:
        return None if self._desk is None else self._desk.device(self._serial)

    def _who(self, board: SmpBoard) -> BoardIdentity:
        """Ask who the board is. Raise WrongFirmware, or OtherBoard where it has another unit's record."""
        if (who := board.enrollment.identify()) is None:
            raise errors.WrongFirmware("the board has other firmware than ours, or waits in its bootloader")
        if who.signature != "ok":
            raise errors.WrongFirmware(f"the firmware says of its own signature: {who.signature}")
        if who.serial and who.serial != self._serial:
            raise errors.OtherBoard(f"want the board with the record of {self._serial}, this one is {who.serial}")
        return who

    @contextmanager
    def _booted(self, version: Version) -> Iterator[SmpBoard]:
        """A connection to the firmware of that version, once it runs. Raise WrongFirmware."""
        until = time.monotonic() + _BOOT_S
        while True:
            with self._board() as board:
                who = board.enrollment.identify()
                if who is not None and _is(who.firmware, version):
                    if who.signature != "ok":
                        raise errors.WrongFirmware(f"the firmware says of its own signature: {who.signature}")
                    yield board
                    return
            if time.monotonic() > until:
                has = "waits in its bootloader, or has other firmware" if who is None else f"runs {who.firmware}"
                raise errors.WrongFirmware(f"want {version} to run after its start; the board {has}")
            time.sleep(_LOOK_S)

    @contextmanager
    def _board(self) -> Iterator[SmpBoard]:
        """A connection for one piece of work, which close() breaks off."""
        with SmpBoard.open(self._address) as board:
            with self._turn:
                if self._closed:
                    raise errors.CableGone(f"{self._address}: let go of")
                self._open = board
            try:
                yield board
            finally:
                with self._turn:
                    self._open = None


def _is(said: str, version: Version) -> bool:
    """Whether firmware that says this of itself is of that version; as in MCUboot, without the build number."""
    try:
        found = Version.parse(said)
    except ValueError:
        return False
    return (found.major, found.minor, found.revision) == (version.major, version.minor, version.revision)


def open_smp(place: Place) -> SmpTarget:
    """Return the board in a slot. Raise Misconfigured, or ImageRefused where the signer's key can't be read."""
    if place.station.image_key is None:
        raise Misconfigured("image_key is missing: the PEM file with the public key that firmware is signed by")
    return SmpTarget(
        place.slot.target.removeprefix("smp:"),
        serial=place.serial,
        folder=place.folder / "agent",
        key=read_image_key(place.station.image_key),
        server=AgentServer(place.station.server, place.station.root, place.ek_template),
        desk=place.desk,
    )


register("smp", TargetKind(open_smp, proves_itself_later=False))
