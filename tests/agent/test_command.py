"""Which commands a device obeys: each reason to refuse one, and what a device without a clock may conclude."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from birthmark_agent.command import (
    Arrived,
    CommandChanged,
    CommandExpired,
    CommandForAnother,
    CommandStale,
    CommandUnsigned,
    Taken,
    check_time,
    check_turn,
    read_command,
    verify_signer,
)
from birthmark_agent.errors import IdentityDamaged
from birthmark_agent.files import Files
from birthmark_agent.job import JOB_FILE, Job, JobState, read_job, write_job
from birthmark_server.ca import oids
from birthmark_server.domain import CertificateProfile
from birthmark_wire import jws
from birthmark_wire.errors import DecodeError
from birthmark_wire.rotation import COMMAND_PURPOSE, COMMAND_TYPE, Action, Command
from support.pki import Leaf, Pki, make_pki

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
COMMAND = Command(Action.ROTATE, "dev-1", "job-1", 7, NOW, NOW + DAY)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki") / "ca", now=NOW)


@pytest.fixture(scope="module")
def signer(pki: Pki) -> Leaf:
    return pki.infra(CertificateProfile.COMMAND, "srv-command")


def signed(leaf: Leaf, command: Command = COMMAND, *, above: tuple[bytes, ...] | None = None) -> Arrived:
    """What a holder of this certificate and its key commands."""
    first, *rest = [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(leaf.chain_pem)]
    chain = (first, *(rest if above is None else above))
    message = jws.signing_input(command.encode(), message_type=COMMAND_TYPE, chain=chain)
    return read_command(jws.join(message, leaf.key.sign(message, ec.ECDSA(hashes.SHA256()))))


def verify(arrived: Arrived, pki: Pki, *, at: datetime | None = NOW) -> None:
    verify_signer(arrived, anchors_pem=pki.root_pem.read_text(), at=at)


def test_the_purpose_is_the_profiles() -> None:
    assert oids.KP_COMMAND.dotted_string == COMMAND_PURPOSE


def test_a_command_by_who_may_command_stands(pki: Pki, signer: Leaf) -> None:
    verify(signed(signer), pki)


@pytest.mark.parametrize(
    "profile",
    [CertificateProfile.CONTROL, CertificateProfile.OPERATOR, CertificateProfile.STATION],
)
def test_no_other_role_commands(pki: Pki, profile: CertificateProfile) -> None:
    name = "srv-x" if profile is CertificateProfile.CONTROL else "x-1"
    with pytest.raises(CommandUnsigned, match="not one of those that command"):
        verify(signed(pki.infra(profile, name)), pki)


def test_a_device_commands_nobody(pki: Pki) -> None:
    with pytest.raises(CommandUnsigned, match="not one of those that command"):
        verify(signed(pki.device("dev-2")), pki)


def test_a_chain_that_ends_elsewhere_or_is_not_whole_is_refused(pki: Pki, signer: Leaf, tmp_path: Path) -> None:
    other = make_pki(tmp_path / "other")
    with pytest.raises(CommandUnsigned, match="does not stand"):
        verify(signed(other.infra(CertificateProfile.COMMAND, "srv-command")), pki)
    with pytest.raises(CommandUnsigned, match="does not stand"):
        verify(signed(signer, above=()), pki)


def test_a_ca_that_may_not_certify_commanders_certifies_none(pki: Pki, signer: Leaf) -> None:
    """A leaf with the purpose below the Fleet CA, whose own purposes lack it."""
    fleet = pki.authority.fleet
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(signer.certificate.subject)
        .issuer_name(fleet.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([oids.KP_COMMAND]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(fleet.key_id, None, None), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(_fleet_key(pki), hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM) + fleet.certificate.public_bytes(Encoding.PEM)
    leaf = replace(signer, key=key, certificate=certificate, der=certificate.public_bytes(Encoding.DER), chain_pem=pem)
    with pytest.raises(CommandUnsigned, match="may certify nobody who commands"):
        verify(signed(leaf), pki)


def _fleet_key(pki: Pki) -> ec.EllipticCurvePrivateKey:
    key = pki.authority.fleet.signer._key  # type: ignore[attr-defined]
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def test_a_signature_by_another_key_or_over_other_bytes_is_refused(pki: Pki, signer: Leaf) -> None:
    other = pki.infra(CertificateProfile.COMMAND, "srv-command-2")
    with pytest.raises(CommandUnsigned, match="signature"):
        verify(signed(replace(signer, key=other.key)), pki)
    arrived, later = signed(signer), signed(signer, replace(COMMAND, sequence=8))
    swapped = replace(arrived.message, signed=later.message.signed)
    with pytest.raises(CommandUnsigned, match="signature"):
        verify(replace(arrived, message=swapped), pki)


def test_an_expired_signer_is_believed_only_about_the_time_before_and_only_without_a_clock(pki: Pki) -> None:
    old = pki.infra(CertificateProfile.COMMAND, "srv-command-3", now=NOW - 30 * DAY, lifetime=DAY)
    then = replace(COMMAND, issued_at=NOW - 30 * DAY + timedelta(hours=1), expires_at=NOW + DAY)
    with pytest.raises(CommandUnsigned, match="expired"):
        verify(signed(old, then), pki)
    verify(signed(old, then), pki, at=None)  # jobs.py takes nothing on this alone: the server must tell the time first
    with pytest.raises(CommandUnsigned, match="expired"):
        verify(signed(old), pki, at=None)


def test_each_command_has_its_turn_once(signer: Leaf) -> None:
    arrived = signed(signer)
    check_turn(arrived, device_id="dev-1", last=None)
    check_turn(arrived, device_id="dev-1", last=Taken("job-0", 6, "00"))
    with pytest.raises(CommandForAnother):
        check_turn(arrived, device_id="dev-2", last=None)
    with pytest.raises(CommandStale):
        check_turn(arrived, device_id="dev-1", last=Taken("job-2", 8, "00"))
    with pytest.raises(CommandChanged):
        check_turn(arrived, device_id="dev-1", last=Taken("job-2", 7, "00"))
    with pytest.raises(CommandChanged):
        check_turn(arrived, device_id="dev-1", last=Taken("job-1", 8, "00"))


def test_a_command_ends_at_its_second() -> None:
    check_time(COMMAND, now=NOW + DAY - timedelta(seconds=1))
    with pytest.raises(CommandExpired):
        check_time(COMMAND, now=NOW + DAY)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_command_or_are_not(data: bytes) -> None:
    with pytest.raises(DecodeError):
        read_command(data)


def test_a_job_is_read_back_and_anothers_or_a_damaged_one_is_none(tmp_path: Path, signer: Leaf) -> None:
    files = Files.at(tmp_path)
    job = replace(Job.of(signed(signer)), state=JobState.FAILED, code="x", key_pem="KEY", reported=True)
    write_job(files, job)
    assert read_job(files, "dev-1") == job
    assert read_job(files, "dev-2") is None
    for damaged in (b"", b"{}", b"[]", b'{"state": "taken"}', job.encode().replace(b"failed", b"flying")):
        files.write(JOB_FILE, damaged)
        with pytest.raises(IdentityDamaged):
            Job.decode(damaged)
        assert read_job(files, "dev-1") is None
