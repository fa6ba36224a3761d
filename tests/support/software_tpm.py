"""A TPM in software, for tests and the load generator: it builds what a genuine one would, from keys in memory.

`VendorCa` is a TPM vendor with a root and an intermediate; `SoftwareTpm` holds an EK with a certificate by it, an AK
and a birth key, made as a TPM makes them from the templates of birthmark_wire. It opens credentials, certifies, quotes,
and answers an enrollment or a renewal as an agent does. It protects nothing. With P-256 throughout, one takes 0.4 ms.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from birthmark_agent.csr import KeyEvidence, Names, birth_names, build_request
from birthmark_server.attestation.roots import INTERMEDIATES, ROOTS, VENDOR_FILE, TrustStore
from birthmark_server.attestation.vendor import Vendor, write_vendor
from birthmark_server.tpm.algorithms import HASHES, RH_ENDORSEMENT
from birthmark_server.tpm.attest import Attest, CertifyInfo, Clock, PcrSelection, QuoteInfo
from birthmark_server.tpm.credential import kdfa, kdfe
from birthmark_server.tpm.public import TpmPublic, parse_public
from birthmark_server.tpm.signature import EcdsaSignature
from birthmark_server.tpm.wire import Reader, u16, u32
from birthmark_wire.binding import enrollment_binding, renewal_binding
from birthmark_wire.enrollment import Attestation, Challenge, ChallengeAnswer, Claim, EnrollRequest
from birthmark_wire.tpm_templates import AK, ALG_SHA256, BIRTH_KEY, EK_TEMPLATES, OPERATIONAL_KEY, STORAGE_KEY

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

MANUFACTURER = "id:54455354"  # "TEST"
EK_PURPOSE = ObjectIdentifier("2.23.133.8.1")
RH_OWNER = 0x40000001
FIRMWARE = 0x0001_0002_0003_0004

_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_CA_FROM, _CA_UNTIL = datetime(2019, 1, 1, tzinfo=UTC), datetime(2059, 1, 1, tzinfo=UTC)
_EK_FROM, _EK_UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def new_key(kind: str) -> PrivateKey:
    """Make a key: `p256`, `p384` or `rsa2048` (which takes 50 ms and more)."""
    if kind == "rsa2048":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key({"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}[kind])


def tpm_san(manufacturer: str = MANUFACTURER, model: str = "SW1", version: str = "id:00010002") -> x509.GeneralName:
    """Return the DirectoryName by which an EK certificate names its TPM."""
    values = {"2.23.133.2.1": manufacturer, "2.23.133.2.2": model, "2.23.133.2.3": version}
    return x509.DirectoryName(x509.Name([x509.NameAttribute(ObjectIdentifier(o), v) for o, v in values.items()]))


def key_usage(*names: str) -> x509.KeyUsage:
    """Return a KeyUsage with these bits, by the names of `cryptography`'s parameters."""
    return x509.KeyUsage(**{name: name in names for name in _KEY_USAGES})


@dataclass(frozen=True)
class Ca:
    """One CA of a vendor: its certificate and the key that it signs with."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return self.certificate.public_bytes(Encoding.DER)


def build_ca(
    common_name: str,
    *,
    issuer: Ca | None = None,
    key: PrivateKey | None = None,
    path_length: int | None = None,
    not_before: datetime = _CA_FROM,
    not_after: datetime = _CA_UNTIL,
    algorithm: hashes.HashAlgorithm | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] | None = None,
) -> Ca:
    """Make a CA, self-signed without an issuer. extensions: replace basicConstraints and keyUsage."""
    key = key or new_key("p256")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usual = [(x509.BasicConstraints(True, path_length), True), (key_usage("key_cert_sign", "crl_sign"), True)]
    certificate = _sign(
        issuer.key if issuer else key,
        subject=subject,
        issuer=issuer.certificate.subject if issuer else subject,
        public_key=key.public_key(),
        not_before=not_before,
        not_after=not_after,
        extensions=usual if extensions is None else extensions,
        algorithm=algorithm,
    )
    return Ca(certificate, key)


def _sign(
    signer: PrivateKey,
    *,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    not_before: datetime,
    not_after: datetime,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    algorithm: hashes.HashAlgorithm | None = None,
) -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(not_before).not_valid_after(not_after)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, algorithm or hashes.SHA256())  # type: ignore[arg-type]  # SHA-1, for hostile cases


@dataclass(frozen=True)
class VendorCa:
    """A TPM vendor: a root in the trust store, and an intermediate that devices bring along."""

    root: Ca
    intermediate: Ca
    vendor: Vendor

    @classmethod
    def create(cls, name: str = "Test TPM Vendor", *, key: str = "p256", vendor: Vendor | None = None) -> "VendorCa":
        """Make a vendor whose CAs have keys of the kind `key`."""
        root = build_ca(f"{name} Root CA", key=new_key(key), path_length=1)
        intermediate = build_ca(f"{name} EK CA 1", issuer=root, key=new_key(key), path_length=0)
        return cls(root, intermediate, vendor or Vendor(name=name, manufacturers=frozenset((MANUFACTURER,))))

    @property
    def chain(self) -> tuple[bytes, ...]:
        """What a device of this vendor shows as its EK chain, DER."""
        return (self.intermediate.der,)

    def files(self, folder: str = "test-vendor") -> dict[str, bytes]:
        """Return this vendor's part of a trust store."""
        return {f"{folder}/{VENDOR_FILE}": write_vendor(self.vendor), f"{folder}/{ROOTS}/root.der": self.root.der}

    def write_to(self, trust_store: Path, folder: str = "test-vendor") -> None:
        """Write this vendor's part of a trust store to disk."""
        for name, data in self.files(folder).items():
            path = trust_store / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def trust_store(self) -> TrustStore:
        """Return a trust store that trusts this vendor alone."""
        return TrustStore.from_files(self.files())

    def with_intermediate_kept(self) -> TrustStore:
        """Return a trust store that keeps the intermediate too."""
        return TrustStore.from_files(self.files() | {f"test-vendor/{INTERMEDIATES}/1.der": self.intermediate.der})

    def issue_ek(
        self,
        public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
        *,
        issuer: Ca | None = None,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] | None = None,
        not_before: datetime = _EK_FROM,
        not_after: datetime = _EK_UNTIL,
        algorithm: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        """Return an EK certificate, DER. extensions: replace those of `ek_extensions`."""
        ca = issuer or self.intermediate
        certificate = _sign(
            ca.key,
            subject=x509.Name([]),
            issuer=ca.certificate.subject,
            public_key=public_key,
            not_before=not_before,
            not_after=not_after,
            extensions=ek_extensions(public_key) if extensions is None else extensions,
            algorithm=algorithm,
        )
        return certificate.public_bytes(Encoding.DER)


def ek_extensions(
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, name: x509.GeneralName | None = None
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions of an EK certificate (TCG EK Credential Profile 2.5 §3.2). name: instead of `tpm_san()`."""
    usage = "key_encipherment" if isinstance(public_key, rsa.RSAPublicKey) else "key_agreement"
    return [
        (x509.BasicConstraints(False, None), True),
        (key_usage(usage), True),
        (x509.ExtendedKeyUsage([EK_PURPOSE]), False),
        (x509.SubjectAlternativeName([name or tpm_san()]), True),
    ]


@dataclass(frozen=True)
class SoftwareKey:
    """A key and its public area. Signs CSRs for birthmark_agent.csr, and TLS handshakes by `private`."""

    private: ec.EllipticCurvePrivateKey
    public: TpmPublic
    parent: bytes = u32(RH_ENDORSEMENT)

    @classmethod
    def create(cls, template: bytes, *, parent: bytes = u32(RH_ENDORSEMENT)) -> "SoftwareKey":
        """Make a P-256 key of that template. parent: its Qualified Name; a hierarchy's is its handle."""
        private = ec.generate_private_key(ec.SECP256R1())
        return cls(private, parse_public(template).with_key(private.public_key()), parent)

    @property
    def qualified_name(self) -> bytes:
        """What TPM2_Certify states as this key's Qualified Name."""
        return u16(ALG_SHA256) + hashlib.sha256(self.parent + self.public.name()).digest()

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
        """Sign a digest; only sha256."""
        if hash_name != "sha256":
            raise ValueError(f"want sha256, got {hash_name}")
        return self.private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))


@dataclass(frozen=True)
class SoftwareTpm:
    """One device's TPM. `replace` any field to make it lie."""

    ek_template: str
    ek: PrivateKey
    ek_certificates: tuple[bytes, ...]
    ek_chain: tuple[bytes, ...]
    ak: SoftwareKey
    birth_key: SoftwareKey
    firmware: int = FIRMWARE
    pcr_digest: bytes = field(default=hashlib.sha256(bytes(32)).digest())

    @classmethod
    def create(cls, vendor: VendorCa, *, ek: str = "p256", ek_key: PrivateKey | None = None) -> "SoftwareTpm":
        """Make a TPM of that vendor. ek: the template's name in EK_TEMPLATES. ek_key: spares making one."""
        private = ek_key or new_key(ek)
        return cls(
            ek_template=ek,
            ek=private,
            ek_certificates=(vendor.issue_ek(private.public_key()),),
            ek_chain=vendor.chain,
            ak=SoftwareKey.create(AK),
            birth_key=SoftwareKey.create(BIRTH_KEY),
        )

    @cached_property
    def ek_public(self) -> TpmPublic:
        """The EK's public area."""
        return parse_public(EK_TEMPLATES[self.ek_template]).with_key(self.ek.public_key())

    @cached_property
    def ek_sha256(self) -> str:
        """SHA-256 of the EK's SubjectPublicKeyInfo, hex: what a manifest lists."""
        return hashlib.sha256(self.ek_public.spki()).hexdigest()

    def reset(self) -> "SoftwareTpm":
        """Return the same TPM with a new AK and birth key."""
        return replace(self, ak=SoftwareKey.create(AK), birth_key=SoftwareKey.create(BIRTH_KEY))

    def enroll_request(self, *, server_name: str, claim: Claim | None = None) -> EnrollRequest:
        """Return the first message of an enrollment."""
        return EnrollRequest(
            server_name=server_name,
            ek_certificates=self.ek_certificates,
            ek_chain=self.ek_chain,
            ek_public=self.ek_public.encode(),
            ak_public=self.ak.public.encode(),
            birth_key_public=self.birth_key.public.encode(),
            agent="software-tpm/1",
            claim=claim,
        )

    def answer(
        self, challenge: Challenge, *, anchor_sha256: bytes, server_name: str, names: Names | None = None
    ) -> ChallengeAnswer:
        """Return the second message. anchor_sha256: of the root certificate that the device pins, DER.

        names: of the CSR; the serial number of the challenge by default.
        """
        secret = self.activate(challenge.credential_blob, challenge.encrypted_secret)
        csr = build_request(self.birth_key, names or birth_names(challenge.serial))
        binding = enrollment_binding(
            enrollment_id=challenge.enrollment_id,
            nonce=challenge.nonce,
            secret=secret,
            ek_sha256=bytes.fromhex(self.ek_sha256),
            ak_name=self.ak.public.name(),
            key_name=self.birth_key.public.name(),
            serial=challenge.serial,
            model=challenge.model,
            batch=challenge.batch,
            csr_sha256=hashlib.sha256(csr).digest(),
            anchor_sha256=anchor_sha256,
            server_name=server_name,
        )
        quote = self.quote(challenge.quote_pcrs, binding) if challenge.quote_pcrs else None
        return ChallengeAnswer(secret=secret, csr=csr, certify=self.certify(self.birth_key, binding), quote=quote)

    def new_operational_key(self) -> SoftwareKey:
        """Make a key as TPM2_Create makes one under the storage root key."""
        return SoftwareKey.create(OPERATIONAL_KEY, parent=_STORAGE_KEY.qualified_name)

    def renewal_csr(
        self,
        key: SoftwareKey,
        names: Names,
        *,
        nonce: bytes,
        device_id: str,
        client_certificate: bytes,
        job_id: str = "",
    ) -> bytes:
        """Return a CSR for `key` with its TPM2_Certify inside, DER. client_certificate: of the TLS connection, DER."""
        binding = renewal_binding(
            nonce=nonce,
            device_id=device_id,
            client_certificate_sha256=hashlib.sha256(client_certificate).digest(),
            spki=key.spki,
            subject=names.subject,
            subject_alt_name=names.subject_alt_name,
            job_id=job_id,
        )
        return build_request(key, names, self.certify_new_key(key, binding))

    def certify_new_key(self, key: SoftwareKey, qualifying_data: bytes) -> KeyEvidence:
        """Certify an operational key: the evidence that travels in a renewal's CSR."""
        return KeyEvidence(self.certify(key, qualifying_data), key.public.encode())

    def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Do as TPM2_ActivateCredential for the AK; raise ValueError if the credential is for another EK or AK."""
        algorithm, symmetric = HASHES[self.ek_public.name_alg], self.ek_public.symmetric
        if symmetric is None:
            raise ValueError("the EK has no symmetric cipher")
        name = self.ak.public.name()
        seed = self._recover_seed(encrypted_secret, algorithm)
        reader = Reader(id_object, "TPMS_ID_OBJECT")
        integrity = reader.sized(high=64)
        encrypted = id_object[2 + len(integrity) :]
        hmac_key = kdfa(algorithm, seed, b"INTEGRITY\0", b"", b"", algorithm.digest_size * 8)
        if not hmac.compare_digest(hmac.digest(hmac_key, encrypted + name, algorithm.name), integrity):
            raise ValueError("TPM_RC_INTEGRITY: the credential is for another key")
        aes_key = kdfa(algorithm, seed, b"STORAGE\0", name, b"", symmetric.key_bits)
        decryptor = Cipher(algorithms.AES(aes_key), CFB(bytes(16))).decryptor()
        identity = Reader(decryptor.update(encrypted) + decryptor.finalize(), "TPM2B_DIGEST")
        secret = identity.sized(high=64)
        identity.done()
        return secret

    def _recover_seed(self, encrypted_secret: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        if isinstance(self.ek, rsa.RSAPrivateKey):
            return self.ek.decrypt(encrypted_secret, padding.OAEP(padding.MGF1(algorithm), algorithm, b"IDENTITY\0"))
        reader = Reader(encrypted_secret, "TPMS_ECC_POINT")
        x, y = reader.sized(high=48), reader.sized(high=48)
        reader.done()
        point = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), self.ek.curve)
        z = self.ek.exchange(ec.ECDH(), point.public_key())
        ours = self.ek.public_key().public_numbers().x.to_bytes(len(z), "big")
        return kdfe(algorithm, z, b"IDENTITY\0", x, ours, algorithm.digest_size * 8)

    def certify(self, key: SoftwareKey, qualifying_data: bytes) -> Attestation:
        """Do as TPM2_Certify of `key` by the AK."""
        return self.state(CertifyInfo(key.public.name(), key.qualified_name), qualifying_data)

    def quote(self, pcrs: Sequence[int], qualifying_data: bytes) -> Attestation:
        """Do as TPM2_Quote of the SHA-256 bank by the AK."""
        bitmap = sum(1 << pcr for pcr in pcrs).to_bytes(3, "little")
        return self.state(QuoteInfo((PcrSelection(ALG_SHA256, bitmap),), self.pcr_digest), qualifying_data)

    def state(self, attested: CertifyInfo | QuoteInfo, qualifying_data: bytes) -> Attestation:
        """Sign a statement with the AK."""
        attest = Attest(
            qualified_signer=self.ak.qualified_name,
            extra_data=qualifying_data,
            clock=Clock(clock_ms=123_456, reset_count=7, restart_count=0, safe=1),
            firmware_version=self.firmware,
            attested=attested,
        )
        return sign_attest(self.ak, attest.encode())


_STORAGE_KEY = SoftwareKey.create(STORAGE_KEY, parent=u32(RH_OWNER))


def sign_attest(ak: SoftwareKey, attest: bytes) -> Attestation:
    """Sign any bytes as a TPMS_ATTEST by ECDSA with the AK's hash: what a TPM would never do, too."""
    scheme = ak.public.scheme
    if scheme is None or scheme.hash_alg is None:
        raise ValueError("the AK has no scheme")
    r, s = decode_dss_signature(ak.private.sign(attest, ec.ECDSA(HASHES[scheme.hash_alg])))
    return Attestation(attest, EcdsaSignature(scheme, r.to_bytes(32, "big"), s.to_bytes(32, "big")).encode())
