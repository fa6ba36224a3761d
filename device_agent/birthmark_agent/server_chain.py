"""A chain of our infrastructure that came by another way than a handshake, judged as a handshake would judge it.

The same OpenSSL, and the same trust, flags and moment as a context's own: no second reading of RFC 5280 that could be
more lenient than the first.
"""

import ctypes
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import ip_address

from birthmark_agent import openssl
from birthmark_agent.errors import AgentError
from birthmark_agent.openssl import BYTES, OpenSsl
from birthmark_agent.tls import TpmContext


class ChainRefused(AgentError):
    """The chain does not lead to a pinned root, or is not good for that host, purpose or moment."""

    code = "chain-refused"
    advice = "check that server.anchors is this server's root, and that its certificate names the host of server.url"


def verify_server_chain(context: TpmContext, chain: Sequence[bytes], *, host: str) -> None:
    """Verify a chain (leaf first, DER) for a TLS server named `host`, a DNS name or an address. Raise ChainRefused.

    context: a client's, by its anchors and the moment at which it judges. Proves nothing about who sent the chain.
    """
    _verify(context, chain, purpose=b"ssl_server", host=host)


def verify_signer_chain(context: TpmContext, chain: Sequence[bytes]) -> None:
    """Verify a chain (leaf first, DER) of who signs messages. Raise ChainRefused.

    context: as above. Proves nothing about who sent the chain, nor what the leaf may sign: its key purpose says that.
    """
    _verify(context, chain, purpose=b"default")


def _verify(context: TpmContext, chain: Sequence[bytes], *, purpose: bytes, host: str = "") -> None:
    library = openssl.shared()
    ssl_ctx = library.context_pointer(context)
    with ExitStack() as stack:
        leaf, *above = [_certificate(library, stack, der) for der in chain]
        untrusted = library.stack_new()
        stack.callback(library.stack_free, untrusted)
        for certificate in above:
            library.stack_push(untrusted, certificate)
        store_ctx = library.store_ctx_new()
        stack.callback(library.store_ctx_free, store_ctx)
        _done(library.store_ctx_init(store_ctx, library.ctx_get_cert_store(ssl_ctx), leaf, untrusted))
        _ask_as_a_client(library, ssl_ctx, store_ctx, purpose)
        if host:
            _ask_for_the_name(library, store_ctx, host)
        if library.verify_cert(store_ctx) != 1:
            reason = library.verify_error(library.store_ctx_get_error(store_ctx))
            library.take_reason()
            raise ChainRefused((reason or b"no reason given").decode("ascii", "replace"))


def _ask_as_a_client(library: OpenSsl, ssl_ctx: int, store_ctx: int, purpose: bytes) -> None:
    """What libssl does before it verifies a peer (ssl_verify_cert_chain). purpose: of OpenSSL's own table."""
    param = library.store_ctx_get0_param(store_ctx)
    library.param_set_auth_level(param, library.ctx_get_security_level(ssl_ctx))
    _done(library.store_ctx_set_default(store_ctx, purpose))
    _done(library.param_set1(param, library.ctx_get0_param(ssl_ctx)))


def _ask_for_the_name(library: OpenSsl, store_ctx: int, host: str) -> None:
    """What `ssl` does for a server's name (_ssl.c)."""
    param = library.store_ctx_get0_param(store_ctx)
    library.param_set_host_flags(param, openssl.NO_PARTIAL_WILDCARDS | openssl.NEVER_CHECK_SUBJECT)
    if _is_address(host):
        _done(library.param_set1_ip(param, host.encode()))
    else:
        name = host.encode("idna")
        _done(library.param_set1_host(param, name, len(name)))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _certificate(library: OpenSsl, stack: ExitStack, der: bytes) -> int:
    start = BYTES(der)
    made: int | None = library.d2i_x509(None, ctypes.byref(start), len(der))
    if not made:
        raise ChainRefused(f"a certificate can't be read: {library.take_reason()}")
    stack.callback(library.x509_free, made)
    return made


def _done(outcome: int) -> None:
    if outcome != 1:
        raise ChainRefused(f"OpenSSL can't judge it: {openssl.shared().take_reason()}")
