"""A station that made some devices, in a folder, and what is typed at it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from birthmark_server.cli import application, run
from birthmark_server.domain import CertificateProfile
from birthmark_server.factory.station.signer import StationKey
from birthmark_server.factory.values import WorkOrder
from birthmark_wire.encoding import unb64
from support.factory_plant import Plant
from support.factory_sim import MemoryDesk
from support.pki import Pki


@dataclass
class Made:
    """A station's folder with what it did, and its plant."""

    folder: Path
    plant: Plant
    pki: Pki

    @property
    def record(self) -> Path:
        return self.folder / "record.jsonl"

    def factory(self, *words: str) -> int:
        """Type a command."""
        return run(lambda: application()(["factory", *words], standalone_mode=True))

    def manifest(self, out: Path) -> Path:
        """Write the manifest and return its file."""
        assert self.factory("manifest", "--workorder", "W1", "--station", str(self.folder), "--out", str(out)) == 0
        return out / "W1.st-1.manifest.json"

    def rewrite(self, change: Callable[[list[bytes]], None]) -> None:
        """Change the record's lines and chain them anew, as somebody would who may write to the folder."""
        lines = self.record.read_bytes().splitlines()
        change(lines)
        prev = "0" * 64
        for place, line in enumerate(lines):
            members = json.loads(line) | {"n": place + 1, "prev": prev}
            lines[place] = json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()
            prev = sha256(lines[place]).hexdigest()
        self.record.write_bytes(b"".join(line + b"\n" for line in lines))


def make_station(folder: Path, pki: Pki, quantity: int, *, name: str = "st-1", pattern: str = "SN-{:04}@1") -> Made:
    """A station's folder as `birthmark station init` makes it, and a plant that works in it."""
    folder.mkdir(parents=True)
    leaf = pki.infra(CertificateProfile.STATION, name)
    chain, key = leaf.write(folder, "station")
    (folder / "station.toml").write_text(
        f'server = "https://localhost:9"\ncertificate = "station.pem"\nkey = "station.key"\nroot = "{pki.root_pem}"\n'
    )
    now = datetime.now(UTC)
    order = WorkOrder("W1", "model-a", quantity, pattern, "alice", now, now + timedelta(days=30))
    plant = Plant(folder, StationKey.load(chain, key), MemoryDesk(order))
    plant.power()
    return Made(folder, plant, pki)


def payload_of(item: dict[str, str]) -> dict[str, object]:
    """What a manifest's object says."""
    members: dict[str, object] = json.loads(unb64(item["payload"], field="payload"))
    return members
