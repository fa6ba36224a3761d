"""The few OpenSSL functions that Python's `ssl` does not offer, of the very library that `ssl` itself is linked with.

Loading by name ("libssl.so.3") might bring a second OpenSSL into the process, whose objects the first must not touch.
So symbols are looked up from the `_ssl` extension module: dlsym searches a library and what that library was linked
with. `cryptography` carries an OpenSSL of its own inside its wheel; it is not in that search.
"""

import _ssl
import ctypes
import ssl
from functools import cache
from typing import Any, Final

from birthmark_agent.errors import TlsKeyFailed

P: Final = ctypes.c_void_p
INT: Final = ctypes.c_int
LONG: Final = ctypes.c_long
BYTES: Final = ctypes.c_char_p
TIME: Final = getattr(ctypes, "c_time_t", ctypes.c_long)

SIGN: Final = ctypes.CFUNCTYPE(INT, INT, P, INT, P, P, P, P, P)
"""int sign(int type, const uint8_t *digest, int length, uint8_t *out, unsigned *out_length, ..., EC_KEY *)"""
VERIFY: Final = ctypes.CFUNCTYPE(INT, INT, P)
"""int verify(int preverify_ok, X509_STORE_CTX *)"""

CTRL_CHAIN_CERT: Final = 89  # SSL_CTX_add1_chain_cert is SSL_CTX_ctrl(ctx, 89, 1, x509)
VERIFY_PEER: Final = 1
ERROR_NOT_YET_VALID: Final = 9  # X509_V_ERR_CERT_NOT_YET_VALID
VERIFY_OK: Final = 0
NO_PARTIAL_WILDCARDS: Final = 0x4  # X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS
NEVER_CHECK_SUBJECT: Final = 0x20  # X509_CHECK_FLAG_NEVER_CHECK_SUBJECT


@cache
def shared() -> "OpenSsl":
    """Return the one object of this process. Raise TlsKeyFailed, as OpenSsl()."""
    return OpenSsl()


class OpenSsl:
    """The functions, with their types."""

    def __init__(self) -> None:
        """Raise TlsKeyFailed if this Python's OpenSSL can't be reached or lacks a function."""
        self._library = ctypes.CDLL(getattr(_ssl, "__file__", None))
        version = self._function("OpenSSL_version", BYTES, INT)
        if ssl.OPENSSL_VERSION_INFO < (3,) or version(0) != ssl.OPENSSL_VERSION.encode():
            raise TlsKeyFailed(f"want OpenSSL 3, shared with Python's ssl module; got {ssl.OPENSSL_VERSION}")
        pointer = ctypes.POINTER
        self.ec_key_openssl = self._function("EC_KEY_OpenSSL", P)
        self.ec_key_method_new = self._function("EC_KEY_METHOD_new", P, P)
        self.ec_key_method_set_sign = self._function("EC_KEY_METHOD_set_sign", None, P, SIGN, P, P)
        self.ec_key_set_method = self._function("EC_KEY_set_method", INT, P, P)
        self.ec_key_free = self._function("EC_KEY_free", None, P)
        self.d2i_ec_pubkey = self._function("d2i_EC_PUBKEY", P, P, pointer(BYTES), LONG)
        self.ecdsa_size = self._function("ECDSA_size", INT, P)
        self.evp_pkey_new = self._function("EVP_PKEY_new", P)
        self.evp_pkey_free = self._function("EVP_PKEY_free", None, P)
        self.evp_pkey_set1_ec_key = self._function("EVP_PKEY_set1_EC_KEY", INT, P, P)
        self.d2i_x509 = self._function("d2i_X509", P, P, pointer(BYTES), LONG)
        self.x509_free = self._function("X509_free", None, P)
        self.ctx_get_options = self._function("SSL_CTX_get_options", ctypes.c_uint64, P)
        self.ctx_get_verify_mode = self._function("SSL_CTX_get_verify_mode", INT, P)
        self.ctx_use_certificate = self._function("SSL_CTX_use_certificate_ASN1", INT, P, INT, BYTES)
        self.ctx_ctrl = self._function("SSL_CTX_ctrl", LONG, P, INT, LONG, P)
        self.ctx_use_private_key = self._function("SSL_CTX_use_PrivateKey", INT, P, P)
        self.ctx_check_private_key = self._function("SSL_CTX_check_private_key", INT, P)
        self.ctx_get0_param = self._function("SSL_CTX_get0_param", P, P)
        self.ctx_set_verify = self._function("SSL_CTX_set_verify", None, P, INT, VERIFY)
        self.param_set_time = self._function("X509_VERIFY_PARAM_set_time", None, P, TIME)
        self.ctx_get_cert_store = self._function("SSL_CTX_get_cert_store", P, P)
        self.ctx_get_security_level = self._function("SSL_CTX_get_security_level", INT, P)
        self.param_set1 = self._function("X509_VERIFY_PARAM_set1", INT, P, P)
        self.param_set1_host = self._function("X509_VERIFY_PARAM_set1_host", INT, P, BYTES, ctypes.c_size_t)
        self.param_set1_ip = self._function("X509_VERIFY_PARAM_set1_ip_asc", INT, P, BYTES)
        self.param_set_host_flags = self._function("X509_VERIFY_PARAM_set_hostflags", None, P, ctypes.c_uint)
        self.param_set_auth_level = self._function("X509_VERIFY_PARAM_set_auth_level", None, P, INT)
        self.stack_new = self._function("OPENSSL_sk_new_null", P)
        self.stack_push = self._function("OPENSSL_sk_push", INT, P, P)
        self.stack_free = self._function("OPENSSL_sk_free", None, P)
        self.verify_cert = self._function("X509_verify_cert", INT, P)
        self.verify_error = self._function("X509_verify_cert_error_string", BYTES, LONG)
        self.store_ctx_new = self._function("X509_STORE_CTX_new", P)
        self.store_ctx_free = self._function("X509_STORE_CTX_free", None, P)
        self.store_ctx_init = self._function("X509_STORE_CTX_init", INT, P, P, P, P)
        self.store_ctx_set_default = self._function("X509_STORE_CTX_set_default", INT, P, BYTES)
        self.store_ctx_get0_param = self._function("X509_STORE_CTX_get0_param", P, P)
        self.store_ctx_get_error = self._function("X509_STORE_CTX_get_error", INT, P)
        self.store_ctx_set_error = self._function("X509_STORE_CTX_set_error", None, P, INT)
        self._get_error = self._function("ERR_get_error", ctypes.c_ulong)
        self._clear_error = self._function("ERR_clear_error", None)
        self._reason = self._function("ERR_reason_error_string", BYTES, ctypes.c_ulong)

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise TlsKeyFailed(f"the OpenSSL of this Python ({ssl.OPENSSL_VERSION}) does not offer {name}") from None
        function.restype, function.argtypes = result, arguments
        return function

    def take_reason(self) -> str:
        """Return OpenSSL's reason for the last failure, and empty its queue: what stays would confuse `ssl` later."""
        reason = self._reason(self._get_error())
        self._clear_error()
        return reason.decode("ascii", "replace") if reason else "no reason given"

    def context_pointer(self, context: ssl.SSLContext) -> int:
        """Return the SSL_CTX of a context. Raise TlsKeyFailed if this interpreter lays SSLContext out differently.

        It is the first field after the object's head in every CPython since 3.2; two values that both sides know are
        compared before anything is written through it.
        """
        pointer = P.from_address(id(context) + object.__basicsize__).value
        if not pointer or pointer % ctypes.sizeof(P):
            raise TlsKeyFailed("this interpreter lays SSLContext out differently: no pointer where SSL_CTX should be")
        options = self.ctx_get_options(pointer) == int(context.options) & 0xFFFFFFFFFFFFFFFF
        if not options or bool(self.ctx_get_verify_mode(pointer) & VERIFY_PEER) != (context.verify_mode != 0):
            raise TlsKeyFailed("this interpreter lays SSLContext out differently: its options are not SSL_CTX's")
        return pointer
