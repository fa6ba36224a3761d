"""Does Mosquitto start with this configuration? Asked by starting it, beside the one that may be running.

The trial listens on a free port of 127.0.0.1 and keeps its sessions in a folder of its own; everything else is as
configured: certificates, key, CRLs, plugin, deny file. Mosquitto says in its log what it does not like.
"""

import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from birthmark_server.broker.mosquitto import MosquittoSettings, render
from birthmark_server.errors import Misconfigured

_RUNNING: Final = " running"
_LOG_BYTES: Final = 16_384


def try_config(settings: MosquittoSettings, *, timeout_s: float = 10.0) -> str:
    """Start Mosquitto with what write_config(settings) wrote, and stop it again; return its version.

    Raises Misconfigured with the end of its log when it does not start, or when Mosquitto is not installed.
    """
    program = find_mosquitto()
    with tempfile.TemporaryDirectory(prefix="birthmark-trial-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        trial = replace(settings, address="127.0.0.1", port=_free_port())
        conf = folder / "mosquitto.conf"
        conf.write_text(render(trial).replace("persistence true", "persistence false"))
        environment = {"OPENSSL_CONF": str(settings.folder / "openssl.cnf"), "PATH": os.defpath}
        with subprocess.Popen(
            [program, "-c", str(conf)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
        ) as process:
            try:
                log = _read_until_running(process, time.monotonic() + timeout_s)
            finally:
                process.kill()  # it holds nothing worth saving
    for line in log.splitlines():
        _, version, after = line.partition("mosquitto version ")
        if version and after.endswith(_RUNNING):
            return after.removesuffix(_RUNNING)
    raise Misconfigured(f"Mosquitto does not start with {settings.folder}/mosquitto.conf: {log.strip()[-2000:]}")


def find_mosquitto() -> str:
    """Return the path of Mosquitto. Debian keeps it where only root's PATH looks. Raises Misconfigured."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise Misconfigured("Mosquitto is not installed (Debian: apt-get install mosquitto)")
    return program


def _read_until_running(process: subprocess.Popen[bytes], deadline: float) -> str:
    """Return what Mosquitto logged until it said that it runs, ended, or `deadline` (monotonic) came."""
    if process.stderr is None:
        raise ValueError("want a process whose stderr is a pipe")
    log = b""
    while len(log) < _LOG_BYTES and _RUNNING.encode() not in log and time.monotonic() < deadline:
        if select.select([process.stderr], [], [], 0.1)[0]:
            data = os.read(process.stderr.fileno(), 4096)
            if not data:
                break
            log += data
    return log.decode("utf-8", "replace")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
