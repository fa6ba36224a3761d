"""Response codes become the errors that a caller can act on."""

import pytest

from birthmark_agent.errors import (
    AgentError,
    HierarchyOwned,
    KeyNotOfThisTpm,
    TpmBusy,
    TpmError,
    TpmFull,
    TpmLockout,
    TpmUnavailable,
)
from birthmark_agent.tpm.codes import to_error, tpm_code


@pytest.mark.parametrize(
    ("command", "rc", "kind"),
    [
        ("TPM2_Sign", 0x921, TpmLockout),
        ("TPM2_Sign", 0xB0921, TpmLockout),  # by way of the resource manager
        ("TPM2_CreatePrimary", 0x902, TpmFull),
        ("TPM2_NV_DefineSpace", 0x14B, TpmFull),
        ("TPM2_Sign", 0x922, TpmBusy),
        ("TPM2_NV_Write", 0x920, TpmBusy),
        ("TPM2_Sign", 0x101, TpmUnavailable),
        ("opening device:/dev/tpm0", 0xA000A, TpmUnavailable),
        ("TPM2_Create", 0x98E, HierarchyOwned),  # session 1: TPM_RC_AUTH_FAIL
        ("TPM2_EvictControl", 0x9A2, HierarchyOwned),  # session 1: TPM_RC_BAD_AUTH
        ("TPM2_Load", 0x1DF, KeyNotOfThisTpm),  # parameter 1: TPM_RC_INTEGRITY
        ("TPM2_ActivateCredential", 0x1DF, TpmError),
        ("TPM2_Load", 0x902, TpmFull),
        ("TPM2_Sign", 0x70001, TpmError),  # the ESAPI's own
    ],
)
def test_code_becomes_the_error(command: str, rc: int, kind: type[TpmError]) -> None:
    error = to_error(command, rc, "words")
    assert type(error) is kind
    assert error.rc == rc
    assert str(error) == f"{command}: words (0x{rc:x})"


def test_complaint_about_handle_parameter_or_session_does_not_hide_the_code() -> None:
    assert [tpm_code(rc) for rc in (0x08B, 0x18B, 0x28B, 0x1CB, 0x98B)] == [0x08B] * 5
    assert tpm_code(0xA000A) == 0


def test_every_error_has_a_code_of_its_own() -> None:
    def tree(kind: type[AgentError]) -> list[type[AgentError]]:
        return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]

    ours = [kind for kind in tree(AgentError) if kind.__module__ == "birthmark_agent.errors"]
    assert len({kind.code for kind in ours}) == len(ours)
