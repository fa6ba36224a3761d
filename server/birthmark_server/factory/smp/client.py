"""A board over SMP: its slots, its firmware, and what only ours answers (group.py). The one module over smpclient.

    with SmpBoard.open("/dev/ttyACM0") as board:
        board.upload(image.data, progress)

smpclient has the messages and the upload, as coroutines; a slot of the station is a thread, so everything here blocks.
Whatever goes wrong is a FactoryError. Limits of time are generous: a board erases flash for many seconds, and waiting
longer for one that is silent costs nothing when all is well.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeVar

import cbor2
from pydantic import ValidationError
from smp.error import MGMT_ERR, ErrorV1
from smp.exceptions import SMPException
from smpclient import SMPClient
from smpclient.exceptions import SMPClientException, SMPUploadError
from smpclient.generics import SMPRequest, TEr1, TEr2, TRep, error_v1, error_v2
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import EchoWrite, MCUMgrParametersRead, ResetWrite
from smpclient.transport import SMPTransport

from birthmark_server.factory.smp.errors import BoardGarbled, BoardSilent, CableGone, DeviceRefused
from birthmark_server.factory.smp.group import Enrollment
from birthmark_server.factory.smp.image import Version
from birthmark_server.factory.smp.line import Line
from birthmark_server.factory.target import Progress

T = TypeVar("T")

_LIMIT_S: Final = 30.0
_ERASE_LIMIT_S: Final = 60.0
_FIRST_PATIENCE_S: Final = 2.0
_FRAME_OVERHEAD: Final = 4
"""Length and checksum share the board's buffer with the message."""
_LEAST_BUFFER: Final = 96
"""What every SMP server takes: one line of the framing."""
_MOST_STEPS_BACK: Final = 8

# What smpclient logs comes up as an exception too, and a slot has its line on the station's board.
logging.getLogger("smpclient").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot with an image in it, as the board lists it. digest: the image's SHA-256 (image.FirmwareImage.digest)."""

    number: int
    version: Version
    digest: bytes
    active: bool
    pending: bool
    confirmed: bool


class SmpBoard:
    """One connection to one board. Not thread-safe."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._transport = _Transport(line)
        self._client = SMPClient(self._transport, "")
        self._runner = asyncio.Runner()
        self.enrollment: Final = Enrollment(line)

    @classmethod
    def open(cls, address: str, *, limit_s: float = 30.0) -> "SmpBoard":
        """Connect, and wait until it answers: a board that starts may take a moment. Raise CableGone, BoardSilent."""
        board = cls(Line.open(address, limit_s=min(limit_s, 10.0)))
        try:
            board._meet(limit_s)
        except BaseException:
            board.close()
            raise
        return board

    def close(self) -> None:
        """Hang up. Fine to repeat."""
        self._runner.close()
        self._line.close()

    def interrupt(self) -> None:
        """Have whatever is waited for raise CableGone. Any thread may; before close()."""
        self._line.interrupt()

    def __enter__(self) -> "SmpBoard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def echo(self, text: str) -> str:
        """Return what the board says back."""
        return self._ask(EchoWrite(d=text), "echo").r

    def slots(self) -> tuple[Slot, ...]:
        """Return the slots that have an image which the board finds whole.

        In serial recovery an MCUboot that runs images in RAM finds none: it looks for them there, before they are.
        """
        slots = []
        for state in self._ask(ImageStatesRead(), "list of images").images:
            try:
                version = Version.parse(state.version)
            except ValueError as error:
                raise BoardGarbled(f"slot {state.slot}: {error}") from None
            flags = (bool(state.active), bool(state.pending), bool(state.confirmed))
            slots.append(Slot(state.slot, version, bytes(state.hash or b""), *flags))
        return tuple(slots)

    def upload(self, image: bytes, progress: Progress) -> None:
        """Write an image to the slot that the board has free. Raise DeviceRefused with the board's reason."""
        self._run(self._upload(image, progress), "upload")

    def test(self, digest: bytes) -> None:
        """Mark an image for the next start."""
        self._ask(ImageStatesWrite(hash=digest), "mark for test")

    def confirm(self, digest: bytes) -> None:
        """Mark an image to be started from now on."""
        self._ask(ImageStatesWrite(hash=digest, confirm=True), "confirm")

    def reset(self) -> None:
        """Have it start again. A board that goes before it has answered is fine."""
        self._transport.limit_s = _LIMIT_S
        try:
            answer = self._run(self._client.request(ResetWrite()), "reset")
        except (CableGone, BoardSilent):
            return
        well = isinstance(answer, ErrorV1) and answer.rc == MGMT_ERR.EOK  # MCUboot says {"rc": 0}
        if not well and (error_v1(answer) or error_v2(answer)):
            raise DeviceRefused(f"reset: {_reason(answer)}")

    def _meet(self, limit_s: float) -> None:
        """Wait for its first answer, asking again ever more patiently, and learn how large a message it takes."""
        patience_s = _FIRST_PATIENCE_S
        while True:
            limit_s -= patience_s
            try:
                self._transport.initialize(self._ask(MCUMgrParametersRead(), "parameters", limit_s=patience_s).buf_size)
            except BoardSilent:
                if limit_s <= 0:
                    raise
                patience_s = min(2 * patience_s, limit_s)
            except DeviceRefused:
                return  # it answers, and does not say
            else:
                return

    async def _upload(self, image: bytes, progress: Progress) -> None:
        self._transport.limit_s = _ERASE_LIMIT_S
        reached, steps_back = 0, 0
        progress(0, len(image))
        async for offset in self._client.upload(image):
            steps_back += offset <= reached
            if offset > len(image) or steps_back > _MOST_STEPS_BACK:
                raise BoardGarbled(f"the board wants byte {offset} of {len(image)} after {reached}")
            reached = offset
            progress(reached, len(image))
            self._transport.limit_s = _LIMIT_S

    def _ask(self, request: SMPRequest[TRep, TEr1, TEr2], what: str, *, limit_s: float = _LIMIT_S) -> TRep:
        """Send one request; return the answer, or raise what the board, or the lack of one, says."""
        self._transport.limit_s = limit_s
        answer = self._run(self._client.request(request), what)
        if error_v1(answer) or error_v2(answer):
            raise DeviceRefused(f"{what}: {_reason(answer)}")
        return answer

    def _run(self, work: Coroutine[Any, Any, T], what: str) -> T:
        try:
            return self._runner.run(work)
        except SMPUploadError as error:
            raise DeviceRefused(f"{what}: {_reason(error.args[0])}") from None
        except (SMPClientException, SMPException, ValidationError, cbor2.CBORError, ValueError, TypeError) as error:
            raise BoardGarbled(f"{what}: {str(error).strip().splitlines()[0]}") from None


class _Transport(SMPTransport):
    """smpclient's way to the line. It blocks: nothing else runs in this loop. limit_s: for the next answer."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.limit_s = _LIMIT_S

    async def connect(self, address: str, timeout_s: float) -> None:
        """The line is open already."""

    async def disconnect(self) -> None:
        """The line is its owner's to close."""

    async def send(self, data: bytes) -> None:
        raise NotImplementedError("smpclient asks by send_and_receive()")

    async def receive(self) -> bytes:
        raise NotImplementedError("smpclient asks by send_and_receive()")

    async def send_and_receive(self, data: bytes) -> bytes:
        if len(data) > self.max_unencoded_size and self._smp_server_transport_buffer_size:
            raise BoardGarbled(f"the board takes messages of {self.max_unencoded_size} bytes, this one has {len(data)}")
        return self._line.ask(data, limit_s=self.limit_s)

    @property
    def mtu(self) -> int:
        return self.max_unencoded_size

    @property
    def max_unencoded_size(self) -> int:
        return (self._smp_server_transport_buffer_size or _LEAST_BUFFER) - _FRAME_OVERHEAD


def _reason(answer: object) -> str:
    """Say an error of SMP's: its name in the standard, and what the board adds in words."""
    error = getattr(answer, "err", answer)
    code = getattr(error, "rc", None)
    words = getattr(error, "rsn", None)
    name = getattr(code, "name", str(answer)).lower().replace("_", " ")
    return f"{name} ({code})" + (f": {words}" if words else "") if code is not None else name
