"""An installation made by `birthmark init --demo`, and the command line to use on it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from birthmark_server import cli
from birthmark_server.broker.denyfile import DenyFile
from birthmark_server.denials import open_deny_file
from birthmark_server.settings import load
from cli.on_record import put_on_record


@dataclass(frozen=True)
class Ran:
    """How one command ended. out: its data; err: its words."""

    status: int
    out: str
    err: str


Birthmark = Callable[..., Ran]


@pytest.fixture(scope="session")
def demo_installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One installation, made once; tests get copies."""
    folder = tmp_path_factory.mktemp("made") / "installation"
    assert cli.run(lambda: cli.application()(["init", str(folder), "--demo"])) == 0
    return folder


@pytest.fixture
def installation(demo_installation: Path, tmp_path: Path) -> Path:
    """A copy of it, with a settings file of relative paths."""
    folder = tmp_path / "installation"
    shutil.copytree(demo_installation, folder)
    config = folder / "birthmark.toml"
    config.write_text(config.read_text().replace(str(demo_installation), str(folder)))
    return folder


@pytest.fixture
def birthmark(installation: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Birthmark:
    """Run `birthmark --config ... WORDS`."""
    monkeypatch.delenv("BIRTHMARK_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str, config: Path | None = installation / "birthmark.toml") -> Ran:
        capsys.readouterr()
        argv = [*(["--config", str(config)] if config is not None else []), *words]
        status = cli.run(lambda: cli.application()(argv, prog_name="birthmark"))
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


@pytest.fixture
def device(installation: Path) -> str:
    """A device on record."""
    return put_on_record(installation, 42)


@pytest.fixture
def deny_file(installation: Path) -> DenyFile:
    """The gate's deny file, which the settings name."""
    config = installation / "birthmark.toml"
    config.write_text(config.read_text().replace('# deny_file = ""', 'deny_file = "deny"'))
    file = open_deny_file(load(config).broker)
    file.create()
    return file
