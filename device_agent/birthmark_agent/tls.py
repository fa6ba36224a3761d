"""TLS with a private key that stays in the TPM, for the standard library's `ssl` and whatever is built on it.

Python's ssl takes private keys from files only. OpenSSL lets an EC key carry its own signing function (EC_KEY_METHOD),
so a handshake's one private-key operation goes to the TPM and all else stays in software. docs/adr/0050 says what else
was tried.

Rules:
- TLS 1.3 only; the peer's chain and name are always verified, against the pinned anchors alone.
- One EC_KEY_METHOD serves the process, for ever: OpenSSL does not count references to it, and frees keys late. Which
  key signs is found by the EC_KEY's address, registered for as long as its context lives.
- A new key first shakes hands with itself in memory: a wrong one is found before the network is touched.
- An error in the callback is kept, and raised in place of OpenSSL's "internal error".
"""

import ctypes
import ssl
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache
from typing import Any, Final, Protocol, TypeVar

from birthmark_agent import openssl
from birthmark_agent.clock import CheckTime
from birthmark_agent.errors import TlsKeyFailed
from birthmark_agent.openssl import BYTES

_T = TypeVar("_T")

SYSTEM_TIME: Final = CheckTime(None, not_yet_valid_passes=False)
_HASH_BY_SIZE: Final = {32: "sha256", 48: "sha384"}


class TlsKey(Protocol):
    """What signs the handshake: tpm.signer.TpmSigner, or an open tpm.keys.TpmKey. P-256 or P-384."""

    @property
    def spki(self) -> bytes:
        """Its SubjectPublicKeyInfo, DER."""

    def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
        """Return the DER ECDSA-Sig-Value over a digest made by "sha256" or "sha384". May raise anything."""


class _Signing:
    """One key while its context lives: how often it signed, and what went wrong last."""

    __slots__ = ("__weakref__", "count", "error", "key")

    def __init__(self, key: TlsKey) -> None:
        self.key = key
        self.count = 0
        self.error: BaseException | None = None

    def sign(self, digest: bytes) -> bytes:
        self.count += 1
        return self.key.sign_digest(digest, _HASH_BY_SIZE[len(digest)])

    def take_error(self) -> BaseException | None:
        """Return what went wrong, once: it holds frames, and those would hold the context."""
        error, self.error = self.error, None
        return error


_by_ec_key: dict[int, _Signing] = {}


def _guarded(ec_key: int, digest: int, length: int) -> bytes | None:
    """Sign for OpenSSL; an exception must not cross its C frames."""
    signing = _by_ec_key.get(ec_key)
    if signing is None:
        return None
    try:
        signature = signing.sign(ctypes.string_at(digest, length))
        if len(signature) > openssl.shared().ecdsa_size(ec_key):
            raise TlsKeyFailed(f"the key's signature has {len(signature)} bytes, more than its curve allows")
    except BaseException as error:  # noqa: BLE001 - kept, and raised once OpenSSL has returned
        signing.error = error
        return None
    return signature


def _sign(_type: int, digest: int, length: int, out: int, out_length: int, _kinv: int, _r: int, ec_key: int) -> int:
    signature = _guarded(ec_key, digest, length)
    if signature is None:
        return 0
    ctypes.memmove(out, signature, len(signature))
    ctypes.c_uint.from_address(out_length).value = len(signature)
    return 1


def _pass_not_yet_valid(passed: int, store_ctx: int) -> int:
    if not passed and openssl.shared().store_ctx_get_error(store_ctx) == openssl.ERROR_NOT_YET_VALID:
        openssl.shared().store_ctx_set_error(store_ctx, openssl.VERIFY_OK)
        return 1
    return passed


# What C calls lives as long as the process: OpenSSL keeps the bare addresses.
_SIGN: Final = openssl.SIGN(_sign)
_PASS_NOT_YET_VALID: Final = openssl.VERIFY(_pass_not_yet_valid)


@cache
def _method() -> int:
    library = openssl.shared()
    method: int | None = library.ec_key_method_new(library.ec_key_openssl())
    if not method:
        raise TlsKeyFailed(f"no EC_KEY_METHOD: {library.take_reason()}")
    library.ec_key_method_set_sign(method, _SIGN, None, None)
    return method


class TpmContext(ssl.SSLContext):
    """An SSLContext whose private key is in the TPM. Its sockets raise TlsKeyFailed where the TPM was what failed."""

    _signing: _Signing | None = None

    @property
    def signatures(self) -> int:
        """How many signatures the key has made for this context: one for each handshake that showed the certificate."""
        return self._signing.count if self._signing else 0

    def use_key(self, chain: Sequence[bytes], key: TlsKey) -> None:
        """Present `chain` (leaf first, DER) and sign with `key`. Raise TlsKeyFailed if they do not belong together."""
        library, signing = openssl.shared(), _Signing(key)
        context = library.context_pointer(self)
        with ExitStack() as stack:
            ec_key = _need(stack, library.d2i_ec_pubkey, library.ec_key_free, key.spki)
            pkey = library.evp_pkey_new()
            stack.callback(library.evp_pkey_free, pkey)
            _check(library.ec_key_set_method(ec_key, _method()), "the key takes no method of ours")
            _check(library.evp_pkey_set1_ec_key(pkey, ec_key), "the key is not an elliptic-curve key")
            _check(library.ctx_use_certificate(context, len(chain[0]), chain[0]), "the certificate can't be read")
            for der in chain[1:]:
                certificate = _need(stack, library.d2i_x509, library.x509_free, der)
                _check(library.ctx_ctrl(context, openssl.CTRL_CHAIN_CERT, 1, certificate), "the chain can't be used")
            _check(library.ctx_use_private_key(context, pkey), "the key is not the certificate's")
            _check(library.ctx_check_private_key(context), "the key is not the certificate's")
            _by_ec_key[ec_key] = signing
            weakref.finalize(self, _by_ec_key.pop, ec_key, None)
        self._signing = signing

    def judge_at(self, check: CheckTime) -> None:
        """Judge the peer's certificates at another time than the system's; clock.py says when and why."""
        library = openssl.shared()
        context = library.context_pointer(self)
        if check.at is not None:
            library.param_set_time(library.ctx_get0_param(context), int(check.at.timestamp()))
        if check.not_yet_valid_passes:
            library.ctx_set_verify(context, openssl.VERIFY_PEER, _PASS_NOT_YET_VALID)

    def explain(self, handshake: Callable[[], _T]) -> _T:
        """Run a handshake; raise TlsKeyFailed from the TPM's own error if it was our key that failed."""
        try:
            return handshake()
        except ssl.SSLError as error:
            cause = self._signing.take_error() if self._signing else None
            if cause is None:
                raise
            if not isinstance(cause, Exception):
                raise cause from error  # KeyboardInterrupt, SystemExit
            raise TlsKeyFailed(f"the key could not sign the handshake: {cause}") from cause


class _TpmSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        context, handshake = self.context, super().do_handshake
        return context.explain(lambda: handshake(block)) if isinstance(context, TpmContext) else handshake(block)


class _TpmObject(ssl.SSLObject):
    def do_handshake(self) -> None:
        context, handshake = self.context, super().do_handshake
        return context.explain(handshake) if isinstance(context, TpmContext) else handshake()


def client_context(
    *,
    anchors_pem: str,
    chain: Sequence[bytes] = (),
    key: TlsKey | None = None,
    check: CheckTime = SYSTEM_TIME,
    self_test: bool = True,
) -> TpmContext:
    """Return the context for a connection to our server or broker.

    anchors_pem: the pinned roots; nothing else is trusted. chain, key: our identity, both or neither (the door for
    enrollments wants none). check: when to judge the peer's certificates (clock.Clock.check_times). self_test: one
    handshake in memory, hence one signature, before the key is trusted to be the certificate's.
    Raise TlsKeyFailed; __cause__ is the TpmError where there is one.
    """
    context = _new(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=anchors_pem)
    except ssl.SSLError as error:
        raise TlsKeyFailed(f"the pinned anchors can't be read: {error}") from error
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.judge_at(check)
    if key is not None:
        if self_test:
            shake_hands_with_itself(chain, key)
        context.use_key(chain, key)
    return context


def shake_hands_with_itself(chain: Sequence[bytes], key: TlsKey) -> None:
    """Prove that `key` signs for `chain`: a TLS 1.3 handshake over memory BIOs. Raise TlsKeyFailed. One signature.

    The key plays the server, whose signature a client checks even if it trusts no CA at all.
    """
    server = _new(ssl.PROTOCOL_TLS_SERVER)
    server.use_key(chain, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    try:
        for _flight in range(4):
            ends = [end for end in ends if not _shaken(end)]
    except ssl.SSLError as error:
        if isinstance(error, TlsKeyFailed):
            raise
        raise TlsKeyFailed(f"a handshake with itself failed: {error}") from error
    if ends:
        raise TlsKeyFailed("a handshake with itself came to no end")


def _shaken(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _new(protocol: int) -> TpmContext:
    context = TpmContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.sslsocket_class, context.sslobject_class = _TpmSocket, _TpmObject
    return context


def _need(stack: ExitStack, decode: Any, free: Any, der: bytes) -> int:
    made: int | None = decode(None, ctypes.byref(BYTES(der)), len(der))
    if not made:
        raise TlsKeyFailed(f"the key or a certificate can't be read: {openssl.shared().take_reason()}")
    stack.callback(free, made)
    return made


def _check(outcome: int, complaint: str) -> None:
    if outcome != 1:
        raise TlsKeyFailed(f"{complaint}: {openssl.shared().take_reason()}")
