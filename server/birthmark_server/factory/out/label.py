"""A device's label: a QR code with who it is, and the same in words. Laid out once, drawn as PNG and as SVG.

What the code says is a URI (RFC 3986), short enough for a small code:

    BM1:SN-001000-U*EDGE-7*sn-001000-u        serial number * model * device id; a space is %20

Scheme and device id are read without case. Where serial number and model have no small letters all of it is written in
capitals: QR's alphanumeric mode then takes 5.5 bits for a character, not 8. Error correction is at least M (15 %),
higher where it costs no larger code. Source: ISO/IEC 18004:2015 §7.3.4, §7.5; quiet zone of 4 modules, §6.3.8.

A label is 50 x 25 mm, in dots of a 203 dpi printer: its modules are whole dots, 0.5 to 0.625 mm for usual names, 0.25
mm for the longest.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import unquote

from birthmark_server.factory.out.errors import FactoryExtraMissing
from birthmark_server.factory.out.font import ADVANCE, GLYPH_ROWS, glyph
from birthmark_wire import ids
from birthmark_wire.errors import DecodeError

SCHEME: Final = "BM1:"
DOTS_PER_MM: Final = 8
WIDTH_MM: Final = 50
HEIGHT_MM: Final = 25
WIDTH: Final = WIDTH_MM * DOTS_PER_MM
HEIGHT: Final = HEIGHT_MM * DOTS_PER_MM
_QUIET: Final = 4
_MOST_DOTS: Final = 5
_MARGIN: Final = 8
_LEADING: Final = 8


@dataclass(frozen=True, slots=True)
class Label:
    """What stands on it."""

    serial: str
    model: str
    device_id: str

    def payload(self) -> str:
        """Return what the QR code says."""
        text = "*".join(part.replace(" ", "%20") for part in (self.serial, self.model, self.device_id))
        capitals = self.serial.isupper() and self.model == self.model.upper()
        return SCHEME + (text.upper() if capitals else text)

    @classmethod
    def read(cls, payload: str) -> "Label":
        """Read a payload; raise DecodeError."""
        parts = payload[len(SCHEME) :].split("*")
        if payload[: len(SCHEME)].upper() != SCHEME or len(parts) != 3:
            raise DecodeError(f"want {SCHEME}serial*model*device-id, got {payload[:80]!r}")
        serial, model = (ids.printable_name(unquote(part), field="label") for part in parts[:2])
        return cls(serial, model, ids.device_id(parts[2].lower()))


@dataclass(frozen=True, slots=True)
class Words:
    """One line of text. x, y: its upper left corner; scale: dots for each of the font's. All in dots."""

    text: str
    x: int
    y: int
    scale: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is, in dots. modules: the code's rows, without its quiet zone; left, top: of the first one."""

    label: Label
    modules: tuple[tuple[bool, ...], ...]
    dots: int
    left: int
    top: int
    words: tuple[Words, ...]


def lay_out(label: Label) -> Layout:
    """Place code and words. Raise FactoryExtraMissing where segno is not installed."""
    try:
        import segno  # of the extra `factory`; not for every command's start
    except ModuleNotFoundError:
        raise FactoryExtraMissing("labels need the extra `factory`: pip install 'birthmark[factory]'") from None
    code = segno.make(label.payload(), error="m", micro=False)
    modules = tuple(tuple(bool(module) for module in row) for row in code.matrix)
    across = len(modules) + 2 * _QUIET
    dots = min(_MOST_DOTS, HEIGHT // across)
    side = across * dots
    edge = _QUIET * dots
    words = tuple(_words(label, left=side, width=WIDTH - _MARGIN - side))
    return Layout(label, modules, dots, edge, edge + (HEIGHT - side) // 2, words)


def _words(label: Label, *, left: int, width: int) -> Iterator[Words]:
    """Serial number largest, then model, then device id; each as large as fits, then in several lines."""
    blocks = [_fit(text, width, largest) for text, largest in _texts(label)]
    height = sum(len(lines) * (GLYPH_ROWS + 2) * scale for lines, scale in blocks) + _LEADING * (len(blocks) - 1)
    y = max((HEIGHT - height) // 2, 0)
    for lines, scale in blocks:
        for line in lines:
            yield Words(line, left, y, scale)
            y += (GLYPH_ROWS + 2) * scale
        y += _LEADING


def _texts(label: Label) -> Sequence[tuple[str, int]]:
    return (label.serial, 3), (label.model, 2), (label.device_id, 2)


def _fit(text: str, width: int, largest: int) -> tuple[list[str], int]:
    for scale in range(largest, 1, -1):
        if len(text) * ADVANCE * scale <= width:
            return [text], scale
    scale = 2 if len(text) * ADVANCE * 2 <= 2 * width else 1
    across = width // (ADVANCE * scale)
    return [text[start : start + across] for start in range(0, len(text), across)], scale


# -- PNG: one bit for each dot, no library


def draw_png(layout: Layout) -> bytes:
    """Return the label as PNG, a pixel for each of the printer's dots."""
    rows = [bytearray(b"\1" * WIDTH) for _ in range(HEIGHT)]
    for row, modules in enumerate(layout.modules):
        for column, is_dark in enumerate(modules):
            if is_dark:
                _fill(rows, layout.left + column * layout.dots, layout.top + row * layout.dots, layout.dots)
    for words in layout.words:
        for place, character in enumerate(words.text):
            for x, y in glyph(character):
                _fill(rows, words.x + (place * ADVANCE + x) * words.scale, words.y + y * words.scale, words.scale)
    return _png(rows)


def _fill(rows: list[bytearray], x: int, y: int, size: int) -> None:
    for row in rows[y : y + size]:
        row[x : x + size] = bytes(min(size, max(WIDTH - x, 0)))


def _png(rows: Sequence[bytearray]) -> bytes:
    """Source: PNG (Third Edition) §11: greyscale of one bit, no filter; pHYs in pixels for a metre."""
    packed = b"".join(b"\0" + int("".join(map(str, row)), 2).to_bytes(WIDTH // 8, "big") for row in rows)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 1, 0, 0, 0, 0)),
        (b"pHYs", struct.pack(">IIB", DOTS_PER_MM * 1000, DOTS_PER_MM * 1000, 1)),
        (b"IDAT", zlib.compress(packed, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


# -- SVG


def draw_svg(layout: Layout) -> str:
    """Return the label as SVG of its size in millimetres; it stands alone, and in a page."""
    words = "".join(_svg_words(each) for each in layout.words)
    title = escape(layout.label.serial)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_MM}mm" height="{HEIGHT_MM}mm"'
        f' viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{title}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<path fill="#000" shape-rendering="crispEdges" d="{"".join(_svg_code(layout))}"/>'
        f'<g fill="#000" font-family="monospace" xml:space="preserve">{words}</g></svg>\n'
    )


def _svg_code(layout: Layout) -> Iterator[str]:
    """Runs of dark modules, row by row."""
    dots = layout.dots
    for row, modules in enumerate(layout.modules):
        start = 0
        for column, is_dark in enumerate((*modules, False)):
            if not is_dark:
                if column > start:
                    x, y, wide = layout.left + start * dots, layout.top + row * dots, (column - start) * dots
                    yield f"M{x} {y}h{wide}v{dots}h-{wide}z"
                start = column + 1


def _svg_words(words: Words) -> str:
    long = (len(words.text) * ADVANCE - 1) * words.scale
    size = (GLYPH_ROWS + 2) * words.scale
    return (
        f'<text x="{words.x}" y="{words.y + GLYPH_ROWS * words.scale}" font-size="{size}" textLength="{long}"'
        f' lengthAdjust="spacingAndGlyphs">{escape(words.text)}</text>'
    )
