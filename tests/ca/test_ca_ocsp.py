"""OCSP requests are read strictly, and answers are what `cryptography`'s own builder writes, byte for byte."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birthmark_server.ca.ocsp import OcspRequest, OcspSigner, Trouble, issuer_ids, read_request, trouble
from birthmark_server.ca.oids import OCSP_EXTENDED_REVOKE
from birthmark_server.ca.profile import BACKDATED
from birthmark_server.domain import CertificateStatus, RevocationReason
from birthmark_server.errors import Malformed
from support.pki import Pki

HASHES = {hash_.name: hash_ for hash_ in (hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512())}
REASONS = list(RevocationReason)
moments = st.datetimes(datetime(1971, 1, 1), datetime(9999, 12, 1)).map(  # noqa: DTZ001 - the next line says UTC
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)
statuses = st.none() | st.builds(
    lambda at, reason: CertificateStatus(at, None if at is None else reason),
    st.none() | moments,
    st.sampled_from(REASONS),
)


def request_for(issuer: x509.Certificate, serial: int, hash_name: str = "sha1", nonce: bytes | None = None) -> bytes:
    name = next(each for each in issuer_ids(issuer) if each.hash_name == hash_name)
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        name.name_hash, name.key_hash, serial, HASHES[hash_name]
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


@pytest.mark.parametrize("hash_name", list(HASHES))
def test_a_request_names_the_issuer_as_cryptography_does(pki: Pki, hash_name: str) -> None:
    leaf, issuer = pki.device(), pki.authority.fleet.certificate
    built = ocsp.OCSPRequestBuilder().add_certificate(leaf.certificate, issuer, HASHES[hash_name]).build()
    read = read_request(built.public_bytes(Encoding.DER))
    assert read.issuer in issuer_ids(issuer)
    assert read.issuer not in issuer_ids(pki.authority.birth.certificate)
    assert (read.serial_number, read.nonce) == (leaf.certificate.serial_number, None)


@given(
    serial=st.integers(1, 2**159 - 1),
    hash_name=st.sampled_from(list(HASHES)),
    nonce=st.none() | st.binary(min_size=1, max_size=128),
    status=statuses,
    span=st.timedeltas(timedelta(minutes=10), timedelta(days=1)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
def test_an_answer_is_what_the_builder_writes(
    pki: Pki, serial: int, hash_name: str, nonce: bytes | None, status: CertificateStatus | None, span: timedelta
) -> None:
    issuer = pki.authority.fleet
    signer = OcspSigner.create(issuer, now=pki.now)
    request = read_request(request_for(issuer.certificate, serial, hash_name, nonce))
    theirs = by_the_builder(signer, request, status, next_update=pki.now + span, this_update=pki.now - BACKDATED)
    now = theirs.produced_at_utc  # the builder takes the machine's own time
    ours = signer.answer(request, status, now=now, next_update=pki.now + span)
    read = ocsp.load_der_ocsp_response(ours)
    this_update = slice_of(theirs.this_update_utc), slice_of(read.this_update_utc)
    assert read.tbs_response_bytes.replace(this_update[1], this_update[0], 1) == theirs.tbs_response_bytes
    assert read.certificates == [signer.certificate]
    key = signer.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(read.signature, read.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))


def slice_of(at: datetime) -> bytes:
    return at.strftime("%Y%m%d%H%M%SZ").encode()


def by_the_builder(
    signer: OcspSigner,
    request: OcspRequest,
    status: CertificateStatus | None,
    *,
    this_update: datetime,
    next_update: datetime,
) -> ocsp.OCSPResponse:
    revoked_at, reason = None, None
    if status is None:
        revoked_at, reason = datetime(1970, 1, 1, tzinfo=UTC), x509.ReasonFlags.certificate_hold
    elif status.revoked_at is not None:
        revoked_at = status.revoked_at
        if status.reason not in (None, RevocationReason.UNSPECIFIED):
            reason = x509.ReasonFlags(status.reason)
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response_by_hash(
            request.issuer.name_hash,
            request.issuer.key_hash,
            request.serial_number,
            HASHES[request.issuer.hash_name],
            ocsp.OCSPCertStatus.GOOD if revoked_at is None else ocsp.OCSPCertStatus.REVOKED,
            this_update,
            next_update,
            revoked_at,
            reason,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
        .certificates([signer.certificate])
    )
    if status is None:
        unknown = x509.UnrecognizedExtension(OCSP_EXTENDED_REVOKE, b"\x05\x00")
        builder = builder.add_extension(unknown, critical=False)
    if request.nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(request.nonce), critical=False)
    return builder.sign(signer._signer._key, hashes.SHA256())


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_request(data)


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_a_damaged_request_is_read_or_refused(pki: Pki, data: st.DataObject) -> None:
    whole = bytearray(request_for(pki.authority.fleet.certificate, 77, nonce=b"n" * 16))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=3)):
        whole[place] = data.draw(st.integers(0, 255))
    try:
        read_request(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except Malformed:
        return


@pytest.mark.parametrize("size", [1, 32, 128])
def test_a_nonce_of_rfc_9654s_length_is_taken(pki: Pki, size: int) -> None:
    read = read_request(request_for(pki.authority.fleet.certificate, 77, nonce=b"n" * size))
    assert read.nonce == b"n" * size


@pytest.mark.parametrize("size", [0, 129])
def test_a_nonce_of_another_length_is_malformed(pki: Pki, size: int) -> None:
    with pytest.raises(Malformed, match="nonce"):
        read_request(request_for(pki.authority.fleet.certificate, 77, nonce=b"n" * size))


def test_a_critical_extension_that_is_not_known_is_malformed(pki: Pki) -> None:
    name = issuer_ids(pki.authority.fleet.certificate)[0]
    request = (
        ocsp.OCSPRequestBuilder()
        .add_certificate_by_hash(name.name_hash, name.key_hash, 77, hashes.SHA1())
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), critical=True)
        .build()
        .public_bytes(Encoding.DER)
    )
    with pytest.raises(Malformed, match="critical"):
        read_request(request)


@pytest.mark.parametrize("status", list(Trouble))
def test_a_trouble_is_one_of_ocsps_own(status: Trouble) -> None:
    read = ocsp.load_der_ocsp_response(trouble(status))
    assert read.response_status.value == status.value
