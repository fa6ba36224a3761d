"""The root is replaced, with real agents on emulated TPMs: one takes part, one sleeps through it and comes home."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from birthmark_server.domain import RevocationReason
from birthmark_server.rollover.record import follow
from birthmark_server.store.sql.store import SqlStore
from cli.conftest import Ran
from rollover.conftest import Ca, command_line
from rollover.test_rollover_fleet import lines, until
from support.agent_site import AgentSite, Device
from support.server import now
from support.two_roots import succeed_root

pytestmark = [pytest.mark.parts, pytest.mark.timeout(600)]

OLD, NEW = "root", "root-2030"


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[AgentSite]:
    """An installation whose devices are real agents."""
    with AgentSite.create(tmp_path) as made:
        yield made


def store_of(site: AgentSite) -> SqlStore:
    assert isinstance(site.installation.store, SqlStore)
    return site.installation.store


def issuer_of(site: AgentSite, device: Device) -> str:
    """The name of the CA whose certificate the device lives by."""
    facts = store_of(site).device_facts([device.device_id])[device.device_id]
    assert facts.certificate is not None
    known = {one.sha256: one.name for one in store_of(site).authorities.list_authorities()}
    return known[facts.certificate.issuer_sha256]


def issue_infrastructure_anew(site: AgentSite) -> None:
    """What `birthmark certificate issue` does for server, broker, control, command and deny list."""
    installation = site.installation
    follow(installation.pki.authority, store_of(site).authorities, now=now())
    for name in ("control", "command", "deny-list"):
        (installation.folder / f"{name}.pem").unlink()
    installation.pki.broker().write(installation.folder, "broker")
    site.broker.stop()
    site.broker.start()


def test_the_root_is_replaced_while_one_device_sleeps(
    agents: AgentSite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = agents
    installation, broker = site.installation, site.broker
    ca: Ca = command_line(installation, capsys, monkeypatch)
    awake, sleeper = site.device("ROOT-1"), site.device("ROOT-2")
    trust = store_of(site).authorities
    with installation.start(broker=lines(installation, broker)):
        for device in (awake, sleeper):
            with device.running() as agent:
                agent.wait_log(" connected ")
    succeed_root(installation)

    with installation.start(broker=lines(installation, broker)), awake.running() as agent:
        agent.wait_log(" connected ")
        ca("stage", NEW)
        assert until(lambda: trust.trust_of(awake.device_id) == 1)
        refused = ca("activate", NEW, status=73).err
        assert "1 of 2 devices have not acknowledged it, 50.00 % have and 100 % are wanted" in refused
        assert sleeper.device_id in refused
        assert sleeper.device_id in ca("status", NEW).out
        ca("activate", NEW, "--quorum", "50")
        assert "quorum 50 %, 1 did not know it" in ca("status", NEW).out
        assert "retire it first" in ca("retire", OLD, status=73).err
        for kind in ("fleet", "infra", "birth"):
            ca("stage", f"{kind}-2030")
            ca("status", f"{kind}-2030", "--watch")
            ca("activate", f"{kind}-2030")

    issue_infrastructure_anew(site)
    with installation.start(broker=lines(installation, broker)), awake.running() as agent:
        agent.wait_log(" connected ")
        done: Ran = ca.run("campaign", "start", "roll", "--issued-by", "fleet-2025")
        assert done.status == 0, done.err
        assert until(lambda: issuer_of(site, awake) == "fleet-2030", 60)
        assert sleeper.device_id in ca("retire", "fleet-2025", status=73).err

        # It pins the old root alone. The link in its peers' chains is its way home.
        assert len(sleeper.identities().anchors) == 1
        with sleeper.running() as woken:
            woken.wait_log(" connected ")
            assert until(lambda: trust.trust_of(sleeper.device_id) >= 2, 20), (ca("status", NEW).out, woken.log[-3000:])
            assert until(lambda: issuer_of(site, sleeper) == "fleet-2030", 60)
            assert len(sleeper.identities().anchors) == 2

            assert until(lambda: ca.run("ca", "retire", "fleet-2025").status == 0, 60), ca("status", "fleet-2025").out
            assert "infra-2025 can't be retired yet: " in ca("retire", "infra-2025", status=73).err
            infra = next(one.sha256 for one in trust.list_authorities() if one.name == "infra-2025")
            for leaf in trust.page_leaves(infra, at=now()):
                installation.store.revoke_certificate(
                    leaf.sha256, reason=RevocationReason.SUPERSEDED, at=now(), by="alice"
                )
            ca("retire", "infra-2025")
            not_yet = ca.run("ca", "retire", OLD)
            version = ca.told("status", NEW)["version"]
            assert until(lambda: {trust.trust_of(one.device_id) for one in (awake, sleeper)} == {version}, 60)
            if not_yet.status:
                ca("retire", OLD)
            assert ca.states() | {OLD: "retired", "birth-2025": "superseded"} == ca.states()
            assert until(lambda: [len(one.identities().anchors) for one in (awake, sleeper)] == [1, 1], 60)
            for running in (agent, woken):  # born below the old root, at home below the new one
                running.renew()
                running.wait_log(" renewed ")
