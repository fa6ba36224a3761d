"""Mutual TLS with the key in a real (emulated) TPM."""

import pytest

from birthmark_agent import tls
from birthmark_agent.errors import KeyNotOfThisTpm, TlsKeyFailed, TpmUnavailable
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
