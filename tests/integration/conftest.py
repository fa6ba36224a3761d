"""One installation and one server for all tests of this folder that need nothing special."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from birthmark_server import cli
from birthmark_server.roles import PROFILE_OF
from cli.conftest import Ran
from integration.afar import Run, add_context, person
from support.server import Installation, Server

LIMITS = "[limits]\nrequests_per_s = 10000\nburst = 10000\nbody_timeout_s = 1.0\nidle_timeout_s = 2.0\n"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.create(tmp_path_factory.mktemp("site")) as installation:
        yield installation


@pytest.fixture(scope="session")
def server(site: Installation) -> Iterator[Server]:
    with site.start(extra=LIMITS) as running:
        yield running


@pytest.fixture
def run(
    server: Server,
    site: Installation,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run `birthmark WORDS` with a context for each role."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("BIRTHMARK_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Ran:
        capsys.readouterr()
        status = cli.run(lambda: cli.application()([*words], prog_name="birthmark"))
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    for role, profile in PROFILE_OF.items():
        add_context(run, site, role.value, person(site.infra(profile, f"the-{role}"), tmp_path), server.port)
    return run
