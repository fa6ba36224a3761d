"""Labels: what a scanner reads is what was meant, at the size that is printed."""

import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.cli.exits import Exit
from birthmark_server.factory.out.font import ADVANCE, CHARACTERS
from birthmark_server.factory.out.label import HEIGHT, WIDTH, Label, draw_png, draw_svg, lay_out
from birthmark_server.factory.out.sheet import draw_sheet, file_name
from birthmark_wire.errors import DecodeError
from support.factory_out import Made

NAME = r"[A-Za-z0-9][A-Za-z0-9 .:/+-]{0,63}"
SERIAL = r"[A-Z0-9][A-Z0-9 .:/+-]{0,63}"
USUAL = Label("SN-001000-U", "EDGE-7", "sn-001000-u")
LABELS = {
    "usual": USUAL,
    "small letters": Label("SN-0001", "model-a", "dev-sn-0001"),
    "all characters": Label("A B.C:D/E+F-G", "a b.c:d/e+f-g", "a-b-c-d-e-f-g-0a1b2c3d"),
    "longest": Label("S" * 64, "m" * 64, "d" * 64),
    "longest, all spaces": Label("S" + " " * 63, "m" + " " * 63, "d" * 64),
}

labels = st.builds(
    Label,
    serial=st.from_regex(SERIAL, fullmatch=True),
    model=st.from_regex(NAME, fullmatch=True),
    device_id=st.from_regex(r"d[a-z0-9-]{0,63}", fullmatch=True),
)


@given(labels)
def test_a_payload_reads_back(label: Label) -> None:
    assert Label.read(label.payload()) == label


@given(labels)
def test_a_payload_is_a_uri(label: Label) -> None:
    assert re.fullmatch(r"[A-Z0-9]+:([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})+", label.payload())


@given(labels)
def test_everything_stands_on_the_label_and_beside_the_code(label: Label) -> None:
    layout = lay_out(label)
    right = layout.left + (len(layout.modules) + 4) * layout.dots
    assert layout.dots >= 2  # 0.25 mm
    assert layout.top >= 4 * layout.dots
    assert layout.top + (len(layout.modules) + 4) * layout.dots <= HEIGHT
    for words in layout.words:
        assert words.x >= right
        assert words.x + len(words.text) * ADVANCE * words.scale <= WIDTH
        assert words.y + 7 * words.scale <= HEIGHT
    assert "".join(words.text for words in layout.words) == label.serial + label.model + label.device_id


@pytest.mark.parametrize(
    "text", ["", "BM1:", "BM2:A*B*c", "BM1:A*B", "BM1:A*B*c*d", "BM1:A*B*", "BM1:A*_*c", "BM1:*B*c"]
)
def test_what_is_no_payload_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        Label.read(text)


def test_the_font_has_each_character_of_a_name() -> None:
    assert {chr(code) for code in range(128) if re.fullmatch(r"[A-Za-z0-9 .:/+-]", chr(code))} == CHARACTERS


def test_a_png_says_its_size_on_paper() -> None:
    png = draw_png(lay_out(USUAL))
    at = png.index(b"pHYs") + 4
    assert struct.unpack(">IIB", png[at : at + 9]) == (8000, 8000, 1)


def test_a_serial_number_that_is_no_files_name_gets_one() -> None:
    names = [file_name(serial) for serial in ("SN-1", "A/1", "A:1", "A-1")]
    assert len(set(names)) == 4
    assert names[0] == "SN-1"
    assert not any("/" in name or ":" in name for name in names)


def scanned(path: Path) -> list[str]:
    """What a scanner reads in a picture."""
    done = subprocess.run(["zbarimg", "--quiet", "--raw", str(path)], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def drawn(svg: Path, dpi: float) -> Path:
    """The SVG as a printer of that resolution puts it on paper."""
    png = svg.with_suffix(".drawn.png")
    resolution = f"{dpi:g}"
    subprocess.run(["rsvg-convert", "-d", resolution, "-p", resolution, "-o", png, svg], check=True)
    return png


@pytest.mark.parts
@pytest.mark.parametrize("name", LABELS)
def test_a_scanner_reads_it_at_the_printers_resolution(tmp_path: Path, name: str) -> None:
    label = LABELS[name]
    layout = lay_out(label)
    (tmp_path / "label.png").write_bytes(draw_png(layout))
    (tmp_path / "label.svg").write_text(draw_svg(layout))
    assert scanned(tmp_path / "label.png") == [label.payload()]
    assert scanned(drawn(tmp_path / "label.svg", 203.2)) == [label.payload()]


@pytest.mark.parts
def test_a_scanner_reads_it_from_a_coarser_print(tmp_path: Path) -> None:
    (tmp_path / "label.svg").write_text(draw_svg(lay_out(USUAL)))
    assert scanned(drawn(tmp_path / "label.svg", 120)) == [USUAL.payload()]


@pytest.mark.parts
def test_a_scanner_reads_each_label_of_a_sheet(tmp_path: Path) -> None:
    wanted = [Label(f"SN-{place:06}", "EDGE-7", f"sn-{place:06}") for place in range(31)]
    page = draw_sheet(wanted, title="W-7")
    assert page.count('<div class="sheet">') == 2
    read = []
    for place, svg in enumerate(re.findall(r"<svg.*?</svg>", page, re.DOTALL)):
        path = tmp_path / f"{place}.svg"
        path.write_text(svg)
        read += scanned(drawn(path, 203.2))
    assert [Label.read(text) for text in read] == wanted


@pytest.mark.parts
def test_a_scanner_reads_what_the_command_drew(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("labels", "--workorder", "W1", "--station", str(made.folder), "--out", str(tmp_path))
    assert made.factory(*words) == Exit.DONE
    assert "W1.labels.html: 3 labels" in capsys.readouterr().err
    read = [Label.read(text) for path in sorted(tmp_path.glob("*.png")) for text in scanned(path)]
    assert read == [Label(f"SN-000{number}", "model-a", f"dev-sn-000{number}") for number in (1, 2, 3)]


def test_one_label_again(made: Made, tmp_path: Path) -> None:
    words = ("labels", "--workorder", "W1", "--station", str(made.folder), "--out", str(tmp_path / "out"))
    assert made.factory(*words, "--serial", "SN-0002") == Exit.DONE
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["SN-0002.png", "SN-0002.svg"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--workorder", "W1", "--serial", "SN-0009"), "station st-1 has labelled no SN-0009 for W1"),
        (("--workorder", "W9"), "has labelled nothing for work order 'W9'; it knows: W1"),
    ],
)
def test_what_was_not_labelled_is_said(
    made: Made, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert made.factory("labels", "--station", str(made.folder), *words) == Exit.NO
    assert said in capsys.readouterr().err
