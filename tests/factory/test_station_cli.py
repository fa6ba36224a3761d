"""`birthmark workorder`, `birthmark station` and `birthmark manifest remove`, from afar and on the server's machine."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from birthmark_server import cli
from birthmark_server.cli.station_desk import HttpDesk, open_desk
from birthmark_server.factory.desk import FactoryRefused
from birthmark_server.factory.serials import SerialPool
from birthmark_server.factory.station.settings import load_station
from birthmark_server.factory.station.signer import StationKey
from birthmark_server.roles import PROFILE_OF
from cli.conftest import Ran
from integration.afar import Run, add_context, person, told
from support.server import MODEL, Installation, Server
from support.stations import entry_of


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.create(tmp_path_factory.mktemp("station-cli")) as installation:
        yield installation


@pytest.fixture(scope="module")
def server(site: Installation) -> Iterator[Server]:
    with site.start(extra="[limits]\nrequests_per_s = 10000\nburst = 10000\n") as running:
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


def create(run: Run, name: str, *words: str, context: str = "factory") -> Ran:
    return run(
        *("--context", context, "workorder", "create", name, "--model", MODEL.name, "--quantity", "5"),
        *("--serials", f"{name}-{{:03}}-{{c}}", *words),
    )


def test_a_work_order_from_its_making_to_its_end(run: Run) -> None:
    made = create(run, "WO-CLI", "--for", "8h")
    assert made.status == 0, made.err
    assert "work order WO-CLI: 5 devices of model model-a, WO-CLI-000-" in made.err
    assert "birthmark factory run --workorder WO-CLI" in made.err
    (listed,) = told(run, "--context", "viewer", "workorder", "list")
    assert (listed["name"], listed["quantity"], listed["given"], listed["born"]) == ("WO-CLI", 5, 0, 0)
    assert "open" in run("--context", "viewer", "workorder", "list").out
    shown = run("--context", "viewer", "workorder", "show", "WO-CLI")
    assert "the-factory" in shown.out
    assert "0 of 5" in shown.out
    closed = run("--context", "factory", "workorder", "close", "WO-CLI")
    assert "is closed; 0 of 5" in closed.err
    assert told(run, "--context", "viewer", "workorder", "show", "WO-CLI")["closed_by"] == "the-factory"


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("--for", "long"), 64, "want a number and m, h or d"),
        (("--serials", "no"), 65, "serials: want capital letters"),
        (("--model", "none"), 1, "no model 'none'"),
        (("--serials", "X{:01}@7"), 1, "has 3 serial numbers, and 5 are wanted"),
    ],
)
def test_a_work_order_that_cannot_be_is_refused_in_one_sentence(
    run: Run, words: tuple[str, ...], status: int, says: str
) -> None:
    refused = create(run, "WO-NOT", *words)
    assert says in refused.err
    assert refused.status == status, refused.err


def test_a_viewer_makes_no_work_order_and_a_factory_no_station(run: Run, tmp_path: Path) -> None:
    assert "for the role" in create(run, "WO-NOT", context="viewer").err
    station = run("--context", "factory", "station", "init", "line-no", "--folder", str(tmp_path / "st"))
    assert "for the role security-officer" in station.err
    assert not (tmp_path / "st" / "station.key").exists()


@pytest.mark.parametrize("where", ["afar", "here"])
def test_a_station_is_made_and_works_and_is_revoked(
    run: Run, site: Installation, server: Server, tmp_path: Path, where: str
) -> None:
    name, folder = f"line-{where}", tmp_path / "station"
    url = f"https://localhost:{server.port}"
    place = ("--context", "security-officer") if where == "afar" else ("--config", str(site.settings()))
    words = ("--server", url) if where == "here" else ()
    made = run(*place, "station", "init", name, "--folder", str(folder), *words)
    assert made.status == 0, made.err
    for said in (name, "station.toml", "station.key", url, "birthmark factory run"):
        assert said in made.err
    assert stat.S_IMODE((folder / "station.key").stat().st_mode) == 0o600
    settings = load_station(folder / "station.toml")
    assert (settings.name, settings.server) == (name, url)

    assert create(run, f"W-{where.upper()}").status == 0
    desk = open_desk(settings)
    assert isinstance(desk, HttpDesk)
    try:
        assert desk.take_serials(f"W-{where.upper()}", 2, request="one").station == name
        serial = SerialPool.parse(desk.workorder(f"W-{where.upper()}").serials).serial(1)
        tpm = site.tpm()
        entry = entry_of(tpm, f"W-{where.upper()}", serial)
        desk.bring_entry(StationKey.load(settings.certificate, settings.key).sign(entry).encode())
        assert desk.device(serial) is None
        server.enroll(tpm)
        standing = desk.device(serial)
        assert standing is not None
        assert standing.state == "active"

        again = run(*place, "station", "init", name, "--folder", str(folder), *words)
        assert "nothing was overwritten" in again.err
        stations = told(run, "--context", "viewer", "station", "list")
        assert [one["issued_by"] != "" for one in stations if one["name"] == name] == [True]
        revoked = run(*place, "station", "revoke", name, "--reason", "keyCompromise")
        assert f"station {name} is revoked" in revoked.err
        with pytest.raises(FactoryRefused) as refused:
            desk.device(serial)
        assert refused.value.server_code == "certificate-revoked"
    finally:
        desk.close()


def test_a_line_with_the_wrong_ek_is_removed(run: Run, site: Installation, server: Server) -> None:
    site.list_ek("ab" * 32, "SN-TYPO")
    removed = run("--context", "factory", "manifest", "remove", "SN-TYPO")
    assert removed.err == f"serial number SN-TYPO (model model-a, EK {'ab' * 32}) is no longer expected\n"
    assert "no line for serial number" in run("--context", "factory", "manifest", "remove", "SN-TYPO").err
    tpm = site.listed_device("SN-TYPO")
    server.enroll(tpm)
    assert "dev-sn-typo was born" in run("--context", "factory", "manifest", "remove", "SN-TYPO").err
    assert json.dumps("SN-TYPO") in json.dumps(told(run, "--context", "viewer", "manifest", "list"))
