"""Programs beside the tests that must run, and sometimes die, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start `program` of this folder; what it prints, errors too, comes through `stdout`."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(HERE / program), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
