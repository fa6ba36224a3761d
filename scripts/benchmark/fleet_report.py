"""The figures of `scripts/bench fleet`: the one JSON object that others read, and a table with aims and detail."""

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from benchmark.campaign_growth import CampaignGrowth
from benchmark.crl import CrlCost
from benchmark.cut import Cuts
from benchmark.ocsp import OcspRate
from benchmark.report import Line, fill
from benchmark.rotate import Rotate


@dataclass(slots=True)
class FleetFigures:
    """What was measured; None for a part that was not run."""

    rotate: Rotate | None = None
    revoke: Cuts | None = None
    growth: CampaignGrowth | None = None
    crl: CrlCost | None = None
    ocsp: OcspRate | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the object that --json prints: a key for each part that was run. `growth` measures `server` too."""
        told: dict[str, Any] = {}
        if (rotate := self.rotate) is not None:
            told["rotate"] = {
                "devices_per_s": round(rotate.devices_per_s, 1),
                "server_cpu_ms": round(rotate.server_cpu_ms, 3),
                "cpu_over_crypto": round(rotate.cpu_over_crypto, 2),
                "messages_per_device": round(rotate.messages_per_device, 2),
            }
        if (revoke := self.revoke) is not None:
            told["revoke"] = {"cut_p50_ms": revoke.took.p50_ms, "cut_p99_ms": revoke.took.p99_ms}
        if (growth := self.growth) is not None:
            told["growth"] = {"campaign_100k_over_1k": round(growth.ratio, 3)}
            told["server"] = {"rss_mb_at_100k": round(growth.rss_mb, 1)}
        if (crl := self.crl) is not None:
            told["crl"] = {
                "entries": crl.entries,
                "seconds": round(crl.seconds, 3),
                "peak_mib": round(crl.peak_mib, 1),
            }
        if (ocsp := self.ocsp) is not None:
            told["ocsp"] = {"per_s": ocsp.per_s, "over_openssl": ocsp.over_openssl}
        return told


def lines(figures: FleetFigures) -> list[Line]:
    """Return what the table shows, in its order."""
    told: list[Line] = []
    if (rotate := figures.rotate) is not None:
        told += [
            Line(f"rotate: {rotate.devices:,} devices, all on this machine", rotate.devices_per_s, "/s", places=0),
            Line("rotate: server CPU each", rotate.server_cpu_ms, "ms"),
            Line("rotate: bare cryptography of the same", rotate.crypto_ms, "ms"),
            Line("rotate: CPU over cryptography", rotate.cpu_over_crypto, "x", 4.0, 1),
            Line("rotate: messages per device, at the broker", rotate.messages_per_device, ""),
            Line("rotate: connections lost", rotate.lost, "", 0.0, 0),
        ]
    if (revoke := figures.revoke) is not None:
        told += [
            Line(
                f"revoke: request to closed socket, {revoke.connected:,} connected: p50",
                revoke.took.p50_ms,
                "ms",
                places=1,
            ),
            Line("revoke: p99", revoke.took.p99_ms, "ms", 100.0, 1),
            Line("revoke: the longest", revoke.took.most_ms, "ms", 1000.0, 1),
            Line("revoke: p99 before the broker's restart", revoke.before.p99_ms, "ms", 100.0, 1),
            Line("revoke: p99 after it", revoke.after.p99_ms, "ms", 100.0, 1),
            Line(
                f"revoke: {revoke.refused} tried again ({revoke.while_down} revoked while the broker was down): let in",
                0,
                "",
                0.0,
                0,
            ),
        ]
    if (growth := figures.growth) is not None:
        few, many = f"{growth.few:,}", f"{growth.many:,}"
        told += [
            Line(f"growth: CPU per device, {many} over {few}", growth.ratio, "x", 1.2),
            Line(f"growth: plan and start, each of {few}", growth.plan_few_ms, "ms", places=3),
            Line(f"growth: plan and start, each of {many}", growth.plan_many_ms, "ms", places=3),
            Line(f"growth: the server's, each of {few}", growth.turn_few_ms, "ms"),
            Line(f"growth: the server's, each of {many}", growth.turn_many_ms, "ms"),
            Line(f"server: resident at {many} devices", growth.rss_mb, "MB", places=0),
            Line("server: at its highest", growth.peak_mb, "MB", places=0),
        ]
    if (crl := figures.crl) is not None:
        told += [
            Line(f"crl: {crl.entries:,} entries", crl.seconds, "s", 1.5),
            Line("crl: peak memory", crl.peak_mib, "MiB", 300.0, 0),
            Line("crl: openssl's seconds", crl.openssl_seconds, "s"),
            Line("crl: openssl's memory", crl.openssl_peak_mib, "MiB", places=0),
        ]
    if (ocsp := figures.ocsp) is not None:
        told += [
            Line("ocsp: answers per second of a core, pre-signed", ocsp.per_s, "/s", places=0),
            Line("ocsp: signed for a nonce", ocsp.signed_per_s, "/s", places=0),
            Line("ocsp: openssl's, always signed", ocsp.openssl_per_s, "/s", places=0),
            Line("ocsp: pre-signed over openssl", ocsp.over_openssl, "x", least=1.0),
            Line("ocsp: signed over openssl", ocsp.signed_over_openssl, "x"),
        ]
    return told


def table(figures: FleetFigures) -> Table:
    """Return the table for a person."""
    shown = fill("Birthmark's fleet, measured here and now", lines(figures))
    if figures.rotate is not None:
        shown.caption = "cryptography counted: " + ", ".join(
            f"{operation.times} x {operation.name} {operation.cpu_us:.0f} us" for operation in figures.rotate.floor
        )
        shown.caption_justify = "left"
    return shown
