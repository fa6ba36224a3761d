"""How an installation's record begins, and that a server goes by it."""

from birthmark_server.ca.profile import CaKind
from rollover.conftest import Ca
from support.server import Clock, Installation
from support.two_roots import succeed_root


def test_at_the_first_start_the_newest_below_the_first_root_issues(site: Installation, ca: Ca) -> None:
    succeed_root(site)
    site.pki.add(CaKind.FLEET, label="2027")
    with site.services(Clock()) as services:
        force = services.authority.in_force
        assert (force.root.name, force.fleet.name) == ("root", "fleet-2027")
        assert [root.name for root in force.roots] == ["root"]
    assert ca.states() == {
        "root": "active",
        "root-2030": "new",
        "birth-2025": "active",
        "birth-2030": "new",
        "fleet-2025": "superseded",
        "fleet-2027": "active",
        "fleet-2030": "new",
        "infra-2025": "active",
        "infra-2030": "new",
    }


def test_a_server_goes_by_each_act_at_its_next_look(site: Installation, ca: Ca) -> None:
    succeed_root(site)
    with site.services(Clock()) as services:
        authority = services.authority
        ca("stage", "root-2030")
        assert [root.name for root in authority.in_force.roots] == ["root"]
        services.record.refresh()
        assert [root.name for root in authority.in_force.roots] == ["root", "root-2030"]
        ca("activate", "root-2030")
        services.record.refresh()
        assert authority.root.name == "root-2030"
        assert [root.name for root in authority.in_force.roots] == ["root-2030", "root"]
        ca("activate", "root")
        ca("withdraw", "root-2030", status=73)
        ca("retire", "root-2030")
        services.record.refresh()
        assert [root.name for root in authority.in_force.roots] == ["root"]


def test_a_ca_that_only_another_server_has_is_not_followed_and_that_is_said(site: Installation, ca: Ca) -> None:
    with site.services(Clock()) as services:
        before = services.authority.fleet.name
        site.pki.add(CaKind.FLEET, label="2027")
        ca("stage", "fleet-2027")
        ca("activate", "fleet-2027", "--force")
        services.record.refresh()
        assert services.authority.fleet.name == before
        (report,) = services.authorities.replicas(since=site.pki.now)
        assert "bring it there, or have another one issue" in report.detail
        assert "has not followed" in ca("retire", before, status=73).err
        ca("activate", before)
        services.record.refresh()
        (report,) = services.authorities.replicas(since=site.pki.now)
        assert report.detail == ""
