"""A bootloader that nobody here wrote: upstream MCUboot for QEMU's mps2-an385, with Zephyr's own SMP server to boot.

Both lie in smpclient's source distribution (PyPI, Apache-2.0), built by intercreate/smp-server-fixtures from Zephyr's
main branch at f33aa2bc. It is fetched once, by pip and its SHA-256, into the checkout's .birthmark folder, and never
committed; from then on no network is needed.

MCUboot here runs images in RAM (RAM_LOAD), the higher version of its two slots. It checks an image's hash, and not its
signature; with no image that it can boot it waits in serial recovery, as a factory-fresh board.
"""

import fcntl
import hashlib
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).parents[2] / ".birthmark" / "mcuboot"
SLOT_BYTES: Final = 0x80000
SLOTS: Final = (0x20050000, 0x200D0000)
"""Where QEMU has the two slots; they are RAM, so a board that is switched off is blank again."""
LOAD_ADDRESS: Final = 0x20240000
"""Where MCUboot copies an image to, and runs it."""

_SDIST: Final = "smpclient==7.3.0 --hash=sha256:86aa4bc1c621805d97f449793a4077f049aa88a98a1e916bf59423d072bd2a3b\n"
_FIXTURES: Final = "smpclient-7.3.0/tests/fixtures/smp-server/"
_RECOVERY: Final = "zephyr_f33aa2bc4a43_smp_server_27c54835_mps2_an385_serial_recovery"
_FILES: Final = {
    f"{_RECOVERY}.hex": "bc5048d9da74bfcff1604a954fe355ef7bf83735ade6fa1bba1174ab37715c47",
    f"{_RECOVERY}.signed.bin": "7fe9223179f723b5599bb17f93ea3323c0dd17c9c1b034ed9403b72d16c2f9b1",
}


@dataclass(frozen=True, slots=True)
class Bootloader:
    """hex: MCUboot, for address 0. zephyr: a signed image of Zephyr's SMP server sample."""

    hex: Path
    zephyr: Path


def bootloader() -> Bootloader:
    """Return MCUboot from the cache, fetched where it is not there yet. Several processes may ask at once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all(_is(CACHE / name, digest) for name, digest in _FILES.items()):
            _fetch()
    return Bootloader(CACHE / f"{_RECOVERY}.hex", CACHE / f"{_RECOVERY}.signed.bin")


def _fetch() -> None:
    wanted = CACHE / "requirements.txt"
    wanted.write_text(_SDIST)
    # pip asks even a file that is only wanted for its name, with hatchling, which is here.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    pip += ["--no-binary", ":all:", "--no-build-isolation", "--require-hashes", "--dest", str(CACHE)]
    done = subprocess.run([*pip, "-r", str(wanted)], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"pip can't fetch MCUboot ({_SDIST.split()[0]}):\n{done.stdout}{done.stderr}")
    sdist = CACHE / "smpclient-7.3.0.tar.gz"
    with tarfile.open(sdist) as archive:
        for name, digest in _FILES.items():
            member = archive.extractfile(_FIXTURES + name)
            assert member is not None, name
            (CACHE / name).write_bytes(member.read())
            assert _is(CACHE / name, digest), f"{name}: not the file that was pinned"
    sdist.unlink()


def _is(path: Path, digest: str) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest
