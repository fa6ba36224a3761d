"""A station at a real server: its certificate, its desk, and what it signs of a software TPM."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from birthmark_agent.csr import birth_names, build_request
from birthmark_server.cli.contexts import Context, read_root
from birthmark_server.cli.station_desk import HttpDesk
from birthmark_server.domain import CertificateProfile
from birthmark_server.factory.entry import Entry
from birthmark_server.factory.station.signer import StationKey
from support.pki import Leaf
from support.server import MODEL, Installation, Server, now
from support.software_tpm import SoftwareTpm

_DESKS: list[HttpDesk] = []


def close_desks() -> None:
    """Hang up at every desk that was opened: each test leaves none."""
    while _DESKS:
        _DESKS.pop().close()


@dataclass(frozen=True)
class StationHere:
    """leaf: its certificate and key, on record."""

    leaf: Leaf
    certificate: Path
    key: Path

    @classmethod
    def create(cls, site: Installation, name: str, folder: Path) -> "StationHere":
        """Make a station that the server knows."""
        return cls.of(site.infra(CertificateProfile.STATION, name), folder)

    @classmethod
    def of(cls, leaf: Leaf, folder: Path) -> "StationHere":
        """A station, or who pretends to be one, by its certificate."""
        return cls(leaf, *leaf.write(folder, f"station-{leaf.record.sha256[:8]}"))

    def desk(self, server: Server) -> HttpDesk:
        """Its desk at this server."""
        root = server.site.pki.root_pem
        url = f"https://localhost:{server.port}"
        desk = HttpDesk(Context(url, str(self.certificate), str(self.key), str(root), read_root(root)[1]))
        _DESKS.append(desk)
        return desk

    def sign(self, entry: Entry) -> bytes:
        """Sign as stations do."""
        return StationKey.load(self.certificate, self.key).sign(entry).encode()


def entry_of(tpm: SoftwareTpm, workorder: str, serial: str, *, made_at: datetime | None = None, **other: Any) -> Entry:
    """What a station writes down of a TPM."""
    entry = Entry(
        workorder=workorder,
        serial=serial,
        model=MODEL.name,
        ek_sha256=tpm.ek_sha256,
        ek_certificates=tpm.ek_certificates,
        ak_sha256="aa" * 32,
        csr=build_request(tpm.birth_key, birth_names(serial)),
        image_sha256="bb" * 32,
        firmware="birthmark-agent/0.1.0",
        mac="",
        operator="erin",
        made_at=made_at or now().replace(microsecond=0),
    )
    return replace(entry, **other)
