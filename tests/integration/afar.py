"""The command line from afar: contexts for operators of each role, and what a command says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.conftest import Ran
from support.pki import Leaf
from support.server import Installation

Run = Callable[..., Ran]


def person(leaf: Leaf, folder: Path) -> Path:
    """Write certificate and key as `operator add` does."""
    path = folder / f"{leaf.record.sha256[:8]}.pem"
    path.touch(mode=0o600)
    path.write_bytes(leaf.chain_pem + leaf.key_pem)
    return path


def add_context(run: Run, site: Installation, name: str, certificate: Path, port: int) -> None:
    words = ("--server", f"https://localhost:{port}", "--certificate", str(certificate))
    done = run("context", "add", name, *words, "--root", str(site.pki.root_pem))
    assert done.status == 0, done.err


def told(run: Run, *words: str) -> Any:
    done = run(*words, "--json")
    assert done.status == 0, done.err
    return json.loads(done.out)
