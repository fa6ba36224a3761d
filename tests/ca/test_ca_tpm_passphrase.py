"""The CA's passphrase sealed in the server's own TPM (an emulated one), unsealed at start by Debian's tpm2-tools."""

import os
import subprocess
from pathlib import Path

import pytest

from birthmark_server.ca import passphrase
from birthmark_server.ca.errors import PassphraseUnavailable
from support.pki import PASSPHRASE
from support.swtpm import VendorCa

pytestmark = pytest.mark.parts

HANDLE = "0x81000010"


def test_a_passphrase_sealed_in_the_machines_tpm_is_unsealed_at_start(tmp_path: Path) -> None:
    ca = VendorCa.create(tmp_path / "vendor")
    with ca.make(tmp_path / "tpm").running() as tpm:
        environment = {**os.environ, "TPM2TOOLS_TCTI": tpm.tcti}

        def tool(*command: str, data: bytes = b"") -> None:
            done = subprocess.run(
                command, input=data, env=environment, cwd=tmp_path, capture_output=True, timeout=60, check=False
            )
            assert done.returncode == 0, (command, done.stderr.decode())

        tool("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "primary.ctx")
        tool("tpm2_create", "-Q", "-C", "primary.ctx", "-i", "-", "-u", "key.pub", "-r", "key.priv", data=PASSPHRASE)
        tool("tpm2_flushcontext", "-t")  # a TPM has three slots for objects, and nothing here manages them
        tool("tpm2_load", "-Q", "-C", "primary.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
        tool("tpm2_flushcontext", "-t")
        tool("tpm2_evictcontrol", "-Q", "-C", "o", "-c", "key.ctx", HANDLE)
        assert passphrase.read(f"command:tpm2_unseal -Q -T {tpm.tcti} -c {HANDLE}") == PASSPHRASE
    with pytest.raises(PassphraseUnavailable, match="tpm2_unseal failed"):
        passphrase.read(f"command:tpm2_unseal -Q -T {tpm.tcti} -c {HANDLE}")
