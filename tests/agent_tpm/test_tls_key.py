"""A key that signs by a callback, in the standard library's ssl. The TPM itself comes in test_tls_tpm.py."""

import gc
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_agent import tls
from birthmark_agent.clock import CheckTime
from birthmark_agent.errors import TlsKeyFailed, TpmLockout
from support.tls_pair import SoftwareKey, TestCa, shake_hands

CURVES = [ec.SECP256R1(), ec.SECP384R1()]


@pytest.fixture(scope="module")
def ca() -> TestCa:
    return TestCa.create()


def _context(ca: TestCa, key: SoftwareKey, *, self_test: bool = False) -> tls.TpmContext:
    return tls.client_context(anchors_pem=ca.anchors_pem, chain=ca.issue_now(key.spki), key=key, self_test=self_test)


def _resident_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_handshake_costs_exactly_one_signature(ca: TestCa, curve: ec.EllipticCurve) -> None:
    key = SoftwareKey(curve)
    context = _context(ca, key)
    assert key.signatures == 0
    near, far = shake_hands(context, ca.server())
    assert key.signatures == context.signatures == 1
    assert near.version() == "TLSv1.3"
    certificate = far.getpeercert()
    assert certificate
    assert certificate["subject"] == ((("commonName", "device-1"),),)


def test_server_sees_the_whole_chain(ca: TestCa) -> None:
    near, _far = shake_hands(_context(ca, SoftwareKey()), ca.server())  # it trusts the root alone
    assert near.cipher()


def test_self_test_costs_one_signature_and_no_network(ca: TestCa) -> None:
    key = SoftwareKey()
    context = _context(ca, key, self_test=True)
    assert key.signatures == 1
    assert context.signatures == 0


def test_socket_connection_works_both_ways(ca: TestCa) -> None:
    near, far = socket.socketpair()
    server = ca.server()

    def answer() -> None:
        with server.wrap_socket(far, server_side=True) as peer:
            peer.sendall(peer.recv(100).upper())

    thread = threading.Thread(target=answer)
    thread.start()
    with _context(ca, SoftwareKey()).wrap_socket(near, server_hostname="server.test") as peer:
        peer.sendall(b"over the wire")
        assert peer.recv(100) == b"OVER THE WIRE"
    thread.join()


def test_context_may_die_before_its_connection(ca: TestCa) -> None:
    key = SoftwareKey()
    context = _context(ca, key)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = context.wrap_bio(back, there, server_hostname="server.test")
    far = ca.server().wrap_bio(there, back, server_side=True)
    del context
    gc.collect()
    for _flight in range(3):
        for end in (near, far):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert key.signatures == 1


def test_door_for_enrollments_wants_no_key(ca: TestCa) -> None:
    server = ca.server()
    server.verify_mode = ssl.CERT_NONE
    near, _far = shake_hands(tls.client_context(anchors_pem=ca.anchors_pem), server)
    assert near.version() == "TLSv1.3"


# -- what is wrong is found before the network is touched


def test_another_keys_certificate_is_refused(ca: TestCa) -> None:
    with pytest.raises(TlsKeyFailed, match="the key is not the certificate's: key values mismatch"):
        tls.client_context(anchors_pem=ca.anchors_pem, chain=ca.issue_now(SoftwareKey().spki), key=SoftwareKey())


def test_key_that_signs_with_another_key_is_refused(ca: TestCa) -> None:
    class Liar(SoftwareKey):
        def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
            return SoftwareKey().sign_digest(digest, hash_name)

    with pytest.raises(TlsKeyFailed, match="handshake with itself failed"):
        _context(ca, Liar(), self_test=True)


@pytest.mark.parametrize("garbage", [b"", b"no DER", bytes(300)])
def test_signature_that_is_none_is_refused(ca: TestCa, garbage: bytes) -> None:
    class Garbled(SoftwareKey):
        def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
            return garbage

    with pytest.raises(TlsKeyFailed):
        _context(ca, Garbled(), self_test=True)


def test_chain_or_key_that_cannot_be_read_is_refused(ca: TestCa) -> None:
    key = SoftwareKey()
    leaf, intermediate = ca.issue_now(key.spki)
    for chain in ((b"junk",), (leaf, b"junk"), (leaf[:-1], intermediate)):
        with pytest.raises(TlsKeyFailed, match="can't be read"):
            tls.client_context(anchors_pem=ca.anchors_pem, chain=chain, key=key)
    with pytest.raises(TlsKeyFailed, match="anchors"):
        tls.client_context(anchors_pem="junk")


def test_errors_leave_openssls_queue_empty(ca: TestCa) -> None:
    test_another_keys_certificate_is_refused(ca)
    shake_hands(_context(ca, SoftwareKey()), ca.server())  # a stale entry would surface here


# -- a failing TPM


def test_tpm_error_in_the_handshake_is_named(ca: TestCa) -> None:
    key = SoftwareKey()
    context = _context(ca, key)
    key.error = TpmLockout("TPM2_Sign: in lockout", rc=0x921)
    with pytest.raises(TlsKeyFailed, match="could not sign the handshake: TPM2_Sign: in lockout") as caught:
        shake_hands(context, ca.server())
    assert caught.value.__cause__ is key.error
    assert isinstance(caught.value, ssl.SSLError)


def test_handshake_after_a_failed_one_works(ca: TestCa) -> None:
    key = SoftwareKey()
    context = _context(ca, key)
    key.error = RuntimeError("not now")
    with pytest.raises(TlsKeyFailed):
        shake_hands(context, ca.server())
    key.error = None
    shake_hands(context, ca.server())


def test_peers_fault_is_not_blamed_on_the_key(ca: TestCa) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(_context(ca, SoftwareKey()), TestCa.create().server())


def test_interrupt_while_signing_stays_an_interrupt(ca: TestCa) -> None:
    key = SoftwareKey()
    context = _context(ca, key)
    key.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        shake_hands(context, ca.server())


# -- memory


def _least_growth_kb(work: Callable[[], object], per_round: int) -> int:
    """Return by how much memory grew in the best of six rounds: a leak shows in all of them, a heap's whims do not."""
    grown = []
    for _round in range(6):
        before = _resident_kb()
        for _time in range(per_round):
            work()
        gc.collect()
        grown.append(_resident_kb() - before)
    return min(grown)


def test_memory_is_stable_over_a_thousand_contexts(ca: TestCa) -> None:
    key = SoftwareKey()
    chain, server = ca.issue_now(key.spki), ca.server()

    def work() -> None:
        context = tls.client_context(anchors_pem=ca.anchors_pem, chain=chain, key=key, self_test=False)
        shake_hands(context, server)

    registered = len(tls._by_ec_key)
    assert _least_growth_kb(work, 200) < 100
    assert len(tls._by_ec_key) <= registered


def test_memory_is_stable_over_many_failures(ca: TestCa) -> None:
    class Broken(SoftwareKey):
        def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
            raise RuntimeError("no TPM")

    right, wrong, broken = SoftwareKey(), SoftwareKey(), Broken()
    chain, broken_chain = ca.issue_now(right.spki), ca.issue_now(broken.spki)

    def work() -> None:
        with suppress(TlsKeyFailed):
            tls.client_context(anchors_pem=ca.anchors_pem, chain=chain, key=wrong, self_test=False)
        with suppress(TlsKeyFailed):
            tls.client_context(anchors_pem=ca.anchors_pem, chain=broken_chain, key=broken)

    registered = len(tls._by_ec_key)
    assert _least_growth_kb(work, 100) < 50
    assert len(tls._by_ec_key) <= registered


# -- the moment at which certificates are judged (clock.py)

FLOOR = datetime(2020, 1, 1, tzinfo=UTC)
AT_FLOOR = CheckTime(FLOOR, not_yet_valid_passes=True)


def _judge(ca: TestCa, check: CheckTime, *, start: datetime, end: datetime) -> None:
    server = ca.server(start=start, end=end)
    server.verify_mode = ssl.CERT_NONE
    shake_hands(tls.client_context(anchors_pem=ca.anchors_pem, check=check), server)


def test_at_the_floor_a_certificate_that_begins_later_passes(ca: TestCa) -> None:
    _judge(ca, AT_FLOOR, start=FLOOR + timedelta(days=900), end=FLOOR + timedelta(days=930))


def test_at_the_floor_a_certificate_that_ended_before_does_not_pass(ca: TestCa) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        _judge(ca, AT_FLOOR, start=FLOOR - timedelta(days=30), end=FLOOR - timedelta(seconds=1))


def test_a_told_time_is_judged_strictly(ca: TestCa) -> None:
    told = CheckTime(FLOOR, not_yet_valid_passes=False)
    _judge(ca, told, start=FLOOR, end=FLOOR + timedelta(days=1))
    with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
        _judge(ca, told, start=FLOOR + timedelta(seconds=1), end=FLOOR + timedelta(days=1))


def test_at_the_floor_chain_and_name_must_be_right_all_the_same(ca: TestCa) -> None:
    server = TestCa.create().server(start=FLOOR + timedelta(days=1), end=FLOOR + timedelta(days=2))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get local issuer|self-signed"):
        shake_hands(tls.client_context(anchors_pem=ca.anchors_pem, check=AT_FLOOR), server)
    server = ca.server(start=FLOOR + timedelta(days=1), end=FLOOR + timedelta(days=2))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(tls.client_context(anchors_pem=ca.anchors_pem, check=AT_FLOOR), server, name="other.test")


def test_system_time_is_the_default(ca: TestCa) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        _judge(ca, tls.SYSTEM_TIME, start=FLOOR, end=FLOOR + timedelta(days=1))
