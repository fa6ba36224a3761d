"""A TPM in software, for tests and the load generator: it builds what a genuine one would, from keys in memory.

`SoftwareTpm` holds an EK with a certificate by a `VendorCa` (tpm_vendor.py), an AK and a birth key, made as a TPM makes
them from the templates of birthmark_wire. It opens credentials, certifies, quotes, and answers an enrollment or a
renewal as an agent does. It protects nothing. With P-256 throughout, one takes 0.4 ms.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_agent.csr import KeyEvidence, Names, birth_names, build_request
from birthmark_server.tpm.algorithms import HASHES, RH_ENDORSEMENT
from birthmark_server.tpm.attest import Attest, CertifyInfo, Clock, PcrSelection, QuoteInfo
from birthmark_server.tpm.credential import kdfa, kdfe
from birthmark_server.tpm.public import TpmPublic, parse_public
from birthmark_server.tpm.signature import EcdsaSignature
from birthmark_server.tpm.wire import Reader, u16, u32
from birthmark_wire.binding import enrollment_binding, renewal_binding
from birthmark_wire.enrollment import Attestation, Challenge, ChallengeAnswer, Claim, EnrollRequest
from birthmark_wire.tpm_templates import AK, ALG_SHA256, BIRTH_KEY, EK_TEMPLATES, OPERATIONAL_KEY, STORAGE_KEY
from support.tpm_vendor import PrivateKey, VendorCa, new_key

__all__ = ["FIRMWARE", "RH_OWNER", "SoftwareKey", "SoftwareTpm", "VendorCa", "sign_attest"]

RH_OWNER = 0x40000001
FIRMWARE = 0x0001_0002_0003_0004


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
