"""Two servers on one PostgreSQL agree on who issues, and the command line from afar is told the same as on the spot."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from birthmark_server import cli
from birthmark_server.ca.profile import CaKind
from birthmark_server.domain import CertificateProfile
from birthmark_server.roles import PROFILE_OF, Role
from birthmark_server.store.sql.store import SqlStore
from cli.conftest import Ran
from rollover.test_rollover_fleet import NEW, OLD, until
from support.ports import free_port
from support.postgres import fresh_database, postgres_server
from support.server import Client, Installation, Server, sha256_hex

pytestmark = pytest.mark.parts


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    with (
        postgres_server() as cluster,
        fresh_database(cluster) as url,
        Installation.create(tmp_path, database_url=url) as site,
    ):
        with site.start():  # the record begins before the new CA is there
            pass
        site.pki.add(CaKind.FLEET, label="2027")
        with site.start() as one, site.start(port=free_port()) as two:
            yield one, two


def issuer_at(server: Server) -> str:
    """The name of the Fleet CA by which a server certifies a new device."""
    serial = f"SN-{time.monotonic_ns()}"
    tpm = server.site.listed_device(serial)
    born = server.enroll(tpm)
    ldevid = server.first_ldevid(tpm, born, f"dev-{serial.lower()}")
    store = server.site.store
    assert isinstance(store, SqlStore)
    found = store.certificate_by_sha256(sha256_hex(ldevid.der))
    assert found is not None
    return next(one.name for one in store.authorities.list_authorities() if one.sha256 == found[0].issuer_sha256)


def post(client: Client, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    sent = b"" if body is None else json.dumps(body).encode()
    reply = client.ask("POST", path, sent, content_type="application/json")
    answer: dict[str, object] = json.loads(reply.body)
    return reply.status, answer


def test_both_issue_from_the_same_ca_within_two_seconds_of_an_act_at_either(servers: tuple[Server, Server]) -> None:
    one, two = servers
    officer = one.site.infra(CertificateProfile.SECURITY_OFFICER, "olga")
    assert {issuer_at(one), issuer_at(two)} == {OLD}
    with one.connect(officer) as here, two.connect(officer) as there:
        assert post(here, f"/v1/authorities/{NEW}/stage")[0] == 200
        assert until(lambda: json.loads(there.ask("GET", f"/v1/authorities/{NEW}").body)["ready"])
        status = json.loads(there.ask("GET", f"/v1/authorities/{NEW}").body)
        assert len(status["servers"]) >= 2
        code, moved = post(there, f"/v1/authorities/{NEW}/activate", {})
        assert code == 200, moved
        time.sleep(2)
        assert {issuer_at(one), issuer_at(two)} == {NEW}
        assert post(here, f"/v1/authorities/{NEW}/activate", {})[1]["code"] == "illegal-move"
        assert post(here, f"/v1/authorities/{OLD}/retire")[1]["code"] == "leaves-stand"
        assert post(here, f"/v1/authorities/{OLD}/activate", {"quorum": 0})[1]["code"] == "malformed"
        assert post(here, f"/v1/authorities/{OLD}/activate", {})[0] == 200
        time.sleep(2)
        assert {issuer_at(one), issuer_at(two)} == {OLD}


def timeless(text: str) -> str:
    """Without when a server was heard: the next one of two questions may get another second."""
    return re.sub(r'"heard_at": "[^"]*"', "", text)


def test_the_command_line_from_afar_is_told_the_same(
    servers: tuple[Server, Server], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = servers[0].site
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("BIRTHMARK_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Ran:
        capsys.readouterr()
        status = cli.run(lambda: cli.application()([*words], prog_name="birthmark"))
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    for role, profile in PROFILE_OF.items():
        path = tmp_path / f"{role}.pem"
        path.touch(mode=0o600)
        leaf = site.infra(profile, f"the-{role}")
        path.write_bytes(leaf.chain_pem + leaf.key_pem)
        words = ("--server", f"https://localhost:{servers[0].port}", "--certificate", str(path))
        assert run("context", "add", role.value, *words, "--root", str(site.pki.root_pem)).status == 0
    local, afar = ("--config", str(site.settings())), ("--context", Role.SECURITY_OFFICER.value)
    assert run("--context", "operator", "ca", "stage", NEW).status == 77
    assert run(*afar, "ca", "stage", NEW).status == 0
    assert until(lambda: json.loads(run(*afar, "ca", "status", NEW, "--json").out)["ready"])
    asked: tuple[tuple[str, ...], ...] = (
        ("ca", "list"),
        ("ca", "list", "--json"),
        ("ca", "status", OLD, "--all", "--json"),
        ("ca", "status", "nobody"),
        ("ca", "activate", "nobody"),
        ("ca", "retire", OLD),
        ("ca", "restore", OLD),
        ("ca", "withdraw", OLD),
        ("ca", "stage", OLD),
    )
    for each in asked:
        there, here = run(*afar, *each), run(*local, *each)
        assert (there.status, timeless(there.out), there.err) == (here.status, timeless(here.out), here.err), each
    assert run("--context", "viewer", "ca", "status", NEW, "--watch").status == 0
    done = run(*afar, "ca", "activate", NEW, "--json")
    assert json.loads(done.out)["act"]["by"] == "the-security-officer"
    assert "is active, by the-security-officer" in done.err
