"""Who may sign a deny list, and that nothing else is read as one."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.broker.errors import DenyFileMalformed
from birthmark_server.broker.signing import DenySigner
from birthmark_server.ca import oids
from birthmark_server.errors import Misconfigured
from support.broker_pki import BrokerPki, Leaf

TEXT = b"birthmark-deny 2 1 100 200\nend 0\n"


def test_what_was_signed_is_opened(pki: BrokerPki) -> None:
    for text in (TEXT, b"", b"signer AAAA\nsignature AAAA\n"):
        assert pki.deny_signer.open(pki.deny_signer.sign(text)) == text


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")  # one bit can make it so
def test_no_bit_of_it_can_be_changed(pki: BrokerPki) -> None:
    data = pki.deny_signer.sign(TEXT)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(DenyFileMalformed):
            pki.deny_signer.open(bytes(changed))


@given(st.binary())
def test_any_other_bytes_are_refused(pki: BrokerPki, data: bytes) -> None:
    with pytest.raises(DenyFileMalformed):
        pki.deny_signer.open(data)


def test_only_signers_of_the_same_ca_count(pki: BrokerPki) -> None:
    control = pki.control()
    key = ec.generate_private_key(ec.SECP256R1())
    for signer in (
        DenySigner(key, pki.deny_signer.certificate, pki.infra.certificate),
        DenySigner(_key(control), control.certificate, pki.infra.certificate),
        DenySigner(pki.infra.key, pki.infra.certificate, pki.root.certificate),
    ):
        with pytest.raises(DenyFileMalformed):
            pki.deny_signer.open(signer.sign(TEXT))


def test_what_can_not_sign_is_refused_with_its_reason(pki: BrokerPki, tmp_path: Path) -> None:
    leaf = pki.leaf(pki.infra, ["srv-deny-list"], purposes=[oids.KP_DENY_LIST])
    by_fleet = pki.leaf(pki.fleet, ["srv-deny-list"], purposes=[oids.KP_DENY_LIST], signer=pki.infra)
    p384 = tmp_path / "p384.key"
    p384.write_bytes(
        ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    alone = tmp_path / "alone.pem"
    alone.write_bytes(leaf.certificate.public_bytes(Encoding.PEM))
    for certificate, key, reason in (
        (leaf.chain, pki.control().key, "is not the key of"),
        (pki.control().chain, leaf.key, "is not the key of"),
        (leaf.chain, p384, "want a P-256 key"),
        (leaf.chain, tmp_path / "lost.key", "can't read"),
        (alone, leaf.key, "want a certificate, its CA's"),
        (leaf.key, leaf.key, "want a certificate, its CA's"),
        (by_fleet.chain, by_fleet.key, "no deny-list certificate"),
    ):
        with pytest.raises(Misconfigured, match=reason):
            DenySigner.load(certificate, key)
    control = pki.control()
    with pytest.raises(Misconfigured, match="no deny-list certificate"):
        DenySigner.load(control.chain, control.key)


def _key(leaf: Leaf) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(leaf.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key
