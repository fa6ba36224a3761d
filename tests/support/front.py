"""A TLS front before the server's Unix socket: HAProxy or nginx, configured as docs/tls-front.md says.

with running_front(folder, site, socket=path) as front:
    ...  # https://localhost:{front.port}
"""

import os
import re
import signal
import socket as sockets
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.serialization import Encoding

from support.ports import free_port
from support.server import Installation

GUIDE = Path(__file__).parents[2] / "docs" / "tls-front.md"
_READY_WITHIN_S = 60.0

Program = Literal["haproxy", "nginx"]


@dataclass(frozen=True)
class Front:
    """A running front: its port, and the process that serves it."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def pids(self) -> tuple[int, ...]:
        """The process and its workers, which do nginx's work."""
        pid = self.process.pid
        return (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@dataclass(frozen=True)
class _Command:
    line: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def running_front(folder: Path, site: Installation, *, socket: Path, program: Program = "haproxy") -> Iterator[Front]:
    """Run the front until the end of the with block."""
    port, log = free_port(), folder / f"{program}.log"
    _write_certificates(site, folder)
    command = {"haproxy": _haproxy, "nginx": _nginx}[program](folder, port, socket)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command.line, stdout=output, stderr=output, env={**os.environ, **command.environment}
        )
    try:
        until = time.monotonic() + _READY_WITHIN_S
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        yield Front(port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _haproxy(folder: Path, port: int, socket: Path) -> _Command:
    at = {"*:8443": f"127.0.0.1:{port}", "/run/birthmark/front.sock": str(socket)}
    config = _from_guide("haproxy", folder / "haproxy.cfg", at | _certificates(folder, "server.pem", "clients.pem"))
    openssl = _from_guide("openssl", folder / "openssl.cnf", {})
    return _Command(("/usr/sbin/haproxy", "-db", "-f", str(config)), {"OPENSSL_CONF": str(openssl)})


def _nginx(folder: Path, port: int, socket: Path) -> _Command:
    """The guide's file, in a main file as Debian's is, but for this user and in this folder."""
    _from_guide("js", folder / "client-cert.js", {})
    at = {"listen 8443": f"listen 127.0.0.1:{port}", "/run/birthmark/front.sock": str(socket)}
    names = ("server.pem", "nginx-clients.pem", "client-cert.js")
    included = _from_guide("nginx", folder / "birthmark.conf", at | _certificates(folder, *names))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    main = folder / "nginx.conf"
    main.write_text(
        f"""
load_module /usr/lib/nginx/modules/ngx_http_js_module.so;
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
pid {folder / "nginx.pid"};
error_log stderr;
events {{}}
http {{
    access_log off;
    {temporary}
    include {included};
}}
"""
    )
    return _Command(("/usr/sbin/nginx", "-e", "stderr", "-c", str(main)))


def _certificates(folder: Path, *names: str) -> dict[str, str]:
    return {f"/etc/birthmark/front/{name}": str(folder / name) for name in names}


def _from_guide(language: str, path: Path, places: Mapping[str, str]) -> Path:
    """Write the guide's one block of that language, with this site's places in place of an operator's."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    for was, becomes in places.items():
        if was not in text:
            raise AssertionError(f"docs/tls-front.md: no {was} in the configuration of {language}")
        text = text.replace(was, becomes)
    path.write_text(text)
    return path


def _write_certificates(site: Installation, folder: Path) -> None:
    """server.pem, clients.pem and nginx-clients.pem, as the guide has an operator make them."""
    leaf = site.pki.server()
    (folder / "server.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    plain = [issuer.certificate.public_bytes(Encoding.PEM) for issuer in site.pki.authority.issuers]
    anchors = b"".join(map(_trusted, plain))
    (folder / "clients.pem").write_bytes(anchors)
    (folder / "nginx-clients.pem").write_bytes(anchors + b"".join(plain))


def _trusted(pem: bytes) -> bytes:
    command = ["openssl", "x509", "-trustout", "-addtrust", "clientAuth"]
    return subprocess.run(command, input=pem, capture_output=True, check=True).stdout


def _listens(port: int) -> bool:
    with sockets.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
