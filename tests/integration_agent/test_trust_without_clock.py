"""A device that nobody told the time takes no trust bundle: its signer may have been nobody's for years."""

from datetime import UTC, datetime, timedelta

import pytest

from birthmark_agent.identity import Identities
from birthmark_agent.settings import load_settings
from birthmark_server.domain import CertificateProfile
from birthmark_wire.trust import TrustAck
from support.agent_here import running
from support.agent_site import AgentSite, WrongClock
from support.new_root import NewRoot, bundle, sign_bundle
from support.rotation_peer import RotationPeer

pytestmark = pytest.mark.parts


def test_a_device_without_a_clock_takes_none_before_the_server_told_the_time(site: AgentSite) -> None:
    pki = site.installation.pki
    new, signer = NewRoot.of(pki), pki.infra(CertificateProfile.COMMAND, "srv-command")
    staged = bundle(1, new.old.der, new.new.der, links=(new.new_with_old,))
    device = site.device("TRUST-C")
    with site.server():
        device.cli("enroll")
    identities = Identities(load_settings(device.config), system=WrongClock(datetime.now(UTC) + timedelta(seconds=30)))
    with RotationPeer.running(site) as peer, running(identities):
        peer.wait_for(device, "hello")
        jws = sign_bundle(staged, signer)
        assert peer.trust_ack(device, jws).code == "clock-not-set"
        # Who may not command is refused without a question to the server.
        thief = pki.infra(CertificateProfile.CONTROL, "srv-thief")
        assert peer.trust_ack(device, sign_bundle(staged, thief)).code == "trust-unsigned"
        with site.server():
            assert peer.trust_ack(device, jws) == TrustAck(1)
