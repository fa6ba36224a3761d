"""However the demo ends, at whatever moment, nothing of it is left: no process, no folder, no traceback."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.swtpm import VendorCa

pytestmark = pytest.mark.parts

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".birthmark"
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}:{os.environ.get('PYTHONPATH', '')}"}


def descendants(pid: int) -> set[int]:
    """Process ids of everything that a process has started, and of what that has."""
    found: set[int] = set()
    try:
        children = [
            int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()
        ]
    except OSError:
        return found
    for child in children:
        found |= {child} | descendants(child)
    return found


def wait_gone(pids: set[int], *, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while alive := {pid for pid in pids if Path(f"/proc/{pid}/exe").exists()}:
        assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in alive]
        time.sleep(0.05)


class Run:
    """One demo in a session of its own, as in a terminal."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = folder / "demo.log"
        self.before = set(HOME.glob("demo-*"))
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "demo_story", *words],
                stdout=output, stderr=output, env=ENVIRONMENT, cwd=ROOT, start_new_session=True,
            )  # fmt: skip

    def wait_for(self, text: str, *, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def wait_for_signal_handlers(self) -> None:
        """Return once Python is so far that the demo has its signals in hand (SIGHUP is 1, SigCgt a mask: proc(5))."""
        deadline = time.monotonic() + 30
        status = Path(f"/proc/{self.process.pid}/status")
        while not int(re.findall(r"^SigCgt:\t(\w+)$", status.read_text(), re.MULTILINE)[0], 16) & 1:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.002)

    def wait_for_children(self) -> None:
        deadline = time.monotonic() + 30
        while len(descendants(self.process.pid)) < 2:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def folder(self) -> Path:
        (made,) = set(HOME.glob("demo-*")) - self.before
        return made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("whole_group", [False, True], ids=["process", "terminal"])
def test_a_signal_while_tpms_are_made_leaves_nothing(tmp_path: Path, number: signal.Signals, whole_group: bool) -> None:
    run = Run(tmp_path, "--devices", "8")
    run.wait_for_children()
    folder, children = run.folder(), descendants(run.process.pid)
    (os.killpg if whole_group else os.kill)(run.process.pid, number)
    assert run.process.wait(60) == 128 + number
    wait_gone(children)
    assert not folder.exists()
    said = run.log.read_text()
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    assert "ended" not in said


@pytest.mark.parametrize("after_s", [0.0, 0.3, 0.6, 1.0, 1.6, 2.3, 3.0])
def test_ctrl_c_at_any_moment_is_one_word(tmp_path: Path, after_s: float) -> None:
    run = Run(tmp_path, "--devices", "2", "--keep")
    run.wait_for_signal_handlers()
    time.sleep(after_s)
    children = descendants(run.process.pid)
    os.killpg(run.process.pid, signal.SIGINT)
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.process.wait(60) == 130, run.log.read_text()
    wait_gone(children)
    said = run.log.read_text()
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    assert "ended" not in said
    assert set(HOME.glob("demo-*")) <= run.before


def test_a_killed_demo_takes_its_children_along_and_the_next_one_sweeps(tmp_path: Path) -> None:
    run = Run(tmp_path, "--devices", "1", "--keep")
    run.wait_for("stays up until")
    folder, children = run.folder(), descendants(run.process.pid)
    assert len(children) >= 4  # a TPM, an agent, server and broker
    run.process.kill()
    run.process.wait(60)
    wait_gone(children)
    assert folder.exists()
    (tmp_path / "next").mkdir()
    following = Run(tmp_path / "next")
    following.wait_for_children()
    assert not folder.exists()
    following.process.send_signal(signal.SIGINT)
    assert following.process.wait(60) == 130


def test_it_stays_up_when_a_part_ends_and_says_which_and_how(tmp_path: Path) -> None:
    run = Run(tmp_path, "--devices", "1", "--keep")
    run.wait_for("stays up until")
    (server,) = (
        pid for pid in descendants(run.process.pid) if b"\0serve\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    os.kill(server, signal.SIGKILL)
    run.wait_for("birthmark serve ended by SIGKILL")
    run.wait_for("the rest stays up")
    time.sleep(1)
    assert run.log.read_text().count("ended") == 1
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(60) == 130


def test_a_picture_that_can_not_be_saved_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    run = Run(tmp_path, "--picture", str(tmp_path / "nowhere" / "demo.svg"))
    assert run.process.wait(60) == 2
    assert "can't be written: No such file or directory" in run.log.read_text()


def test_what_goes_into_a_file_is_neither_wrapped_nor_padded(tmp_path: Path) -> None:
    run = Run(tmp_path, "--devices", "1")
    assert run.process.wait(100) == 0, run.log.read_text()
    lines = run.log.read_text().splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    (row,) = (line for line in lines if line.startswith("gateway-001  "))
    assert row.count("✓") == 5


def test_a_tpm_dies_with_the_one_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from support.swtpm import VendorCa\n"
        "tpm = VendorCa.create(Path(sys.argv[1]) / 'vendor').make(Path(sys.argv[1]) / 'tpm')\n"
        "tpm.start(); print(tpm.pid, flush=True); input()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    wait_gone({pid})


def test_a_tpm_listens_where_it_is_told_and_leaves_nothing_there(tmp_path: Path) -> None:
    run = Path(os.path.relpath(tmp_path / "run"))
    tpm = VendorCa.create(tmp_path / "vendor").make(tmp_path / "tpm", run=run)
    with tpm.running():
        assert sorted(path.name for path in run.iterdir()) == ["tpm", "tpm.ctrl"]
    assert not run.exists()


LOST = """
import os, signal, sys, time
from types import SimpleNamespace
from demo_story import __main__ as demo, site

class Swallows:
    def __del__(self):  # Python drops what is raised in here
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

def stay(self):
    site.time = SimpleNamespace(sleep=lambda _: Swallows() and None)
    really(self)

really, site.Site.stay = site.Site.stay, stay
sys.argv = ["demo", "--devices", "1", "--keep"]
os._exit(demo.main())
"""


def test_ctrl_c_that_python_drops_ends_it_all_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOST],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
        check=False,
        timeout=100,
    )
    assert done.returncode == 130, done.stderr
    assert "Exception ignored in" in done.stderr  # it was dropped indeed
    assert done.stderr.splitlines()[-1] == "interrupted"


FAILED = """
import os, signal, sys
from demo_story import __main__ as demo, story
from demo_story.parts import PartFailed

def tell(wishes, screen):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        raise PartFailed("mosquitto ended by SIGINT")

story.tell = tell
sys.argv = ["demo"]
os._exit(demo.main())
"""


def test_a_part_that_fails_because_of_ctrl_c_is_an_interruption_and_no_failure() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILED],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
