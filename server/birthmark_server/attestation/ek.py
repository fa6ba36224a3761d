"""The endorsement key: is it the key of a genuine TPM, and of the one kind that the model fixes?

With a certificate: it chains to a vendor root that may vouch for this manufacturer (path.py), is an EK certificate by
its own extensions, and its key is strong. Without one, where the model allows it: the manifest names the key's hash.

The public area used for the credential is rebuilt from the proven key and the model's template, so the device has
nothing to say about it. Not proven here: that whoever talks to us holds the key (the credential does that), and that
the other EKs which were shown live in the same TPM; those are only ever a reason to refuse.
Source: TCG EK Credential Profile 2.5; field notes 1-9 in docs/attestation.md.
"""

from dataclasses import InitVar, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import rsa

from birthmark_server.attestation import certificate as x509
from birthmark_server.attestation import der
from birthmark_server.attestation.certificate import Certificate, key_sha256, parse_certificate
from birthmark_server.attestation.errors import (
    CertificateMalformed,
    EkAmbiguous,
    EkCertificateMissing,
    EkExpired,
    EkIsCa,
    EkKeyMismatch,
    EkKeyUsage,
    EkManufacturer,
    EkMissing,
    EkNotListed,
    EkNotYetValid,
    EkPurpose,
    EkTemplateMismatch,
    EkTpmUnnamed,
    EkUntrusted,
)
from birthmark_server.attestation.keys import check_device_key
from birthmark_server.attestation.path import TCG_EK_CERTIFICATE, Roots, TrustPath, find_path, refuse_critical
from birthmark_server.attestation.vendor import MANUFACTURER, Vendor
from birthmark_server.domain import Assurance, DeviceModel
from birthmark_server.tpm.public import PublicKey, TpmPublic, parse_public
from birthmark_wire.enrollment import EnrollRequest
from birthmark_wire.tpm_templates import EK_TEMPLATES

TPM_MANUFACTURER: Final = "2.23.133.2.1"
TPM_MODEL: Final = "2.23.133.2.2"
TPM_VERSION: Final = "2.23.133.2.3"

_KEY_ENCIPHERMENT: Final = 2
_KEY_AGREEMENT: Final = 4
_KEY_CERT_SIGN: Final = 5

_EK_EXTENSIONS: Final = frozenset(
    (x509.BASIC_CONSTRAINTS, x509.KEY_USAGE, x509.EXTENDED_KEY_USAGE, x509.SUBJECT_ALT_NAME, x509.CERTIFICATE_POLICIES)
)
"""What may be critical in an EK certificate. The SubjectAltName is here because `_tpm_names` reads it, nothing else."""

_STORED_CERTIFICATE: Final = bytes((0x10, 0x01, 0x00))
_FILL: Final = (b"", b"\x00", b"\xff")

_TEMPLATES: Final = {name: parse_public(template) for name, template in EK_TEMPLATES.items()}

_SEAL: Final = object()


class VersionedRoots(Roots, Protocol):
    """A trust store and its version: roots.TrustStore."""

    @property
    def version(self) -> str:
        """Return the hash of its content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenEndorsement:
    """An endorsement key that may be challenged. Only `verify_endorsement` builds one.

    ek_sha256: of its SubjectPublicKeyInfo, hex. other_ek_sha256: of every other EK that was shown: claims, not proofs.
    ek_certificate: what the assurance rests on, DER; None for a key that only a manifest names.
    vendor, path: whose root it chains to; None for a key that only a manifest names. manufacturer: as `id:49465800`,
    empty without a certificate. roots_version: of the trust store that judged.
    """

    public: TpmPublic
    ek_sha256: str
    other_ek_sha256: tuple[str, ...]
    ek_certificate: bytes | None
    assurance: Assurance
    vendor: Vendor | None
    path: TrustPath | None
    manufacturer: str
    roots_version: str
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        """Refuse to be built by anyone else."""
        if seal is not _SEAL:
            raise TypeError("only verify_endorsement makes a ProvenEndorsement")


def strip_nv(data: bytes) -> bytes:
    """Return the certificate in what a TPM's NV index held: without header 10 01 00 and length, and without padding.

    Raises CertificateMalformed if something other than 00 or FF fills the rest. Source: TCG PC Client Specific
    Implementation Specification 1.21 §7.4.5 (TCG_PCCLIENT_STORED_CERT).
    """
    if data[:3] == _STORED_CERTIFICATE:
        length = int.from_bytes(data[3:5], "big")
        if len(data) < 5 + length:
            raise CertificateMalformed(f"want {length} bytes after the NV header, got {len(data) - 5}")
        data = data[5 : 5 + length]
    try:
        _, end = der.read_first(data)
    except der.DerError as error:
        raise CertificateMalformed(f"no certificate in the NV index: {error}") from None
    rest = data[end:]
    if rest.strip(rest[:1]) or rest[:1] not in _FILL:
        raise CertificateMalformed(f"{len(rest)} bytes after the certificate that are not padding")
    return data[:end]


def shown_ek_hashes(request: EnrollRequest) -> tuple[str, ...]:
    """Return the hash of every EK that the device shows, certificates first, each once. Nothing is proven.

    Raises CertificateMalformed, TpmDecodeError, UnsupportedKey or WeakKey for what can't be read.
    """
    return _read_shown(request.ek_certificates, request.ek_public).hashes


def verify_endorsement(
    request: EnrollRequest, *, model: DeviceModel, roots: VersionedRoots, listed_ek: frozenset[str], now: datetime
) -> ProvenEndorsement:
    """Prove the endorsement key that `request` shows for `model`, or raise why it does not hold.

    listed_ek: hashes of EKs that a manifest names for this device. They stand in for a certificate where the model
    does not require one; a certificate that is shown all the same must not be false, only unknown.
    """
    shown, template = _read_shown(request.ek_certificates, request.ek_public), _TEMPLATES[model.ek_template]
    certificate = _certificate_of(shown, template)
    ek = _rebuild(shown, template, certificate)
    check_device_key(ek.key, "endorsement key")
    listed = not model.require_ek_certificate and ek.key_sha256 in listed_ek
    path, manufacturer = None, ""
    if certificate is not None:
        try:
            path, manufacturer = _verify_certificate(certificate, request, model, roots, now)
        except EkUntrusted:
            if not listed:
                raise
    elif model.require_ek_certificate:
        raise EkCertificateMissing(f"model {model.name} requires an EK certificate of template {model.ek_template}")
    elif not listed:
        raise EkNotListed(f"no manifest names the endorsement key {ek.key_sha256}")
    return ProvenEndorsement(
        public=ek.public,
        ek_sha256=ek.key_sha256,
        other_ek_sha256=tuple(sha256 for sha256 in shown.hashes if sha256 != ek.key_sha256),
        ek_certificate=None if certificate is None or path is None else certificate.der,
        assurance=Assurance.LISTED_KEY if path is None else Assurance.VENDOR_CERTIFICATE,
        vendor=None if path is None else path.anchor.vendor,
        path=path,
        manufacturer=manufacturer,
        roots_version=roots.version,
        seal=_SEAL,
    )


@dataclass(frozen=True, slots=True)
class _PublicArea:
    """An EK public area as it was shown, and its key."""

    public: TpmPublic
    key: PublicKey
    key_sha256: str


@dataclass(frozen=True, slots=True)
class _Shown:
    """The endorsement keys of one request. hashes: of each key once, certificates first."""

    certificates: tuple[Certificate, ...]
    area: _PublicArea | None
    hashes: tuple[str, ...]


@lru_cache(maxsize=256)
def _read_shown(certificates: tuple[bytes, ...], ek_public: bytes | None) -> _Shown:
    """Read all EKs of a request; remembered, since one enrollment comes by here three times with the same bytes."""
    parsed = tuple(parse_certificate(strip_nv(data)) for data in certificates)
    hashes = [certificate.key_sha256 for certificate in parsed]
    area = None
    if ek_public is not None:
        public = parse_public(ek_public)
        key = public.public_key()
        area = _PublicArea(public, key, key_sha256(key))
        hashes.append(area.key_sha256)
    return _Shown(parsed, area, tuple(dict.fromkeys(hashes)))


def _certificate_of(shown: _Shown, template: TpmPublic) -> Certificate | None:
    """Return the one certificate whose key is of the template's kind. The same key may be certified twice."""
    fitting = [certificate for certificate in shown.certificates if template.fits(certificate.key)]
    if len({certificate.key_sha256 for certificate in fitting}) > 1:
        raise EkAmbiguous(f"{len(fitting)} EK certificates of one template were shown")
    return fitting[0] if fitting else None


def _kinds(shown: _Shown) -> list[str]:
    """Say what was shown, for people: the templates that its keys fit."""
    keys = [certificate.key for certificate in shown.certificates]
    keys += [shown.area.key] if shown.area else []
    return [name for name, template in _TEMPLATES.items() if any(map(template.fits, keys))]


def _rebuild(shown: _Shown, template: TpmPublic, certificate: Certificate | None) -> _PublicArea:
    """Return the EK's public area: the template with the proven key. What the device shows may only agree with it."""
    area = shown.area
    if area is not None and not template.fits(area.key):
        area = None  # another of the TPM's EKs: reported, not used
    source = certificate or area
    if source is None:
        wanted = next(name for name, each in _TEMPLATES.items() if each == template)
        raise EkMissing(f"want an EK of the model's template {wanted}; shown: {', '.join(_kinds(shown)) or 'none'}")
    public = template.with_key(source.key)
    if area is not None and area.key_sha256 != source.key_sha256:
        raise EkKeyMismatch("the EK public area is not the key in the EK certificate")
    if area is not None and area.public != public:
        raise EkTemplateMismatch("the EK public area is not what the model's template makes of its key")
    return _PublicArea(public, source.key, source.key_sha256)


def _verify_certificate(
    certificate: Certificate, request: EnrollRequest, model: DeviceModel, roots: Roots, now: datetime
) -> tuple[TrustPath, str]:
    _check_extensions(certificate)
    manufacturer = _tpm_names(certificate)[TPM_MANUFACTURER]
    shown = [parse_certificate(strip_nv(data)) for data in request.ek_chain]
    path = find_path(certificate, shown=shown, roots=roots, now=now)
    vendor = path.anchor.vendor
    if manufacturer not in vendor.manufacturers:
        raise EkManufacturer(f"{vendor.name} may vouch for {sorted(vendor.manufacturers)}, got {manufacturer}")
    if model.manufacturers and manufacturer not in model.manufacturers:
        raise EkManufacturer(f"model {model.name} takes {sorted(model.manufacturers)}, got {manufacturer}")
    if vendor.require_eku and certificate.purposes is None:
        raise EkPurpose(f"{vendor.name}'s EK certificates have extended key usage {TCG_EK_CERTIFICATE}, this has none")
    if now < certificate.not_before:
        raise EkNotYetValid(f"valid from {certificate.not_before:%Y-%m-%d}")
    if vendor.enforce_ek_expiry and now > certificate.not_after:
        raise EkExpired(f"valid until {certificate.not_after:%Y-%m-%d}, and {vendor.name}'s entry enforces it")
    return path, manufacturer


def _check_extensions(certificate: Certificate) -> None:
    if certificate.is_ca or certificate.may(_KEY_CERT_SIGN):
        raise EkIsCa("the EK certificate claims to be a CA")
    wanted = _KEY_ENCIPHERMENT if isinstance(certificate.key, rsa.RSAPublicKey) else _KEY_AGREEMENT
    if not certificate.may(wanted):
        raise EkKeyUsage("want keyEncipherment in an RSA EK certificate, keyAgreement in an ECC one")
    if certificate.purposes is not None and TCG_EK_CERTIFICATE not in certificate.purposes:
        raise EkPurpose(f"want extended key usage {TCG_EK_CERTIFICATE}, got {sorted(certificate.purposes)}")
    refuse_critical(certificate, _EK_EXTENSIONS)


def _tpm_names(certificate: Certificate) -> dict[str, str]:
    """Return the TPM's manufacturer, model and version: each must be there, once."""
    names = dict(certificate.directory_names)
    for oid in (TPM_MANUFACTURER, TPM_MODEL, TPM_VERSION):
        if not names.get(oid):
            raise EkTpmUnnamed(f"want {oid} in the SubjectAltName's DirectoryName")
    names[TPM_MANUFACTURER] = "id:" + names[TPM_MANUFACTURER].removeprefix("id:").upper()
    if len(names) != len(certificate.directory_names) or not MANUFACTURER.fullmatch(names[TPM_MANUFACTURER]):
        raise EkTpmUnnamed(f"want one manufacturer such as 'id:49465800', got {certificate.directory_names}")
    return names
