"""HAProxy before several servers, passing TLS through, configured as docs/load-balancer.md says.

with running_balancer(folder, site, ports=(8443, 8444, 8445), crl_ports=(...)) as balancer:
    ...  # https://localhost:{balancer.port}, http://localhost:{balancer.crl_port}
"""

import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.ports import free_port
from support.server import Installation

GUIDE = Path(__file__).parents[2] / "docs" / "load-balancer.md"
_READY_WITHIN_S = 10.0


@dataclass(frozen=True)
class Balancer:
    """A running load balancer: where it listens."""

    port: int
    crl_port: int


@contextmanager
def running_balancer(
    folder: Path, site: Installation, *, ports: Sequence[int], crl_ports: Sequence[int]
) -> Iterator[Balancer]:
    """Run it before three servers until the end of the with block."""
    balancer = Balancer(free_port(), free_port())
    (text,) = re.findall(r"```haproxy\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    places = {
        "*:8443": f"127.0.0.1:{balancer.port}",
        "*:8080": f"127.0.0.1:{balancer.crl_port}",
        "enroll.example.com": "localhost",
        "/etc/birthmark/ca/root.pem": str(site.pki.root_pem),
    }
    for number, (port, crl_port) in enumerate(zip(ports, crl_ports, strict=True), start=11):
        places |= {f"10.0.0.{number}:8443": f"127.0.0.1:{port}", f"10.0.0.{number}:8080": f"127.0.0.1:{crl_port}"}
    for was, becomes in places.items():
        assert was in text, f"docs/load-balancer.md: no {was}"
        text = text.replace(was, becomes)
    assert "10.0.0." not in text, "docs/load-balancer.md: want as many servers as the test has"
    config, log = folder / "balancer.cfg", folder / "balancer.log"
    config.write_text(text)
    with log.open("wb") as output:
        process = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", str(config)], stdout=output, stderr=output)
    try:
        until = time.monotonic() + _READY_WITHIN_S
        while not _listens(balancer.port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        yield balancer
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
