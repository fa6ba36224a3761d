"""One issuing CA: prepare, then issue.

`prepare` checks the request against its profile, encodes the certificate's to-be-signed bytes (tbs.py), and lints those
bytes under a blank signature. Only then is there an `IssuanceToken`; `issue` redeems it once,
by signing the very bytes that were linted. Nothing that fails a check is ever signed, not even to be thrown away.
"""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_server.ca import oids
from birthmark_server.ca.der import bit_string, sequence
from birthmark_server.ca.errors import ProfileViolation, TokenSpent, UntrustedCertificate
from birthmark_server.ca.extensions import key_identifier, leaf_constants
from birthmark_server.ca.hardware import hardware_module_name, hardware_serial
from birthmark_server.ca.lint import Template, lint
from birthmark_server.ca.names import check_name, host_permitted
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import BACKDATED, NEVER, PROFILES, AltName, CaKind, Profile
from birthmark_server.ca.reader import read_leaf
from birthmark_server.ca.requests import IDevIdRequest, InfraRequest, LDevIdRequest, LeafRequest
from birthmark_server.ca.signer import CaSigner, algorithm_for
from birthmark_server.ca.tbs import TbsEncoder
from birthmark_server.domain import CertificateProfile
from birthmark_wire import ids

_MAKER: Final = object()
_SECOND: Final = timedelta(seconds=1)
_SERIAL_BYTES: Final = 16
_BLANK_SIGNATURE: Final = sequence(b"\x02\x01\x01\x02\x01\x01")


class IssuanceToken:
    """The right to one certificate, whose bytes are fixed already. Made by `Issuer.prepare` only."""

    __slots__ = ("_issuer", "_unspent", "not_after", "not_before", "profile", "serial_number", "tbs")

    def __init__(
        self,
        maker: object,
        *,
        issuer: "Issuer",
        profile: CertificateProfile,
        serial_number: str,
        not_before: datetime,
        not_after: datetime,
        tbs: bytes,
    ) -> None:
        if maker is not _MAKER:
            raise TypeError("only Issuer.prepare makes an IssuanceToken")
        self._issuer = issuer
        self._unspent = [tbs]
        self.profile = profile
        self.serial_number = serial_number
        self.not_before = not_before
        self.not_after = not_after
        self.tbs = tbs

    def redeem(self, issuer: "Issuer") -> bytes:
        """Return the bytes to sign, once. Raise TokenSpent the second time, and at another issuer."""
        if issuer is not self._issuer:
            raise TokenSpent("this token was made by another issuer")
        try:
            return self._unspent.pop()  # atomic: of two threads that redeem one token, one gets it
        except IndexError:
            raise TokenSpent(f"the token of serial number {self.serial_number} was redeemed before") from None


class Issuer:
    """A CA that issues leaf certificates. Thread-safe: nothing in it changes."""

    def __init__(
        self,
        *,
        name: str,
        kind: CaKind,
        certificate: x509.Certificate,
        signer: CaSigner,
        namespace: Namespace,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """name: of the authority, as in its CRL's address. random: gives that many random bytes.

        certificate and signer must belong together and to a valid path: authority.py sees to that.
        """
        self.name = name
        self.kind = kind
        self.certificate = certificate
        self.sha256 = certificate.fingerprint(hashes.SHA256()).hex()
        self.signer = signer
        self.namespace = namespace
        self.crl_url = namespace.crl_url(name)
        self.key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        self._policies = _policies(certificate)
        self._purposes = _purposes(certificate)
        self._random = random
        self._algorithm = algorithm_for(signer.public_key().curve)
        self._templates = {
            profile.name: self._template(profile) for profile in PROFILES.values() if kind in profile.issued_by
        }
        self._encoders = {name: self._encoder(template) for name, template in self._templates.items()}

    def prepare(self, request: LeafRequest, *, now: datetime, lifetime: timedelta | None = None) -> IssuanceToken:
        """Check the request, build the certificate unsigned, lint it; return the right to have it signed.

        now: aware UTC. lifetime: from now on, at most the profile's; None for the profile's own. A certificate never
        outlives its issuer. Raises ProfileViolation when the request is at fault, LintFailed when we are.
        Does not prove that the key is the device's: that is what a VerifiedDevice or a VerifiedKey is for.
        """
        profile, subject, alt_name = self._names(request)
        not_before, not_after = self._validity(profile, now.replace(microsecond=0), lifetime)
        key = request.public_key
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in ("secp256r1", "secp384r1"):
            raise ProfileViolation(f"{profile.name}: want a P-256 or P-384 key")
        serial_number = random_serial_number(self._random)
        tbs = self._encoders[profile.name].encode(
            serial_number=serial_number,
            not_before=not_before,
            not_after=not_after,
            name=subject,
            spki=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            key_id=key_identifier(key),
            alt_name=alt_name,
        )
        lint(x509.load_der_x509_certificate(self._assemble(tbs, _BLANK_SIGNATURE)), self._templates[profile.name])
        return IssuanceToken(
            _MAKER,
            issuer=self,
            profile=profile.name,
            serial_number=f"{serial_number:x}",
            not_before=not_before,
            not_after=not_after,
            tbs=tbs,
        )

    def issue(self, token: IssuanceToken) -> x509.Certificate:
        """Sign what was prepared. Raise TokenSpent if the token was redeemed before, or is another issuer's."""
        tbs = token.redeem(self)
        return x509.load_der_x509_certificate(self._assemble(tbs, self.signer.sign(tbs)))

    def read_leaf(self, certificate: x509.Certificate) -> tuple[CertificateProfile, str]:
        """Return the profile and the holder's name of a certificate that this CA signed.

        Raises UntrustedCertificate if the signature is not this CA's, or if it fits none of its profiles. Does not look
        at the time, nor at revocation.
        """
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (InvalidSignature, ValueError, TypeError) as error:
            raise UntrustedCertificate(f"not signed by {self.name}: {error or type(error).__name__}") from None
        profiles = [template.profile for template in self._templates.values()]
        return read_leaf(certificate, profiles=profiles, namespace=self.namespace)

    def _names(self, request: LeafRequest) -> tuple[Profile, str, list[x509.GeneralName]]:
        """Return profile, the subject's last attribute, and the alternative names; raise ProfileViolation."""
        try:
            name, subject, alt_name = _asked(request, self.namespace)
            check_name(subject, name)
        except ValueError as error:  # DecodeError; a DNS name that is none; a hash that is not hexadecimal
            raise ProfileViolation(f"no certificate can name that: {error}") from None
        profile = PROFILES[name]
        if self.kind not in profile.issued_by:
            raise ProfileViolation(f"{name}: want the {' or '.join(profile.issued_by)} CA, this is {self.name}")
        if not self._policies.issuperset(profile.policies):
            raise ProfileViolation(
                f"{name}: the certificate of {self.name} lacks the policies that this role is; "
                f"make another CA: birthmark init --add {self.kind}"
            )
        # Who holds a leaf to its CA's purposes makes an exception of OCSP signing, or goes by the CRL (ADR 0014).
        if not self._purposes.issuperset(set(profile.key_purposes) - {oids.OCSP_SIGNING}):
            raise ProfileViolation(
                f"{name}: the certificate of {self.name} lacks the key purposes that this role is; "
                f"make another CA: birthmark init --add {self.kind}"
            )
        if isinstance(request, InfraRequest):
            self._check_hosts(profile, alt_name)
        return profile, subject, alt_name

    def _check_hosts(self, profile: Profile, hosts: list[x509.GeneralName]) -> None:
        if CaKind.INFRA not in profile.issued_by or bool(hosts) != (profile.alt_name is AltName.HOST):
            raise ProfileViolation(f"{profile.name}: want {profile.alt_name.value}, got {len(hosts)} hosts")
        for host in hosts:
            if not host_permitted(host, self.namespace):
                raise ProfileViolation(f"{profile.name}: {host.value} is outside this CA's name constraints")

    def _validity(self, profile: Profile, now: datetime, lifetime: timedelta | None) -> tuple[datetime, datetime]:
        begins, ends = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        if not begins <= now < ends:
            raise ProfileViolation(f"{self.name} is valid from {begins} to {ends}; it is {now}")
        not_before = max(begins, now - BACKDATED)
        if profile.most is None:
            if lifetime is not None:
                raise ProfileViolation(f"{profile.name}: has no end; a lifetime can't be asked for")
            return not_before, NEVER
        lifetime = profile.lifetime if lifetime is None else lifetime
        if lifetime is None or not _SECOND <= lifetime <= profile.most:
            raise ProfileViolation(f"{profile.name}: want a lifetime of 1 s to {profile.most}, got {lifetime}")
        return not_before, min(ends, now + lifetime)

    def _template(self, profile: Profile) -> Template:
        constants = leaf_constants(profile, issuer_key_id=self.key_id, crl_url=self.crl_url)
        return Template(
            profile=profile,
            namespace=self.namespace,
            issuer=self.certificate.subject,
            issuer_curve=self.signer.public_key().curve.name,
            issuer_key_id=self.key_id,
            not_before=self.certificate.not_valid_before_utc,
            not_after=self.certificate.not_valid_after_utc,
            constants={extension.oid: extension for extension in constants},
        )

    def _encoder(self, template: Template) -> TbsEncoder:
        return TbsEncoder(
            signature=self._algorithm,
            issuer=template.issuer,
            organization=self.namespace.organization,
            subject=template.profile.subject,
            constants=template.constants.values(),
        )

    def _assemble(self, tbs: bytes, signature: bytes) -> bytes:
        return sequence(tbs, self._algorithm, bit_string(signature))


def _policies(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier]:
    """Return which policies hold below a CA: any other that a leaf asserts is void there (RFC 5280 §6.1.3)."""
    policies = certificate.extensions.get_extension_for_class(x509.CertificatePolicies).value
    return frozenset(policy.policy_identifier for policy in policies)


def _purposes(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier]:
    """Return what keys below a CA may be for: RFC 5280 leaves it open, verifiers hold the leaf to it."""
    return frozenset(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def _asked(request: LeafRequest, namespace: Namespace) -> tuple[CertificateProfile, str, list[x509.GeneralName]]:
    """Return profile, name and alternative names that a request stands for; raise ValueError."""
    match request:
        case IDevIdRequest():
            serial = hardware_serial(ek_sha256=request.ek_sha256, ek_certificate=request.ek_certificate)
            return CertificateProfile.IDEVID, request.serial, [hardware_module_name(serial)]
        case LDevIdRequest():
            profile = CertificateProfile.LDEVID if request.tpm_backed else CertificateProfile.LDEVID_SOFTWARE
            uri = ids.device_uri(namespace.trust_domain, request.device_id)
            return profile, request.device_id, [x509.UniformResourceIdentifier(uri)]
        case InfraRequest():
            hosts = [*map(x509.DNSName, request.dns_names), *map(x509.IPAddress, request.ip_addresses)]
            return request.profile, request.name, hosts


def random_serial_number(random: Callable[[int], bytes]) -> int:
    """Return a positive number of exactly 16 octets, of which 126 bits are random (RFC 5280 §4.1.2.2: at most 20)."""
    return int.from_bytes(random(_SERIAL_BYTES), "big") >> 2 | 1 << 126


def to_der(certificate: x509.Certificate) -> bytes:
    """Return the certificate's DER."""
    return certificate.public_bytes(Encoding.DER)
