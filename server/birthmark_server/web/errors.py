"""What is wrong with a request before anybody looks at what it says."""

from birthmark_server.errors import BirthmarkError, Busy, Malformed, Refused


class NoSuchResource(BirthmarkError):
    """Nothing is served under this path."""

    code = "no-such-resource"


class MethodNotAllowed(BirthmarkError):
    """The path is served, but not with this method."""

    code = "method-not-allowed"


class BodyTooLarge(Malformed):
    """The body is larger than the limit."""

    code = "body-too-large"


class BodyTooSlow(Malformed):
    """The body did not arrive in time."""

    code = "body-too-slow"


class WrongMediaType(Malformed):
    """The Content-Type is not what this resource reads."""

    code = "wrong-media-type"


class BadQuery(Malformed):
    """A parameter behind the `?` is unknown, twice there, or not what it should be; or a cursor of another listing."""

    code = "bad-query"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class BadCursor(BadQuery):
    """The cursor is none that this listing gave out."""

    code = "bad-cursor"


class BadIdempotencyKey(Malformed):
    """An Idempotency-Key is 1 to 128 printable ASCII characters."""

    code = "bad-idempotency-key"


class KeyReused(Refused):
    """This idempotency key came before with another request."""

    code = "idempotency-key-reused"


class KeyInUse(Refused):
    """The first request with this idempotency key has not ended."""

    code = "idempotency-key-in-use"


class BadTransfer(Malformed):
    """An EST body is not base64."""

    code = "bad-base64"


class TooManyRequests(Busy):
    """This source asks too often."""

    code = "too-many-requests"


class NotYourDoor(Refused):
    """Who asks may not use this resource."""

    code = "not-your-door"


class CertificateRequired(NotYourDoor):
    """This resource needs a TLS client certificate."""

    code = "certificate-required"


class CertificateUnknown(NotYourDoor):
    """The client certificate verifies up to the root, but it is not on record: nobody's."""

    code = "certificate-unknown"


class CertificateRevoked(NotYourDoor):
    """The client certificate is revoked."""

    code = "certificate-revoked"


class CertificateOutOfDate(NotYourDoor):
    """The client certificate is not valid now."""

    code = "certificate-out-of-date"


class CertificateMisused(NotYourDoor):
    """The client certificate's role does not open this door."""

    code = "certificate-misused"


class OwnerNotActive(NotYourDoor):
    """The client certificate's device is revoked, denied or retired."""

    code = "owner-not-active"
