"""smpmgr, an SMP client that nobody here wrote, in a virtual environment of its own in the checkout's .birthmark.

    with serial_port(tmp_path / "tty", board.port) as port:
        smpmgr(port, "image", "state-read")

It knows serial ports and no sockets, so socat makes one for it. It lives apart because its typer is older than ours.
requirements/smpmgr.lock is what `pip-compile --generate-hashes` makes of smpmgr==0.19.1, without what only Bluetooth
dongles and UDP need.
"""

import fcntl
import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
_LOCK: Final = _ROOT / "requirements" / "smpmgr.lock"
_HOME: Final = _ROOT / ".birthmark" / "smpmgr"


def smpmgr(port: Path, *arguments: str, timeout_s: float = 110) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command = [str(_installed()), "--port", str(port), "--timeout", "20", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)


def _installed() -> Path:
    """Return the program, installed where it is not yet. Several processes may ask at once."""
    _HOME.mkdir(parents=True, exist_ok=True)
    wanted, stamp = hashlib.sha256(_LOCK.read_bytes()).hexdigest(), _HOME / "stamp"
    with (_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            _run(sys.executable, "-m", "venv", "--clear", str(_HOME / "venv"))
            pip = (str(_HOME / "venv/bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
            _run(*pip, "--no-deps", "--require-hashes", "-r", str(_LOCK))
            stamp.write_text(wanted)
    return _HOME / "venv/bin/smpmgr"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@contextmanager
def serial_port(path: Path, tcp_port: int) -> Iterator[Path]:
    """A serial port at `path` that leads to a port of this machine, until the end of the with block."""
    command = ["setpriv", "--pdeathsig", "KILL", "--", "socat"]
    command += [f"pty,raw,echo=0,link={path}", f"tcp:127.0.0.1:{tcp_port},nodelay,retry=200,interval=0.1"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0) as socat:
        try:
            until = time.monotonic() + 60
            while not path.exists():
                assert socat.poll() is None, f"socat ended with {socat.returncode}"
                assert time.monotonic() < until, f"no {path}"
                time.sleep(0.02)
            yield path
        finally:
            socat.kill()
