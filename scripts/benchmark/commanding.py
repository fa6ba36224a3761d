"""A server that commands a fleet through a broker: the installation, Mosquitto with our gate, and the server, as one.

The broker's deny file is the server's, as in a real installation: what is retired or revoked gets onto it.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmark import fleet
from birthmark_server.domain import CertificateProfile
from birthmark_server.store.sql.store import SqlStore
from support.mosquitto import Broker
from support.rotating_live import broker_of
from support.server import Installation, Server

_TICKS = os.sysconf("SC_CLK_TCK")
_ROTATION = """
[rotation]
most_under_way = 100000
silence_s = 600
"""
"""Everybody is told at once what a campaign lets through, and nobody twice because two cores are few for all."""


@dataclass(frozen=True, slots=True)
class Commanding:
    """site and broker run; `serve()` starts a server beside them."""

    site: Installation
    broker: Broker

    @property
    def store(self) -> SqlStore:
        """The operator's own store."""
        if not isinstance(self.site.store, SqlStore):
            raise TypeError("want a store on SQL")
        return self.site.store

    def serve(self) -> AbstractContextManager[Server]:
        """Run a server that hears the devices and commands them."""
        return self.site.start(broker=self._broker_lines(), extra=fleet.NO_LIMITS + _ROTATION)

    def _broker_lines(self) -> str:
        folder, profile = self.site.folder, CertificateProfile.DENY_LIST
        if not (folder / f"{profile}.pem").exists():
            self.site.infra(profile, "srv-deny-list").write(folder, profile.value)
        return (
            self.site.broker_lines(self.broker.port)
            + f'deny_file = "{self.broker.deny.path}"\n'
            + f'deny_certificate = "{folder / profile}.pem"\ndeny_key = "{folder / profile}.key"\n'
        )


@contextmanager
def commanding(*, connections: int) -> Iterator[Commanding]:
    """Make an installation in a temporary folder and run its broker, with room for so many connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with fleet.installation() as site, broker_of(site, max_connections=connections) as broker:
        yield Commanding(site, broker)


def cpu_s(pid: int) -> float:
    """Return user and system CPU seconds of a process so far: all its threads, and all its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def resident_mb(pid: int) -> tuple[float, float]:
    """Return a process's resident memory now and at its highest, in 10^6 bytes."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    now, most = (int(status[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, most
