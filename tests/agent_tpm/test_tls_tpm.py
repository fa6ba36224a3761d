"""Mutual TLS with the key in a real (emulated) TPM."""

from pathlib import Path

import pytest

from birthmark_agent import tls
from birthmark_agent.errors import KeyNotOfThisTpm, TlsKeyFailed, TpmUnavailable
from birthmark_agent.homecoming import leads_elsewhere
from birthmark_agent.identity import Identities
from birthmark_agent.settings import parse_settings
from birthmark_agent.slots import Identity
from birthmark_agent.tpm.device import Tpm
from birthmark_agent.tpm.signer import TpmSigner
from birthmark_wire.tpm_templates import ALG_SHA256, CURVE_P384, OPERATIONAL_KEY
from support.swtpm import Swtpm
from support.tls_pair import TestCa, shake_hands

pytestmark = pytest.mark.parts


@pytest.fixture(scope="module")
def ca() -> TestCa:
    return TestCa.create()


def _signer(swtpm: Swtpm, template: bytes = OPERATIONAL_KEY) -> TpmSigner:
    with Tpm.open(swtpm.tcti) as tpm:
        return TpmSigner.operational(swtpm.tcti, tpm.create_operational_key(template))


def _context(ca: TestCa, signer: TpmSigner, *, self_test: bool = True) -> tls.TpmContext:
    chain = ca.issue_now(signer.spki)
    return tls.client_context(anchors_pem=ca.anchors_pem, chain=chain, key=signer, self_test=self_test)


def _p384() -> bytes:
    """The operational template with the other curve (nameAlg and attributes as they are)."""
    curve_at = len(OPERATIONAL_KEY) - 8
    assert OPERATIONAL_KEY[2:4] == ALG_SHA256.to_bytes(2, "big")
    return OPERATIONAL_KEY[:curve_at] + CURVE_P384.to_bytes(2, "big") + OPERATIONAL_KEY[curve_at + 2 :]


@pytest.mark.parametrize("template", [OPERATIONAL_KEY, _p384()], ids=["p256", "p384"])
def test_handshake_takes_one_tpm_signature_and_leaves_the_tpm_empty(swtpm: Swtpm, ca: TestCa, template: bytes) -> None:
    context = _context(ca, _signer(swtpm, template))
    for handshakes in (1, 2, 3):
        shake_hands(context, ca.server())
        assert context.signatures == handshakes
    assert swtpm.objects() == 0


def test_birth_key_connects_too(swtpm: Swtpm, ca: TestCa) -> None:
    shake_hands(_context(ca, TpmSigner.birth(swtpm.tcti)), ca.server())


def test_open_key_connects_too(swtpm: Swtpm, ca: TestCa) -> None:
    with Tpm.open(swtpm.tcti) as tpm, tpm.load(tpm.create_operational_key()) as key:
        context = tls.client_context(anchors_pem=ca.anchors_pem, chain=ca.issue_now(key.spki), key=key)
        shake_hands(context, ca.server())


def test_lockout_does_not_keep_a_device_away(swtpm: Swtpm, ca: TestCa) -> None:
    signer = _signer(swtpm)
    swtpm.lock_out()
    shake_hands(_context(ca, signer), ca.server())


def test_tpm_that_is_gone_is_named_and_one_that_is_back_works(swtpm: Swtpm, ca: TestCa) -> None:
    context = _context(ca, _signer(swtpm))
    swtpm.stop()
    with pytest.raises(TlsKeyFailed, match="could not sign the handshake") as caught:
        shake_hands(context, ca.server())
    assert isinstance(caught.value.__cause__, TpmUnavailable)
    swtpm.start()
    shake_hands(context, ca.server())


def test_key_lost_with_tpm2_clear_is_found_before_the_network_is_touched(swtpm: Swtpm, ca: TestCa) -> None:
    signer = _signer(swtpm)
    swtpm.clear()
    with pytest.raises(TlsKeyFailed) as caught:
        _context(ca, signer)
    assert isinstance(caught.value.__cause__, KeyNotOfThisTpm)


def _identities(swtpm: Swtpm, ca: TestCa, folder: Path) -> Identities:
    (folder / "root.pem").write_text(ca.anchors_pem)
    server = {"url": "https://server.test", "anchors": "root.pem"}
    settings = {"server": server, "tpm": {"tcti": swtpm.tcti}, "state": {"folder": "state"}}
    return Identities(parse_settings(settings, folder=folder))


def test_an_operational_identity_signs_apart(swtpm: Swtpm, ca: TestCa, tmp_path: Path) -> None:
    with Tpm.open(swtpm.tcti) as tpm:
        key_pem = tpm.create_operational_key()
    identity = Identity.of(ca.issue_now(TpmSigner.operational(swtpm.tcti, key_pem).spki), key_pem)
    shake_hands(_identities(swtpm, ca, tmp_path).operational_context(identity), ca.server())
    assert swtpm.objects() == 0


def test_a_slot_whose_key_is_not_its_certificates_shows_nothing(swtpm: Swtpm, ca: TestCa, tmp_path: Path) -> None:
    with Tpm.open(swtpm.tcti) as tpm:
        ours, another = tpm.create_operational_key(), tpm.create_operational_key()
    identity = Identity.of(ca.issue_now(TpmSigner.operational(swtpm.tcti, ours).spki), another)
    with pytest.raises(TlsKeyFailed, match="not the certificate's") as raised:
        shake_hands(_identities(swtpm, ca, tmp_path).operational_context(identity), ca.server())
    assert leads_elsewhere(raised.value)


def test_a_tpm_that_is_away_is_no_reason_to_give_an_identity_up(swtpm: Swtpm, ca: TestCa, tmp_path: Path) -> None:
    with Tpm.open(swtpm.tcti) as tpm:
        key_pem = tpm.create_operational_key()
    identity = Identity.of(ca.issue_now(TpmSigner.operational(swtpm.tcti, key_pem).spki), key_pem)
    swtpm.stop()
    with pytest.raises(TlsKeyFailed) as raised:
        shake_hands(_identities(swtpm, ca, tmp_path).operational_context(identity), ca.server())
    swtpm.start()
    assert isinstance(raised.value.__cause__, TpmUnavailable)
    assert not leads_elsewhere(raised.value)
