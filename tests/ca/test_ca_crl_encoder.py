"""build_crl writes what `cryptography`'s own builder writes, byte for byte."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from birthmark_server.ca.crl import build_crl
from birthmark_server.ca.extensions import key_identifier
from birthmark_server.ca.profile import BACKDATED, CaKind
from birthmark_server.ca.signer import FileSigner, hash_for
from birthmark_server.domain import RevocationReason, RevokedEntry

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Ca:
    kind: CaKind
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    signer: FileSigner


def make_ca(kind: CaKind, curve: ec.EllipticCurve) -> Ca:
    key = ec.generate_private_key(curve)
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Ö"), x509.NameAttribute(NameOID.COMMON_NAME, f"{kind}")]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(EPOCH)
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        .sign(key, hash_for(curve))
    )
    return Ca(kind, key, certificate, FileSigner(key))


CAS = [make_ca(CaKind.FLEET, ec.SECP256R1()), make_ca(CaKind.ROOT, ec.SECP384R1())]

times = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 1)).map(  # noqa: DTZ001 - the next line says UTC
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)
entries = st.lists(
    st.tuples(
        st.integers(1, 2**159 - 1) | st.integers(1, 2**16),
        st.integers(0, 253_000_000_000_000_000),  # until the year 9987
        st.sampled_from(list(RevocationReason)),
    ),
    max_size=20,
)


def by_the_builder(
    ca: Ca, revoked: list[RevokedEntry], *, number: int, now: datetime, next_update: datetime
) -> x509.CertificateRevocationList:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(now - BACKDATED)
        .next_update(next_update)
        .add_extension(x509.AuthorityKeyIdentifier(key_identifier(ca.key.public_key()), None, None), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.IssuingDistributionPoint(
                full_name=None,
                relative_name=None,
                only_contains_user_certs=ca.kind is not CaKind.ROOT,
                only_contains_ca_certs=ca.kind is CaKind.ROOT,
                only_some_reasons=None,
                indirect_crl=False,
                only_contains_attribute_certs=False,
            ),
            critical=True,
        )
    )
    for serial_number, at_us, reason in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(int(serial_number, 16))
        entry = entry.revocation_date(EPOCH + timedelta(microseconds=at_us))
        if reason != RevocationReason.UNSPECIFIED:
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags(reason)), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(ca.key, hash_for(ca.key.curve))


@given(ca=st.sampled_from(CAS), listed=entries, number=st.integers(1, 2**64), now=times, next_update=times)
@settings(max_examples=200)
def test_the_bytes_are_those_of_the_builder(
    ca: Ca, listed: list[tuple[int, int, RevocationReason]], number: int, now: datetime, next_update: datetime
) -> None:
    now, next_update = min(now, next_update), max(now, next_update)
    revoked = [(f"{serial:x}", at_us, reason.value) for serial, at_us, reason in listed]
    ours = x509.load_der_x509_crl(build_crl(ca, revoked, number=number, now=now, next_update=next_update))
    theirs = by_the_builder(ca, revoked, number=number, now=now, next_update=next_update)
    assert ours.tbs_certlist_bytes == theirs.tbs_certlist_bytes
    assert ours.is_signature_valid(ca.key.public_key())
    assert ours.signature_algorithm_oid == theirs.signature_algorithm_oid


@pytest.mark.parametrize(
    "entry", [("", 0, "unspecified"), ("xyz", 0, "unspecified"), ("f" * 41, 0, "unspecified"), ("1", 0, "boredom")]
)
def test_what_is_no_entry_is_refused_and_named(entry: RevokedEntry) -> None:
    with pytest.raises(ValueError, match="revoked certificate"):
        build_crl(CAS[0], [entry], number=1, now=EPOCH + timedelta(days=9), next_update=EPOCH + timedelta(days=10))


def test_entries_are_read_one_after_the_other() -> None:
    """A million of them are never held as objects: the list takes what a generator gives."""
    revoked = ((f"{serial:x}", 0, "unspecified") for serial in range(1, 50_001))
    der = build_crl(CAS[0], revoked, number=1, now=EPOCH + timedelta(days=9), next_update=EPOCH + timedelta(days=10))
    assert len(x509.load_der_x509_crl(der)) == 50_000
