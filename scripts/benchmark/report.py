"""The figures as one JSON object, and as a table with the aims beside them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from benchmark.device_cost import Agent, Handshake
from benchmark.load import Load
from benchmark.server_cost import Enroll
from support.front import Program


@dataclass(frozen=True, slots=True)
class RenewFront:
    """Renewals through a TLS front. load.server_cpu_ms: of server and front together."""

    front: Program
    load: Load


@dataclass(slots=True)
class Figures:
    """What was measured; None for a section that was not run."""

    enroll: Enroll | None = None
    renew: Load | None = None
    renew_front: RenewFront | None = None
    handshake: Handshake | None = None
    agent: Agent | None = None
    growth: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the object that --json prints: a key for each section that was run."""
        told: dict[str, Any] = {}
        if self.enroll is not None:
            told["enroll"] = {
                **_rounded(asdict(self.enroll.load)),
                "cpu_over_crypto": round(self.enroll.cpu_over_crypto, 2),
                "operations": [_rounded(asdict(operation)) for operation in self.enroll.floor],
            }
        if self.renew is not None:
            told["renew"] = _cost(self.renew)
        if self.renew_front is not None:
            told["renew_front"] = {"front": self.renew_front.front, **_cost(self.renew_front.load)}
        for name, side in (("handshake", self.handshake), ("agent", self.agent)):
            if side is not None:
                told[name] = _rounded(asdict(side))
        if self.growth is not None:
            told["growth"] = _rounded({"enroll_100k_over_1k": self.growth})
        return told


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. most, least: the aim, an upper or a lower bound; None where a figure has none."""

    what: str
    figure: float
    unit: str
    most: float | None = None
    places: int = 2
    least: float | None = None


def lines(figures: Figures) -> list[Line]:
    """Return what the table shows, in its order."""
    told: list[Line] = []
    if (enroll := figures.enroll) is not None:
        told += [
            Line("enroll: server CPU each", enroll.load.server_cpu_ms, "ms", 3.2),
            Line("enroll: bare cryptography of the same", enroll.crypto_ms, "ms"),
            Line("enroll: CPU over cryptography", enroll.cpu_over_crypto, "x", 2.5),
            Line("enroll: rate, load generator on the same machine", enroll.load.per_s, "/s", places=0),
            Line("enroll: median", enroll.load.p50_ms, "ms", places=1),
            Line("enroll: 99th percentile", enroll.load.p99_ms, "ms", places=1),
        ]
    if figures.renew is not None:
        told += [
            Line("renew: server CPU each", figures.renew.server_cpu_ms, "ms", 2.8),
            Line("renew: rate", figures.renew.per_s, "/s", places=0),
        ]
    if (behind := figures.renew_front) is not None:
        told += [
            Line(f"renew behind {behind.front}: CPU each, both", behind.load.server_cpu_ms, "ms", 1.4),
            Line(f"renew behind {behind.front}: rate", behind.load.per_s, "/s", places=0),
        ]
    if figures.handshake is not None:
        told += [
            Line("handshake: software key, both sides", figures.handshake.software_ms, "ms"),
            Line("handshake: TPM key, both sides", figures.handshake.tpm_ms, "ms"),
            Line("handshake: TPM signatures", figures.handshake.tpm_signatures, "", 1.0, 0),
        ]
    if figures.agent is not None:
        told += [
            Line("agent: resident, connected and idle", figures.agent.rss_mb, "MB", 45.0, 1),
            Line("agent: start to CONNACK", figures.agent.start_s, "s", 0.7),
        ]
    if figures.growth is not None:
        told.append(Line("growth: CPU per enrollment, 100,000 devices over 1,000", figures.growth, "x", 1.2))
    return told


def table(figures: Figures) -> Table:
    """Return the table for a person."""
    shown = fill("Birthmark, measured here and now", lines(figures))
    if figures.enroll is not None:
        shown.caption = "cryptography counted: " + ", ".join(
            f"{operation.times} x {operation.name} {operation.cpu_us:.0f} us" for operation in figures.enroll.floor
        )
        shown.caption_justify = "left"
    return shown


def fill(title: str, rows: Sequence[Line]) -> Table:
    """Return a table of these lines, each with its aim and whether it is met."""
    shown = Table("", "figure", "aim", "", title=title, title_justify="left")
    shown.columns[1].justify = shown.columns[2].justify = "right"
    for line in rows:
        shown.add_row(line.what, f"{line.figure:.{line.places}f} {line.unit}", _aim(line), _verdict(line))
    return shown


def _aim(line: Line) -> str:
    if line.most is not None:
        return f"≤ {line.most:g} {line.unit}"
    return "" if line.least is None else f"≥ {line.least:g} {line.unit}"


def _verdict(line: Line) -> Text:
    if line.most is None and line.least is None:
        return Text("")
    met = (line.most is None or line.figure <= line.most) and (line.least is None or line.figure >= line.least)
    return Text("met", style="green") if met else Text("missed", style="red")


def _cost(load: Load) -> dict[str, Any]:
    return _rounded({"per_s": load.per_s, "server_cpu_ms": load.server_cpu_ms})


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()}
