"""A quote: what the TPM says of its PCRs, fresh and by the AK.

Here it is proven that the quote covers the PCRs that were asked for, in the SHA-256 bank. Which digest is welcome is a
policy of the model, judged by who holds reference values; the digest is in the evidence until then.
Source: TPM 2.0 Library Part 3 §18.4.
"""

from dataclasses import InitVar, dataclass
from typing import Final

from birthmark_server.attestation.ak import AttestationKey, verify_statement
from birthmark_server.attestation.errors import AttestType, QuotePcrs
from birthmark_server.tpm.attest import Clock, QuoteInfo
from birthmark_wire.tpm_templates import ALG_SHA256

_SEAL: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedQuote:
    """The PCRs of one boot of one TPM. Only `verify_quote` builds one.

    pcr_digest: hash over the concatenated values of `pcrs`, by the AK's scheme. firmware_version: the vendor's 64 bits.
    """

    pcrs: tuple[int, ...]
    pcr_digest: bytes
    clock: Clock
    firmware_version: int
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        """Refuse to be built by anyone else."""
        if seal is not _SEAL:
            raise TypeError("only verify_quote makes a VerifiedQuote")


def verify_quote(
    ak: AttestationKey, *, attest: bytes, signature: bytes, qualifying_data: bytes, pcrs: tuple[int, ...]
) -> VerifiedQuote:
    """Prove a quote over exactly `pcrs` (rising) of the SHA-256 bank. Raises as `verify_statement`, AttestType,
    QuotePcrs."""
    statement = verify_statement(ak, attest=attest, signature=signature, qualifying_data=qualifying_data)
    quoted = statement.attested
    if not isinstance(quoted, QuoteInfo):
        raise AttestType("want a quote, got a certify statement")
    banks = [(bank.hash_alg, bank.pcrs()) for bank in quoted.selections]
    if banks != [(ALG_SHA256, pcrs)]:
        raise QuotePcrs(f"want PCRs {pcrs} of the SHA-256 bank, got {banks}")
    return VerifiedQuote(
        pcrs=pcrs,
        pcr_digest=quoted.pcr_digest,
        clock=statement.clock,
        firmware_version=statement.firmware_version,
        seal=_SEAL,
    )
