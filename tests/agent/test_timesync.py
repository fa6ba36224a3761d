"""The server's signed time: what makes it count, and each thing that makes it worth nothing."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from birthmark_agent.clock import SignedTime, TimeRefused
from birthmark_agent.timesync import verify_signed_time
from birthmark_server.domain import CertificateProfile
from birthmark_server.web.time import TimeSigner
from birthmark_wire import PROTOCOL
from birthmark_wire.binding import digest_fields
from birthmark_wire.time import TIME_LABEL, TimeAnswer, write_time
from support.pki import Leaf, Pki, make_pki

NONCE = bytes(range(32))
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki") / "ca", now=NOW)


def said(signer: Leaf, pki: Pki, *, at: datetime = NOW, nonce: bytes = NONCE) -> TimeAnswer:
    """What a holder of this certificate and its key says."""
    infra = pki.authority.infra.certificate.public_bytes(Encoding.DER)
    return TimeSigner((signer.der, infra), signer.key).sign(nonce, at)


@pytest.fixture(scope="module")
def answer(pki: Pki) -> TimeAnswer:
    return said(pki.server(), pki)


def judged(answer: TimeAnswer, pki: Pki, *, nonce: bytes = NONCE, host: str = "localhost") -> SignedTime:
    return verify_signed_time(
        answer.encode(), nonce=nonce, host=host, anchors_pem=pki.root_pem.read_text(), asked_at_boot_time_s=7.0
    )


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "::1"])
def test_the_time_that_a_server_signed_over_our_nonce_stands(pki: Pki, host: str) -> None:
    assert judged(said(pki.server(), pki), pki, host=host) == SignedTime(NOW, 7.0)


def test_it_stands_before_and_after_now_as_long_as_the_signers_certificate_was_valid_then(pki: Pki) -> None:
    """Our own clock plays no part: that is what the question was for."""
    signer = pki.server()
    for at in (NOW, NOW + 300 * DAY):
        assert judged(said(signer, pki, at=at), pki).at == at


@pytest.mark.parametrize(
    "at", [NOW - DAY, NOW + 366 * DAY, datetime(1970, 1, 2, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)]
)
def test_nobody_can_claim_a_time_outside_of_their_own_certificate(pki: Pki, at: datetime) -> None:
    with pytest.raises(TimeRefused, match="at the time that it claims"):
        judged(said(pki.server(), pki, at=at), pki)


def test_the_key_of_a_certificate_that_ran_out_can_not_tell_todays_time(pki: Pki) -> None:
    stolen = pki.infra(
        CertificateProfile.SERVER, "srv-old", dns_names=("localhost",), now=NOW - 90 * DAY, lifetime=30 * DAY
    )
    with pytest.raises(TimeRefused, match="expired"):
        judged(said(stolen, pki), pki)


def test_an_answer_to_another_question_is_refused(pki: Pki) -> None:
    with pytest.raises(TimeRefused, match="not over our nonce"):
        judged(said(pki.server(), pki, nonce=bytes(32)), pki)


def test_a_time_that_was_changed_on_the_way_is_refused(pki: Pki) -> None:
    answer = said(pki.server(), pki)
    with pytest.raises(TimeRefused, match="not by the signer's key"):
        judged(replace(answer, at=NOW + timedelta(hours=1)), pki)


def test_a_signature_by_another_key_is_refused(pki: Pki) -> None:
    answer, another = said(pki.server(), pki), said(pki.server(), pki)
    with pytest.raises(TimeRefused, match="not by the signer's key"):
        judged(replace(answer, signature=another.signature), pki)


def test_a_signature_is_bound_to_one_certificate_not_only_to_its_key(pki: Pki) -> None:
    """Or an answer could be put under another certificate of the same key, one that is valid longer, say."""
    first, second = pki.server(), pki.server()
    answer = said(replace(second, key=first.key), pki)
    with pytest.raises(TimeRefused, match="not by the signer's key"):
        judged(replace(answer, chain=(first.der, *answer.chain[1:])), pki)


def test_a_signature_over_other_fields_is_refused(pki: Pki) -> None:
    """Other statements by the same key mean nothing here: without the certificate's hash, or under another label."""
    server, answer = pki.server(), said(pki.server(), pki)
    certificate = hashlib.sha256(server.der).digest()
    at = write_time(NOW).encode()
    for fields in (
        (TIME_LABEL, PROTOCOL.encode(), NONCE, at),
        (b"birthmark else", PROTOCOL.encode(), NONCE, certificate, at),
        (TIME_LABEL, PROTOCOL.encode(), NONCE + certificate, at),
    ):
        framed = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
        for message in (framed, digest_fields(*fields), b"".join(fields)):
            forged = TimeAnswer(NOW, (server.der, answer.chain[1]), server.key.sign(message, ec.ECDSA(SHA256())))
            with pytest.raises(TimeRefused, match="not by the signer's key"):
                judged(forged, pki)


def test_a_server_of_another_name_is_refused(pki: Pki) -> None:
    for host in ("mqtt.fleet.example", "localhost.example", "127.0.0.2"):
        with pytest.raises(TimeRefused, match=r"[Hh]ostname mismatch|IP address mismatch"):
            judged(said(pki.server(), pki), pki, host=host)


def test_a_broker_of_that_very_name_is_no_server(pki: Pki) -> None:
    with pytest.raises(TimeRefused, match="not an enrollment server's"):
        judged(said(pki.broker(), pki), pki)


@pytest.mark.parametrize(
    "profile", [CertificateProfile.OPERATOR, CertificateProfile.STATION, CertificateProfile.CONTROL]
)
def test_who_is_only_a_client_can_not_tell_the_time(pki: Pki, profile: CertificateProfile) -> None:
    name = "srv-x" if profile is CertificateProfile.CONTROL else "alice"
    with pytest.raises(TimeRefused, match="purpose"):
        judged(said(pki.infra(profile, name), pki), pki)


def test_a_device_can_not_tell_the_time(pki: Pki) -> None:
    device = pki.device("dev-1")
    fleet = pki.authority.fleet.certificate.public_bytes(Encoding.DER)
    with pytest.raises(TimeRefused, match=r"purpose|mismatch"):
        judged(TimeSigner((device.der, fleet), device.key).sign(NONCE, NOW), pki)


def test_the_server_of_another_installation_is_refused(pki: Pki, tmp_path: Path) -> None:
    other = make_pki(tmp_path / "ca")
    with pytest.raises(TimeRefused, match="unable to get"):
        judged(said(other.server(), other), pki)


def test_a_chain_with_a_gap_is_refused(pki: Pki) -> None:
    answer = said(pki.server(), pki)
    with pytest.raises(TimeRefused, match="unable to get"):
        judged(replace(answer, chain=answer.chain[:1]), pki)


def test_a_certificate_in_front_of_the_signers_is_refused(pki: Pki) -> None:
    answer = said(pki.server(), pki)
    with pytest.raises(TimeRefused):
        judged(replace(answer, chain=answer.chain[::-1]), pki)


@pytest.mark.parametrize(
    "changed",
    [
        {"chain": []},
        {"chain": ["AAAA"]},
        {"chain": ["REVS", "REVS", "REVS", "REVS", "REVS"]},
        {"signature": ""},
        {"time": "2026-06-01"},
        {"time": "2026-06-01T12:00:00+00:00"},
        {"time": "2026-6-1T12:00:00Z"},
        {"time": None},
        {"more": 1},
    ],
)
def test_what_is_not_an_answer_is_refused(pki: Pki, changed: dict[str, object]) -> None:
    body = json.dumps(json.loads(said(pki.server(), pki).encode()) | changed).encode()
    with pytest.raises(TimeRefused):
        verify_signed_time(
            body, nonce=NONCE, host="localhost", anchors_pem=pki.root_pem.read_text(), asked_at_boot_time_s=0.0
        )


@given(part=st.integers(0, 2), position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_bit_that_fell_over_makes_it_worthless(
    pki: Pki, answer: TimeAnswer, part: int, position: int, bit: int
) -> None:
    fields = [*answer.chain, answer.signature]
    damaged = bytearray(fields[part])
    damaged[position % len(damaged)] ^= 1 << bit
    fields[part] = bytes(damaged)
    with pytest.raises(TimeRefused):
        judged(TimeAnswer(answer.at, (fields[0], fields[1]), fields[2]), pki)


def test_a_short_nonce_is_refused(pki: Pki) -> None:
    with pytest.raises(TimeRefused, match="nonce of 32 bytes"):
        judged(said(pki.server(), pki, nonce=b"x"), pki, nonce=b"x")
