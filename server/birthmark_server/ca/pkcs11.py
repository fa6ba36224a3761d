"""CA keys in a PKCS #11 token (an HSM, a smart card, SoftHSM2): the token signs, the key never leaves it.

A key is named by a URI (RFC 7512): `pkcs11:token=LABEL;object=NAME?module-path=/path/to/module.so`. Logging in belongs
to the process, not to a session, so the first signer of a token logs in and the later ones share that.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Protocol, Self
from urllib.parse import quote, unquote

import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11 import exceptions
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

from birthmark_server.ca.errors import CeremonyRefused, KeyUnusable
from birthmark_server.ca.signer import hash_for

_SCHEME: Final = "pkcs11:"
_SELF_TEST: Final = b"birthmark: is this the key of that certificate?"


@dataclass(frozen=True, slots=True)
class TokenUri:
    """The parts of a `pkcs11:` URI that we use. object: empty where only a token is named."""

    token: str
    module_path: str
    object: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URI; raise KeyUnusable for any attribute that we would have to ignore."""
        path, _, query = text.removeprefix(_SCHEME).partition("?")
        parts: dict[str, str] = {}
        for pair in (*path.split(";"), *query.split("&")):
            name, equals, value = pair.partition("=")
            if not equals or name not in ("token", "object", "module-path") or name in parts:
                raise KeyUnusable(f"want pkcs11:token=LABEL;object=NAME?module-path=PATH, got {text!r}")
            parts[name] = unquote(value)
        if not text.startswith(_SCHEME) or not parts.get("token") or not parts.get("module-path"):
            raise KeyUnusable(f"want pkcs11: with token and module-path, got {text!r}")
        return cls(parts["token"], parts["module-path"], parts.get("object", ""))

    def with_object(self, name: str) -> "TokenUri":
        """Return the URI of the object `name` in the same token."""
        return replace(self, object=name)

    def text(self) -> str:
        """Return the URI."""
        name = f";object={quote(self.object)}" if self.object else ""
        return f"{_SCHEME}token={quote(self.token)}{name}?module-path={quote(self.module_path)}"


class EcPrivateKey(Protocol):
    """A private key object that can sign, as python-pkcs11 gives it."""

    def sign(self, data: bytes, *, mechanism: pkcs11.Mechanism) -> bytes: ...


class Pkcs11Signer:
    """One key pair in a token. Thread-safe: a session does one thing at a time, so a lock guards it."""

    def __init__(self, session: pkcs11.Session, private_key: EcPrivateKey, public_key: pkcs11.PublicKey) -> None:
        self._session = session
        self._private_key = private_key
        self._lock = threading.Lock()
        key = load_der_public_key(encode_ec_public_key(public_key))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise KeyUnusable("want an elliptic curve key in the token")
        self._public_key = key
        self._hash = hash_for(key.curve)

    @classmethod
    def open(cls, uri: TokenUri, *, pin: bytes) -> Self:
        """Find the key pair and let it sign once. Raise KeyUnusable saying what is missing."""
        with _named_errors(uri):
            session = _session(uri, pin, rw=False)
            private = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, label=uri.object)
            public = session.get_key(pkcs11.ObjectClass.PUBLIC_KEY, label=uri.object)
            if not isinstance(private, pkcs11.SignMixin) or not isinstance(public, pkcs11.PublicKey):
                raise KeyUnusable(f"{uri.object!r} in token {uri.token!r} is not a key pair")
            signer = cls(session, private, public)
            try:
                signer.public_key().verify(signer.sign(_SELF_TEST), _SELF_TEST, ec.ECDSA(signer._hash))
            except InvalidSignature:
                raise KeyUnusable(f"the two keys called {uri.object!r} in token {uri.token!r} are no pair") from None
        return signer

    @classmethod
    def create(cls, uri: TokenUri, *, curve: ec.EllipticCurve, pin: bytes) -> Self:
        """Make a key pair inside the token: sensitive, never extractable. Raise CeremonyRefused if it is there."""
        if cls.exists(uri, pin=pin):
            raise CeremonyRefused(f"token {uri.token!r} has a key called {uri.object!r} already")
        with _named_errors(uri):
            session = _session(uri, pin, rw=True)
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC,
                {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve.name)},
                local=True,
            )
            identifier = hashlib.sha256(uri.object.encode()).digest()[:20]
            public, private = parameters.generate_keypair(
                id=identifier,
                label=uri.object,
                store=True,
                capabilities=pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
                private_template={pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False},
            )
            if not isinstance(private, pkcs11.SignMixin):
                raise KeyUnusable(f"token {uri.token!r} made a key that can't sign")
            return cls(session, private, public)

    @classmethod
    def exists(cls, uri: TokenUri, *, pin: bytes) -> bool:
        """Return whether the token has an object of that name."""
        with _named_errors(uri):
            session = _session(uri, pin, rw=False)
            found = list(session.get_objects({pkcs11.Attribute.LABEL: uri.object}))
            session.close()
        return bool(found)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    def sign(self, data: bytes) -> bytes:
        # Plain CKM_ECDSA over our own digest: every token has it, while CKM_ECDSA_SHA256 is missing in many.
        digest = hashlib.new(self._hash.name, data).digest()
        try:
            with self._lock:
                raw = self._private_key.sign(digest, mechanism=pkcs11.Mechanism.ECDSA)
        except exceptions.PKCS11Error as error:
            raise KeyUnusable(f"the token did not sign: {type(error).__name__} {error}") from error
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def _session(uri: TokenUri, pin: bytes, *, rw: bool) -> pkcs11.Session:
    try:
        text = pin.decode("utf-8")  # PKCS #11 v2.40 §4: a PIN is UTF-8
    except UnicodeDecodeError:
        raise KeyUnusable(f"the PIN of token {uri.token!r} is not UTF-8") from None
    token = pkcs11.lib(uri.module_path).get_token(token_label=uri.token)
    try:
        return token.open(rw=rw, user_pin=text)
    except exceptions.UserAlreadyLoggedIn:
        return token.open(rw=rw)


@contextmanager
def _named_errors(uri: TokenUri) -> Iterator[None]:
    """Say which key and which token it was; PKCS #11's own errors carry little but their name."""
    try:
        yield
    except exceptions.NoSuchKey:
        raise KeyUnusable(f"token {uri.token!r} has no key called {uri.object!r}") from None
    except exceptions.NoSuchToken:
        raise KeyUnusable(f"{uri.module_path} shows no token labelled {uri.token!r}") from None
    except exceptions.PinIncorrect:
        raise KeyUnusable(f"token {uri.token!r} refuses this PIN") from None
    except (exceptions.PKCS11Error, RuntimeError, OSError) as error:
        raise KeyUnusable(f"token {uri.token!r}: {type(error).__name__} {error}") from error
