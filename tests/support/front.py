"""A TLS front before the server's Unix socket: HAProxy, configured as docs/tls-front.md says.

with running_front(folder, site, socket=path) as front:
    ...  # https://localhost:{front.port}
"""

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from support.server import Installation, free_port

GUIDE = Path(__file__).parents[2] / "docs" / "tls-front.md"
_READY_WITHIN_S = 10.0


@dataclass(frozen=True)
class Front:
    """A running front: its port, and the process that serves it."""

    port: int
    process: "subprocess.Popen[bytes]"


def configuration(site: Installation, folder: Path, *, port: int, socket: Path) -> Path:
    """Write haproxy.cfg: the very one of the guide, with this site's paths in place of an operator's."""
    (text,) = re.findall(r"```haproxy\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    leaf, authority = site.pki.server(), site.pki.authority
    (folder / "front.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    anchors = [trusted(issuer.certificate.public_bytes(Encoding.PEM)) for issuer in authority.issuers]
    (folder / "clients.pem").write_bytes(b"".join(anchors))
    for was, becomes in (
        ("*:8443", f"127.0.0.1:{port}"),
        ("/etc/birthmark/front/server.pem", str(folder / "front.pem")),
        ("/etc/birthmark/front/clients.pem", str(folder / "clients.pem")),
        ("/run/birthmark/front.sock", str(socket)),
    ):
        if was not in text:
            raise AssertionError(f"docs/tls-front.md: no {was} in the configuration")
        text = text.replace(was, becomes)
    path = folder / "haproxy.cfg"
    path.write_text(text)
    return path


def trusted(pem: bytes) -> bytes:
    """Return a CA's certificate marked as an anchor for client certificates, as the guide has an operator do it."""
    command = ["openssl", "x509", "-trustout", "-addtrust", "clientAuth"]
    return subprocess.run(command, input=pem, capture_output=True, check=True).stdout


@contextmanager
def running_front(folder: Path, site: Installation, *, socket: Path) -> Iterator[Front]:
    """Run HAProxy until the end of the with block."""
    port, log = free_port(), folder / "haproxy.log"
    config = configuration(site, folder, port=port, socket=socket)
    with log.open("wb") as output:
        command = ["/usr/sbin/haproxy", "-db", "-f", str(config)]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        until = time.monotonic() + _READY_WITHIN_S
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        yield Front(port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
