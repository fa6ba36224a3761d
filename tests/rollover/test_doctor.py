"""What `birthmark doctor` says of CAs that are being replaced."""

import json
from datetime import timedelta

from birthmark_server.authorities import PeerReport
from birthmark_server.ca.profile import CaKind
from birthmark_server.store.sql.store import SqlStore
from rollover.conftest import Ca
from support.server import Clock, Installation, now


def said(ca: Ca) -> list[tuple[str, str]]:
    """State and words of what it finds about a rollover."""
    found = json.loads(ca.run("doctor", "--json").out)
    return [(one["state"], one["seen"]) for one in found if one["what"] == "CA rollover"]


def test_a_staged_ca_and_a_server_that_has_not_loaded_it_are_mentioned(site: Installation, ca: Ca) -> None:
    with site.services(Clock()):  # a first start
        pass
    assert said(ca) == [("well", "no CA waits to be used")]
    site.pki.add(CaKind.FLEET, label="2027")
    assert said(ca) == [("well", "no CA waits to be used")]
    ca("stage", "fleet-2027")
    waits, unsigned = said(ca)
    assert waits[0] == "soon"
    assert waits[1].startswith("fleet-2027 is staged since ")
    assert unsigned == ("wrong", "nobody signs trust bundles on this server: no device is told of a new CA")
    assert isinstance(site.store, SqlStore)
    loaded = [one.sha256 for one in site.store.authorities.list_authorities() if one.name != "fleet-2027"]
    site.store.authorities.note_replica(PeerReport("b", tuple(loaded), now()))
    site.store.authorities.note_replica(PeerReport("gone", (), now() - timedelta(minutes=2)))
    assert said(ca)[2:] == [("wrong", "server b has not loaded fleet-2027, which is staged")]
    site.store.authorities.note_replica(PeerReport("b", tuple(loaded), now() + timedelta(seconds=1), "no key"))
    assert said(ca)[2] == ("wrong", "server b does not follow the record: no key")
    ca("withdraw", "fleet-2027")
    assert "server b has not loaded" not in str(said(ca))
