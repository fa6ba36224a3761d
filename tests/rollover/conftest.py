"""An installation, and the command line on its server's machine."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from birthmark_server import cli
from cli.conftest import Ran
from support.server import Installation


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Installation]:
    with Installation.create(tmp_path) as installation:
        yield installation


@dataclass(frozen=True)
class Ca:
    """`birthmark --config CONFIG` with what follows."""

    run: Callable[..., Ran]

    def __call__(self, *words: str, status: int = 0) -> Ran:
        """Run `birthmark ca WORDS`; it must end with this status."""
        done = self.run("ca", *words)
        assert done.status == status, done.err
        return done

    def told(self, *words: str) -> Any:
        """Run it with --json; return what it said."""
        return json.loads(self(*words, "--json").out)

    def states(self) -> dict[str, str]:
        """Where each authority stands."""
        return {one["name"]: one["state"] for one in self.told("list")}


@pytest.fixture
def ca(site: Installation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ca:
    return command_line(site, capsys, monkeypatch)


def command_line(site: Installation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ca:
    """The command line on the machine of this installation's server."""
    monkeypatch.delenv("BIRTHMARK_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    config = str(site.settings())

    def run(*words: str) -> Ran:
        capsys.readouterr()
        status = cli.run(lambda: cli.application()(["--config", config, *words], prog_name="birthmark"))
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return Ca(run)
