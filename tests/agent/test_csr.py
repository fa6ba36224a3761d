"""Requests are read back by programs that nobody here wrote."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from birthmark_agent import csr
from birthmark_wire import est
from birthmark_wire.enrollment import Attestation


@dataclass
class SoftwareKey:
    """A RequestKey in software; counts its signatures."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    signatures: int = 0

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
        assert hash_name == "sha256"
        self.signatures += 1
        return self.key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))


@asn1.sequence
class Certify:
    attest: bytes
    signature: bytes
    public: bytes


@asn1.sequence
class Statement:
    type: x509.ObjectIdentifier
    stmt: Certify


@asn1.sequence
class Bundle:
    attestations: list[Statement]


EVIDENCE = csr.KeyEvidence(Attestation(attest=b"A" * 200, signature=b"S" * 72), b"P" * 90)


def test_a_birth_request_names_the_serial_number_and_proves_the_key() -> None:
    key = SoftwareKey()
    request = x509.load_der_x509_csr(csr.build_request(key, csr.birth_names("SN-0001")))
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "2.5.4.5=SN-0001"
    assert not list(request.extensions)
    assert key.signatures == 1


def test_an_operational_request_names_the_device_and_its_uri() -> None:
    names = csr.device_names("sensor-1", "spiffe://fleet.example/device/sensor-1")
    request = x509.load_der_x509_csr(csr.build_request(SoftwareKey(), names, EVIDENCE))
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=sensor-1"
    (extension,) = list(request.extensions)
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    assert list(extension.value) == [x509.UniformResourceIdentifier("spiffe://fleet.example/device/sensor-1")]


def test_the_evidence_is_an_attestation_bundle_with_one_certify_statement() -> None:
    request = x509.load_der_x509_csr(csr.build_request(SoftwareKey(), csr.device_names("sensor-1"), EVIDENCE))
    value = request.attributes.get_attribute_for_oid(x509.ObjectIdentifier(est.ID_AA_ATTESTATION)).value
    whole = csr.attestation_bundle(EVIDENCE)
    assert whole.endswith(value)  # `cryptography` gives the content without tag and length
    (statement,) = asn1.decode_der(Bundle, whole).attestations
    assert statement.type.dotted_string == est.TCG_ATTEST_TPM_CERTIFY
    assert (statement.stmt.attest, statement.stmt.signature, statement.stmt.public) == (
        b"A" * 200,
        b"S" * 72,
        b"P" * 90,
    )


def test_openssl_reads_and_verifies_a_request(tmp_path: Path) -> None:
    path = tmp_path / "request.der"
    names = csr.device_names("sensor-1", "spiffe://fleet.example/device/sensor-1")
    path.write_bytes(csr.build_request(SoftwareKey(), names, EVIDENCE))
    done = subprocess.run(
        ["openssl", "req", "-inform", "DER", "-in", path, "-noout", "-verify", "-text"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "verify OK" in done.stdout + done.stderr
    assert "URI:spiffe://fleet.example/device/sensor-1" in done.stdout


def test_names_are_what_cryptography_would_write() -> None:
    by_hand = csr.device_names("sensor-1", "spiffe://fleet.example/device/sensor-1")
    uri = x509.UniformResourceIdentifier("spiffe://fleet.example/device/sensor-1")
    assert by_hand.subject_alt_name == x509.SubjectAlternativeName([uri]).public_bytes()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, "SN-0001")])
    assert csr.birth_names("SN-0001").subject == subject.public_bytes()


@given(st.binary(max_size=70_000), st.binary(max_size=300), st.binary(max_size=300))
def test_evidence_of_any_length_is_encoded_in_shortest_form(attest: bytes, signature: bytes, public: bytes) -> None:
    bundle = csr.attestation_bundle(csr.KeyEvidence(Attestation(attest, signature), public))
    read = asn1.decode_der(Bundle, bundle)
    assert read.attestations[0].stmt.attest == attest
    assert asn1.encode_der(read) == bundle
