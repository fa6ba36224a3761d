"""Every reason for which evidence is refused: one class each, with the code that clients, logs and lists show.

`Malformed` means that the evidence could not be read, `Refused` that it was read and does not hold.
"""

from birthmark_server.errors import Malformed, Refused

# -- the endorsement key and its certificate


class CertificateMalformed(Malformed):
    """A certificate is not one that this reader can take apart: see certificate.py."""

    code = "certificate-malformed"


class EkMissing(Refused):
    """No endorsement key of the model's template was shown."""

    code = "ek-missing"


class EkAmbiguous(Refused):
    """Two different endorsement keys of the model's template were shown: one device has one."""

    code = "ek-ambiguous"


class EkCertificateMissing(Refused):
    """The model requires an EK certificate and none of its template was shown."""

    code = "ek-certificate-missing"


class EkNotListed(Refused):
    """There is no EK certificate, and no manifest names the key."""

    code = "ek-not-listed"


class EkKeyMismatch(Refused):
    """The EK public area that was shown is not the key in the EK certificate."""

    code = "ek-key-mismatch"


class EkTemplateMismatch(Refused):
    """The EK public area is not what the model's template makes of its key."""

    code = "ek-template"


class EkIsCa(Refused):
    """The EK certificate claims to be a CA."""

    code = "ek-is-ca"


class EkKeyUsage(Refused):
    """The EK certificate lacks keyEncipherment (RSA) or keyAgreement (ECC), or may sign certificates."""

    code = "ek-key-usage"


class EkPurpose(Refused):
    """The EK certificate's extended key usage is not tcg-kp-EKCertificate, or is absent where the vendor has it."""

    code = "ek-purpose"


class EkTpmUnnamed(Refused):
    """The EK certificate does not name the TPM's manufacturer, model and version. Missing is not equal."""

    code = "ek-tpm-unnamed"


class EkManufacturer(Refused):
    """The root does not vouch for this TPM manufacturer, or the model does not take it."""

    code = "ek-manufacturer"


class EkNotYetValid(Refused):
    """The EK certificate's notBefore lies in the future."""

    code = "ek-not-yet-valid"


class EkExpired(Refused):
    """The EK certificate's notAfter has passed, and the vendor's entry says that this matters."""

    code = "ek-expired"


class CriticalExtension(Refused):
    """A certificate has a critical extension that we do not evaluate."""

    code = "critical-extension"


# -- the path from the EK certificate to a vendor's root


class EkUntrusted(Refused):
    """No path leads from the EK certificate to a trusted TPM vendor root."""

    code = "ek-untrusted"


class ChainSignature(Refused):
    """A certificate is not signed by the CA that it names."""

    code = "chain-signature"


class ChainAlgorithm(Refused):
    """A certificate is signed with an algorithm that we do not accept: SHA-1 where the vendor's entry forbids it."""

    code = "chain-algorithm"


class ChainDates(Refused):
    """A CA certificate is not yet, or no longer, valid."""

    code = "chain-dates"


class ChainNotCa(Refused):
    """A certificate that issued another one is no CA, or not one for endorsement keys."""

    code = "chain-not-ca"


class ChainPathLength(Refused):
    """More CAs stand below a CA than its path length constraint allows."""

    code = "chain-path-length"


class ChainNameConstraints(Refused):
    """A CA has name constraints, which we do not evaluate: no TPM vendor that we know of uses them."""

    code = "chain-name-constraints"


# -- keys


class WeakKey(Refused):
    """A key is below the floor: RSA of less than 2048 bits or with an odd exponent, or another curve or hash."""

    code = "key-weak"


class RocaKey(Refused):
    """An RSA modulus has the structure of CVE-2017-15361 (ROCA): its private key can be computed."""

    code = "key-roca"


class AkUnrestricted(Refused):
    """The AK is not restricted: it would sign a forged TPMS_ATTEST (the hole of CVE-2021-3406)."""

    code = "ak-unrestricted"


class AkDecrypts(Refused):
    """The AK may decrypt: attestation keys only sign."""

    code = "ak-decrypts"


class AkCannotSign(Refused):
    """The AK has no sign attribute."""

    code = "ak-cannot-sign"


class AkNotFixed(Refused):
    """The AK lacks fixedTPM, fixedParent or sensitiveDataOrigin: it may live outside this TPM."""

    code = "ak-not-fixed"


class AkScheme(Refused):
    """The AK's public area fixes no signing scheme that we accept."""

    code = "ak-scheme"


class KeyRestricted(Refused):
    """The device key is restricted: it could not sign a TLS handshake."""

    code = "device-key-restricted"


class KeyDecrypts(Refused):
    """The device key may decrypt: identity keys only sign."""

    code = "device-key-decrypts"


class KeyCannotSign(Refused):
    """The device key has no sign attribute."""

    code = "device-key-cannot-sign"


class KeyNotFixed(Refused):
    """The device key lacks fixedTPM, fixedParent or sensitiveDataOrigin: it may live outside this TPM."""

    code = "device-key-not-fixed"


class KeyScheme(Refused):
    """The device key's public area fixes a scheme that we do not accept."""

    code = "device-key-scheme"


class KeysNotDistinct(Refused):
    """Endorsement, attestation and device key are not three different keys."""

    code = "keys-not-distinct"


class NotEndorsementPrimary(Refused):
    """A key is no primary of the endorsement hierarchy, so it would not survive a TPM2_Clear."""

    code = "key-hierarchy"


# -- statements by the TPM


class AttestType(Refused):
    """The statement is a quote where a certify was wanted, or the other way round."""

    code = "attest-type"


class AttestScheme(Refused):
    """The signature is not by the scheme that the AK's public area fixes."""

    code = "attest-scheme"


class AttestSignature(Refused):
    """The statement is not signed by the AK."""

    code = "attest-signature"


class AttestSigner(Refused):
    """The statement names another key as its signer than the AK."""

    code = "attest-signer"


class AttestBinding(Refused):
    """The statement's qualifyingData is not of this exchange: another nonce, key, CSR, server or device."""

    code = "attest-binding"


class CertifiedName(Refused):
    """The statement certifies another key than the device key."""

    code = "attest-name"


class ActivationSecret(Refused):
    """The secret is not the one that the credential held: the AK was not shown to live beside the EK."""

    code = "activation-secret"


class EnrollmentMismatch(Refused):
    """Request and record do not belong together."""

    code = "enrollment-mismatch"


class QuoteMissing(Refused):
    """The model requires a quote and none was shown."""

    code = "quote-missing"


class QuotePcrs(Refused):
    """The quote covers other PCRs than the model's, or another bank than SHA-256."""

    code = "quote-pcrs"


class FirmwareRefused(Refused):
    """The TPM runs a firmware that the vendor's entry in the trust store refuses."""

    code = "tpm-firmware"


# -- the certification request


class CsrMalformed(Malformed):
    """The certification request could not be read."""

    code = "csr-malformed"


class CsrSignature(Refused):
    """The certification request is not signed by the key that it carries."""

    code = "csr-signature"


class CsrKey(Refused):
    """The certification request carries another key than the one that the TPM attested."""

    code = "csr-key"


class CsrEvidence(Malformed):
    """The attestation attribute of the certification request could not be read."""

    code = "csr-evidence-malformed"


class CsrEvidenceMissing(Refused):
    """The certification request carries no TPM2_Certify statement, and the profile requires one."""

    code = "csr-evidence-missing"
