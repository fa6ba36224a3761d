"""The root file system: packages unpacked, the agent, its settings, and an init of a few lines (device/).

It is read-only and has no login. The agent's state is on a partition of its own, what the station writes on another.
Python files are compiled here: the device can't keep what it would compile.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from birthmark_server.factory.image.errors import ImageFailed, NoPackages
from birthmark_server.factory.image.packages import Archive, Package
from birthmark_server.factory.image.spec import ImageSpec
from birthmark_server.factory.image.tools import run
from birthmark_server.factory.image.wheels import PYTHON, Wheel, tss2_library

DEVICE_FILES: Final = Path(__file__).with_name("device")
AGENT_UID: Final = 900
_TSS_GID: Final = 901
_SITE: Final = "usr/lib/python3/dist-packages"
_NOT_RUN: Final = re.compile(
    r"adduser|debconf|dpkg|passwd|tar|tpm-udev|udev|lib(pam|audit|semanage|sepol|udev|kmod|cap-ng|selinux|db5|blkid).*"
)
"""Packages that only installing, or a login, needs: nothing is installed on a device, and nobody logs in."""
_LEFT_OUT: Final = (
    *(
        f"./usr/share/{name}/*"
        for name in ("bash-completion", "doc", "info", "lintian", "locale", "man", "perl5", "python3")
    ),
    "./usr/lib/python3*/test/*",
    *(
        f"./usr/lib/python{PYTHON}/{name}"
        for name in ("ensurepip", "idlelib", "lib2to3", "pydoc_data", "turtledemo", "unittest")
    ),
)
_EMPTY: Final = ("dev", "proc", "run", "sys", "tmp", "var/lib/birthmark-agent", "etc/birthmark")
_USERS: Final = (
    f"root:x:0:0:root:/:/bin/false\nbirthmark-agent:x:{AGENT_UID}:{AGENT_UID}::/var/lib/birthmark-agent:/bin/false\n"
)
_GROUPS: Final = f"root:x:0:\ntss:x:{_TSS_GID}:birthmark-agent\nbirthmark-agent:x:{AGENT_UID}:\n"
_APPLETS: Final = (
    "cat", "chmod", "chown", "cut", "false", "grep", "head", "ip", "mkdir", "mount", "mv", "poweroff", "printf", "sed",
    "setpriv", "sh", "sleep", "stty", "su", "sync", "true", "udhcpc", "umount", "uname",
)  # fmt: skip
"""What of busybox the files in device/ use."""
_COMPILER: Final = "/usr/bin/python3"
_AGENT: Final = (
    f"#!/usr/bin/python{PYTHON} -EsB\nimport sys\n\nfrom birthmark_agent.cli import main\n\nsys.exit(main())\n"
)


def packages(archive: Archive) -> tuple[Package, ...]:
    """Fetch the Debian packages that a device runs."""
    wanted = ("busybox-static", "python3", *archive.depends("libtss2-dev", tss2_library))
    found = tuple(one for one in archive.with_depends(wanted) if not _NOT_RUN.fullmatch(one.name))
    if f"python{PYTHON}" not in {one.name for one in found}:
        raise NoPackages(
            f"this machine's apt sources have no Python {PYTHON}, for which the agent's packages are pinned"
        )
    return found


def unpack(into: Path, debian: Sequence[Package], python: Sequence[Wheel]) -> int:
    """Unpack all packages and the agent; return the time of the newest file in them, Unix seconds."""
    into.mkdir()
    for package in debian:
        package.extract(into, leave_out=_LEFT_OUT)
    newest = max(path.lstat().st_mtime for path in into.rglob("*") if path.is_file() and not path.is_symlink())
    site = into / _SITE
    site.mkdir(parents=True, exist_ok=True)
    for wheel in python:
        wheel.extract(site)
    for name, source in agent_sources().items():
        _write(site / name, source.read_text(encoding="utf-8"))
    return int(newest)


def agent_sources() -> dict[str, Path]:
    """Return the agent's source files by their names below dist-packages."""
    sources: dict[str, Path] = {}
    for name in ("birthmark_agent", "birthmark_wire"):
        found = find_spec(name)
        if found is None or found.origin is None:
            raise ImageFailed(f"{name} is not installed here")
        folder = Path(found.origin).parent
        files = (*folder.rglob("*.py"), *folder.rglob("py.typed"))
        sources |= {str(file.relative_to(folder.parent)): file for file in files}
    return sources


def furnish(root: Path) -> None:
    """Write what makes these packages a device: users, programs, init."""
    for name in _EMPTY:
        (root / name).mkdir(parents=True, exist_ok=True)
    for program in (*(f"bin/{applet}" for applet in _APPLETS), "sbin/init"):
        _link(root / program, "/bin/busybox")
    _link(root / "etc/resolv.conf", "/run/resolv.conf")
    _write(root / "etc/passwd", _USERS)
    _write(root / "etc/group", _GROUPS)
    _write(root / "usr/bin/birthmark-agent", _AGENT, mode=0o755)
    for file in sorted(DEVICE_FILES.glob("device-*")):
        _write(root / "usr/lib/birthmark" / file.name, file.read_text(encoding="utf-8"), mode=0o755)
    _write(root / "etc/inittab", (DEVICE_FILES / "inittab").read_text(encoding="utf-8"))
    for path in (root / "usr/share").glob("*"):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def customise(root: Path, spec: ImageSpec, *, built_at: datetime) -> None:
    """Write what the options say: the agent's settings, what it trusts, hosts, the image's name."""
    hosts = (("localhost", "127.0.0.1"), *spec.hosts)  # the last one of a name wins
    written = {
        "etc/hosts": "".join(f"{address} {name}\n" for name, address in dict(hosts).items()),
        "etc/os-release": _os_release(spec),
        "etc/birthmark/agent.toml": _settings(spec, built_at),
        "etc/birthmark/root.pem": spec.anchors.decode("ascii"),
    }
    for name, text in written.items():
        _write(root / name, text)


def compile_python(root: Path) -> None:
    """Compile all Python files in place. Without times in them: the file system that they go to is read-only."""
    version = run([_COMPILER, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).decode().strip()
    if version != PYTHON:
        raise ImageFailed(f"{_COMPILER} is Python {version}; want {PYTHON}, as the device has it, to compile its files")
    folders = [root / f"usr/lib/python{PYTHON}", root / _SITE]
    options: list[str | Path] = ["-q", "-f", "--invalidation-mode", "unchecked-hash", "-s", root, "-p", "/"]
    run([_COMPILER, "-I", "-m", "compileall", *options, *folders], env={"PYTHONHASHSEED": "0"})


def squash(root: Path, into: Path, *, built_at: datetime) -> None:
    """Make the file system's image: all files belong to root, and all have one time."""
    time = str(int(built_at.timestamp()))
    times = ["-all-time", time, "-mkfs-time", time]
    speed = ["-comp", "zstd", "-Xcompression-level", "6", "-b", "256K"]
    run(["mksquashfs", root, into, "-noappend", "-quiet", "-no-progress", "-all-root", "-no-xattrs", *speed, *times])


def _settings(spec: ImageSpec, built_at: datetime) -> str:
    return f"""\
# Made by birthmark image build.
{spec.agent_toml}
[server]
url = "{spec.server}"
anchors = "root.pem"
[clock]
image_time = {built_at:%Y-%m-%dT%H:%M:%SZ}
"""


def _os_release(spec: ImageSpec) -> str:
    return f'ID=birthmark\nNAME="Birthmark device"\nPRETTY_NAME="{spec.name}"\nVERSION_ID="{spec.version}"\n'


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _link(path: Path, to: str) -> None:
    if not path.is_symlink() and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(to)
