"""`birthmark-smp-tcti`: programs that nobody here changed reach the TPM behind a microcontroller."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from birthmark_agent.tpm.device import Tpm
from birthmark_wire.tpm_templates import AK, BIRTH_KEY
from support.smp_board import group64
from support.smp_peer import HangUp, peer
from support.tpm_stock import TpmStock

pytestmark = pytest.mark.parts

TCTI = Path(sys.executable).with_name("birthmark-smp-tcti")
GET_RANDOM = bytes.fromhex("80010000000c0000017b0008")
FAILURE = bytes.fromhex("80010000000a00000101")
NO_SUCH_COMMAND = bytes.fromhex("80010000000a00000143")


def tcti(address: str, commands: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run it as libtss2-tcti-cmd does."""
    return subprocess.run([TCTI, address], input=commands, capture_output=True, timeout=100)


def tool(address: str, *command: str, cwd: Path) -> str:
    """Run a program of tpm2-tools."""
    environment = os.environ | {"TPM2TOOLS_TCTI": f"cmd:{TCTI} {address}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, cwd=cwd)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def address(tmp_path: Path, stock: TpmStock) -> Iterator[str]:
    """Where a TPM can be had by our group."""
    with stock.copy(0, tmp_path / "tpm").running() as tpm, group64(tpm) as (_, board):
        yield board.address


# -- what goes well


def test_tpm2_tools_read_the_ek_certificate_activate_a_credential_and_quote(
    address: str, stock: TpmStock, tmp_path: Path
) -> None:
    """The same commands as on any computer: no resource manager, so what is loaded is flushed after each."""

    def run(*command: str) -> str:
        return tool(address, *command, cwd=tmp_path)

    def flush() -> None:
        run("tpm2_flushcontext", "-t")

    run("tpm2_getekcertificate", "-o", "ek.der")
    issuer = x509.load_der_x509_certificate((tmp_path / "ek.der").read_bytes()).issuer
    assert issuer == x509.load_pem_x509_certificate(stock.vendor.intermediate_pem.read_bytes()).subject

    run("tpm2_createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub")
    flush()
    run("tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", "ecc", "-g", "sha256", "-s", "ecdsa", "-u", "ak.pem",
        "-f", "pem", "-n", "ak.name")  # fmt: skip
    flush()
    (tmp_path / "secret").write_bytes(b"0123456789abcdef")
    name = (tmp_path / "ak.name").read_bytes().hex()
    run("tpm2_makecredential", "-T", "none", "-u", "ek.pub", "-s", "secret", "-n", name, "-o", "credential")
    run("tpm2_startauthsession", "--policy-session", "-S", "session")
    run("tpm2_policysecret", "-S", "session", "-c", "e")
    run("tpm2_activatecredential", "-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential", "-o", "out", "-P",
        "session:session")  # fmt: skip
    assert (tmp_path / "out").read_bytes() == b"0123456789abcdef"
    run("tpm2_flushcontext", "session")
    flush()
    run("tpm2_quote", "-c", "ak.ctx", "-l", "sha256:0,7", "-q", "deadbeef", "-m", "q.msg", "-s", "q.sig", "-o", "q.pcr",
        "-g", "sha256")  # fmt: skip
    run(
        "tpm2_checkquote", "-u", "ak.pem", "-m", "q.msg", "-s", "q.sig", "-f", "q.pcr", "-g", "sha256", "-q", "deadbeef"
    )


def test_the_agents_own_code_certifies_its_birth_key(address: str) -> None:
    with Tpm.open(f"cmd:{TCTI} {address}") as tpm:
        assert 0x01C00002 in dict(tpm.endorsement_certificates())
        with tpm.primary(AK) as ak, tpm.primary(BIRTH_KEY) as key:
            attest, _signature = tpm.certify(key, ak, b"q" * 32)
            name = key.name
        assert name in attest


def test_what_a_killed_client_left_loaded_is_flushed_by_the_next(address: str) -> None:
    """A bare TPM has three slots: after three clients that were killed it would be full."""
    for _ in range(4):
        tpm = Tpm.open(f"cmd:{TCTI} {address}")
        tpm.primary(AK)
        tpm.close()


# -- what goes wrong


def test_a_locked_board_gives_a_tpms_failure_and_says_why() -> None:
    with peer(lambda _: {"err": {"group": 64, "rc": 2}}) as board:
        done = tcti(board.address, GET_RANDOM * 2)
    assert done.stdout == FAILURE * 2
    assert b"the board is locked (board-locked)" in done.stderr
    assert done.returncode == 0


def test_a_command_off_the_list_is_one_that_the_tpm_has_not() -> None:
    with peer(lambda _: {"err": {"group": 64, "rc": 1}}) as board:
        done = tcti(board.address, GET_RANDOM)
    assert done.stdout == NO_SUCH_COMMAND
    assert b"TPM command 0x17b: not on the board's list" in done.stderr


def test_a_board_that_hangs_up_is_asked_once() -> None:
    def hang_up(_: object) -> bytes:
        raise HangUp

    with peer(hang_up) as board:
        done = tcti(board.address, GET_RANDOM * 3)
        assert board.asked == [(64, 1)]
    assert done.stdout == FAILURE * 3
    assert b"(cable)" in done.stderr


def test_an_address_of_no_known_form_is_said() -> None:
    done = tcti("COM3", GET_RANDOM)
    assert done.stdout == FAILURE
    assert b"want /dev/NAME, tcp:HOST:PORT or unix:PATH, got 'COM3' (bad-address)" in done.stderr


@pytest.mark.parametrize("commands", [GET_RANDOM[:7], GET_RANDOM[:11], bytes.fromhex("8001ffffffff0000017b")])
def test_what_is_no_command_ends_it(commands: bytes) -> None:
    done = tcti("unix:/nowhere", commands)
    assert (done.stdout, done.returncode) == (b"", 76)
    assert done.stderr.count(b"\n") == 1


def test_usage() -> None:
    done = subprocess.run([TCTI, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "usage: birthmark-smp-tcti ADDRESS" in done.stderr
