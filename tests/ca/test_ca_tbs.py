"""tbs.py writes what `cryptography`'s own builder writes, byte for byte."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.ca.extensions import key_identifier, leaf_constants
from birthmark_server.ca.hardware import hardware_module_name
from birthmark_server.ca.profile import CRITICAL, NEVER, PROFILES, AltName, Profile
from birthmark_server.ca.tbs import TbsEncoder

CA_KEY = ec.generate_private_key(ec.SECP256R1())
KEYS = [ec.generate_private_key(curve).public_key() for curve in (ec.SECP256R1(), ec.SECP384R1())]
ISSUER = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Ö"), x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")

times = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001 - the next line says UTC
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)
printable = st.text("ABCXYZabcxyz0189 '()+,-./:=?", min_size=1, max_size=64)
organizations = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64)


def alt_names(profile: Profile, serial: bytes) -> list[x509.GeneralName]:
    match profile.alt_name:
        case AltName.ABSENT:
            return []
        case AltName.HARDWARE_MODULE:
            return [hardware_module_name(serial)]
        case AltName.DEVICE_URI:
            return [x509.UniformResourceIdentifier("spiffe://fleet.example.com/device/a-1")]
        case AltName.HOST:
            return [x509.DNSName("mqtt.example.com"), x509.DNSName("m" * 63 + ".example.com")]


@given(
    profile=st.sampled_from(list(PROFILES.values())),
    organization=organizations,
    name=printable,
    serial_number=st.integers(1, 2**159 - 1),
    not_before=times,
    lifetime=st.none() | st.timedeltas(timedelta(seconds=1), timedelta(days=365)),
    key=st.sampled_from(KEYS),
    hardware_serial=st.binary(min_size=1, max_size=200),
    crl_url=st.sampled_from(["", "http://pki.example.com/crl/fleet.crl"]),
)
def test_the_bytes_are_those_of_the_builder(
    profile: Profile,
    organization: str,
    name: str,
    serial_number: int,
    not_before: datetime,
    lifetime: timedelta | None,
    key: ec.EllipticCurvePublicKey,
    hardware_serial: bytes,
    crl_url: str,
) -> None:
    not_after = NEVER if lifetime is None else min(NEVER, not_before + lifetime)
    constants = leaf_constants(profile, issuer_key_id=b"k" * 20, crl_url=crl_url)
    hosts = alt_names(profile, hardware_serial)
    builder = (
        x509.CertificateBuilder()
        .issuer_name(ISSUER)
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
                    x509.NameAttribute(profile.subject, name),
                ]
            )
        )
        .public_key(key)
        .serial_number(serial_number)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    for extension in (*constants, x509.SubjectKeyIdentifier(key_identifier(key))):
        builder = builder.add_extension(extension, critical=CRITICAL[extension.oid])
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    encoder = TbsEncoder(
        signature=ECDSA_WITH_SHA256,
        issuer=ISSUER,
        organization=organization,
        subject=profile.subject,
        constants=constants,
    )
    encoded = encoder.encode(
        serial_number=serial_number,
        not_before=not_before,
        not_after=not_after,
        name=name,
        spki=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        key_id=key_identifier(key),
        alt_name=hosts,
    )
    assert encoded == builder.sign(CA_KEY, hashes.SHA256()).tbs_certificate_bytes
