"""What a device says of itself, read: which of its EKs is the one that identifies a device of this model.

A TPM has several EKs, and the model fixes which one counts: a denied device must not come back with its other one. The
one that the station signs for is found as the server will find it: a certificate whose key fits the
model's template, or else the EK that the device shows without one.
"""

from hashlib import sha256

from cryptography import x509

from birthmark_server.attestation.certificate import key_sha256, parse_certificate
from birthmark_server.attestation.ek import strip_nv
from birthmark_server.errors import BirthmarkError
from birthmark_server.factory.station.errors import IdentityGarbled, OtherModel
from birthmark_server.factory.station.words import words
from birthmark_server.tpm.public import parse_public
from birthmark_wire.factory import DeviceIdentity
from birthmark_wire.tpm_templates import EK_TEMPLATES


def read_identity(identity: DeviceIdentity, ek_template: str) -> tuple[str, str]:
    """Return the EK's hash (of its SubjectPublicKeyInfo) and the AK's (of its TPMT_PUBLIC).

    ek_template: the model's; empty where it is not known: then the EK that the device names is taken. Raise
    IdentityGarbled for what can't be read, OtherModel for a TPM without such an EK.
    """
    try:
        shown = parse_public(identity.ek_public)
        parse_public(identity.ak_public)
        certified = [parse_certificate(strip_nv(der)) for der in identity.ek_certificates]
        request = x509.load_der_x509_csr(identity.csr)
        request_is_signed = request.is_signature_valid
    except (BirthmarkError, ValueError) as error:
        raise IdentityGarbled(f"the device says of itself what can't be read: {words(error)}") from None
    if not request_is_signed:
        raise IdentityGarbled("the device's request for a certificate is not signed by the key in it")
    ak_sha256 = sha256(identity.ak_public).hexdigest()
    if not ek_template:
        return sha256(shown.spki()).hexdigest(), ak_sha256
    template = parse_public(EK_TEMPLATES[ek_template])
    keys = [*(certificate.key for certificate in certified), shown.public_key()]
    fitting = {key_sha256(key) for key in keys if template.fits(key)}
    if len(fitting) > 1:  # whose certificate is that? It is no secret, so it may be another device's
        raise OtherModel(f"want one EK of template {ek_template}, this device shows {len(fitting)} different ones")
    if fitting:
        return fitting.pop(), ak_sha256
    has = [name for name, each in EK_TEMPLATES.items() if any(map(parse_public(each).fits, keys))]
    raise OtherModel(f"want a TPM with an EK of template {ek_template}, this one shows {', '.join(has)}")
