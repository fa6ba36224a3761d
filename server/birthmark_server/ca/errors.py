"""What the certification authority refuses, and what can be wrong with its keys and folders."""

from typing import ClassVar, Final

from cryptography import x509

from birthmark_server.errors import BirthmarkError, Misconfigured, Refused

UNREADABLE: Final = (
    ValueError,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""All that `cryptography` raises while it reads a certificate that is none of ours: not every one is a ValueError."""


class ProfileViolation(Refused):
    """What was asked for does not fit the profile: a name, a key, a lifetime."""

    code: ClassVar[str] = "profile-violation"


class LintFailed(BirthmarkError):
    """What we were about to sign is not what its profile says. Nothing was signed; the fault is ours."""

    code: ClassVar[str] = "certificate-lint"


class TokenSpent(BirthmarkError):
    """An issuance token was redeemed a second time, or at another issuer."""

    code: ClassVar[str] = "token-spent"


class UntrustedCertificate(Refused):
    """The certificate was not issued by any of our authorities, or not under one of its profiles."""

    code: ClassVar[str] = "untrusted-certificate"


class CertificateExpired(Refused):
    """The certificate was ours, once."""

    code: ClassVar[str] = "certificate-expired"


class CertificateNotYetValid(Refused):
    """The certificate begins in the future; one of the two clocks is wrong."""

    code: ClassVar[str] = "certificate-not-yet-valid"


class PolicyMissing(Refused):
    """The path is valid under other certificate policies only (RFC 5280 §6.1.5)."""

    code: ClassVar[str] = "certificate-policy"


class RequestRefused(Refused):
    """A CA's certification request is not what its profile and this root allow."""

    code: ClassVar[str] = "ca-request"


class KeyUnusable(Misconfigured):
    """A CA key can't be read, opened or used."""

    code: ClassVar[str] = "ca-key"


class PassphraseUnavailable(Misconfigured):
    """The source of a passphrase gave none."""

    code: ClassVar[str] = "ca-passphrase"


class AuthorityBroken(Misconfigured):
    """A CA folder is incomplete, or its parts do not fit together."""

    code: ClassVar[str] = "ca-folder"


class CeremonyRefused(Misconfigured):
    """A ceremony would overwrite something, or contradicts what an earlier run began."""

    code: ClassVar[str] = "ca-ceremony"
