"""Emulated TPMs (swtpm) with a vendor's CA of their own: real parts for tests, the demo and the benchmark.

No pytest in here. One `VendorCa` signs the EK certificates of many TPMs; making them is parallelisable
(swtpm_localca takes a file lock of its own around its CA): on two cores 0.7 s for one, 1.4 s for eight at once.

    ca = VendorCa.create(folder / "vendor")
    with ca.make(folder / "tpm-1").running() as tpm:
        Tpm.open(tpm.tcti)

What one gets is what a TPM vendor ships: EKs RSA 2048 and P-384 with their certificates at 0x01C00002 and 0x01C00016,
and the vendor's intermediate certificate at 0x01C00100, as TPMs with an on-die CA carry it; so `ca.root_pem` alone is
enough to verify. Needs Debian's swtpm and swtpm-tools. The TPM speaks over a Unix socket: no port to collide on. It
serves one client at a time, and the next one waits until the first is gone.

The emulator dies with whoever started it, even by SIGKILL, and Ctrl-C does not reach it: it is its owner's to stop. The
kernel takes the *thread* that started it for its owner (prctl(2), PR_SET_PDEATHSIG): start it in one that stays.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("TSS2_LOG", "all+NONE")

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2B_NV_PUBLIC,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_NV,
    TPMS_NV_PUBLIC,
    TPMS_SENSITIVE_CREATE,
    TPMT_SIG_SCHEME,
    TSS2_Exception,
)

CHAIN_NV_INDEX: Final = 0x01C00100
MOST_RUN_BYTES: Final = 107 - len("/tpm.ctrl")
"""A Unix socket's path has at most 107 bytes (unix(7)), and a test's folder is often longer."""
_DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "--")
_START_TIMEOUT_S: Final = 60.0
_SETUP_TIMEOUT_S: Final = 60.0


class SwtpmFailed(RuntimeError):
    """An emulator's program did not do its work; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class VendorCa:
    """A TPM vendor: root and intermediate, made by swtpm_localca when the first TPM is made."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> "VendorCa":
        """Prepare a CA in `folder` (created; made absolute, as swtpm's tools want it)."""
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "localca.conf").write_text(
            f"statedir = {folder}\n"
            f"signingkey = {folder}/signkey.pem\n"
            f"issuercert = {folder}/issuercert.pem\n"
            f"certserial = {folder}/certserial\n"
        )
        (folder / "localca.options").write_text(
            "--platform-manufacturer Birthmark\n--platform-version 1.0\n--platform-model emulated\n"
        )
        (folder / "setup.conf").write_text(
            f"create_certs_tool = {_program('swtpm_localca')}\n"
            f"create_certs_tool_config = {folder}/localca.conf\n"
            f"create_certs_tool_options = {folder}/localca.options\n"
            "active_pcr_banks = sha256\n"
        )
        return cls(folder)

    @property
    def root_pem(self) -> Path:
        """The vendor's root certificate: what a server's trust store is given. There once a TPM was made."""
        return self.folder / "swtpm-localca-rootca-cert.pem"

    @property
    def intermediate_pem(self) -> Path:
        """The certificate of the CA that signs the EK certificates."""
        return self.folder / "issuercert.pem"

    def make(self, state: Path, *, chain_in_nv: bool = True, run: Path | None = None) -> "Swtpm":
        """Make a TPM whose state is kept in `state` (created), with EKs and EK certificates; it is not running yet.

        chain_in_nv: keep the intermediate at CHAIN_NV_INDEX. run: see Swtpm. Safe to call from several threads or
        processes at once.
        """
        state = state.resolve()
        state.mkdir(parents=True)
        log = state / "setup.log"
        command = [_program("swtpm_setup"), "--tpm2", "--tpmstate", str(state), "--createek", "--create-ek-cert"]
        command += ["--lock-nvram", "--ecc", "--config", str(self.folder / "setup.conf"), "--logfile", str(log)]
        done = subprocess.run(
            [*_DIES_WITH_US, *command],
            capture_output=True,
            timeout=_SETUP_TIMEOUT_S,
            check=False,
            env={**os.environ, "TMPDIR": str(state)},  # where it is left behind if it is killed
            process_group=0,
        )
        if done.returncode != 0:
            raise SwtpmFailed(f"swtpm_setup ended with {done.returncode}\n{_read(log)}")
        tpm = Swtpm(state, run=run)
        if chain_in_nv:
            intermediate = x509.load_pem_x509_certificate(self.intermediate_pem.read_bytes())
            with tpm.running():
                tpm.write_vendor_nv(CHAIN_NV_INDEX, intermediate.public_bytes(Encoding.DER))
        return tpm


class Swtpm:
    """One emulated TPM. Its state outlives the process: stop() and start() are a power cycle.

    run: folder for its sockets, there while it runs; at most MOST_RUN_BYTES long. By default a short one in /tmp.
    """

    def __init__(self, state: Path, *, run: Path | None = None) -> None:
        self.state = state.resolve()
        self._process: subprocess.Popen[bytes] | None = None
        self._run = run or Path(tempfile.gettempdir()) / f"swtpm-{secrets.token_hex(6)}"

    @property
    def tcti(self) -> str:
        """What Tpm.open, tpm2-tools (TPM2TOOLS_TCTI) and tpm2-openssl (TPM2OPENSSL_TCTI) take. Never changes."""
        return f"swtpm:path={self._run}/tpm"

    @property
    def pid(self) -> int | None:
        """The emulator's process id while it runs."""
        return None if self._process is None else self._process.pid

    def copy(self, state: Path) -> "Swtpm":
        """Return a TPM with a copy of this one's state: the same EKs, the same keys. Quick; this one must be stopped.

        For tests that need a TPM but not another device: two copies look like one device in two places.
        """
        if self._process is not None:
            raise SwtpmFailed("stop the TPM before its state is copied")
        shutil.copytree(self.state, state)
        return Swtpm(state)

    def start(self) -> None:
        """Power on (TPM2_Startup(CLEAR)); returns when the TPM listens. Starting a running one is an error."""
        if self._process is not None:
            raise SwtpmFailed("this TPM runs already")
        self._run.mkdir(mode=0o700)
        data, control = self._run / "tpm", self._run / "tpm.ctrl"
        log = self.state / "swtpm.log"
        command = [_program("swtpm"), "socket", "--tpm2", "--tpmstate", f"dir={self.state}"]
        command += ["--server", f"type=unixio,path={data}", "--ctrl", f"type=unixio,path={control}"]
        command += ["--flags", "not-need-init,startup-clear", "--log", f"file={log}"]
        self._process = subprocess.Popen(
            [*_DIES_WITH_US, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not (_listens(control) and _listens(data)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SwtpmFailed(f"swtpm does not listen on {data}\n{_read(log)}")
            time.sleep(0.005)

    def stop(self, *, orderly: bool = False) -> None:
        """Power off, by process id: without a word (SIGKILL), or after TPM2_Shutdown. Stopping a stopped one is fine.

        A real board seldom says TPM2_Shutdown, so the power cut is the default.
        """
        if self._process is None:
            return
        if orderly:
            self.do(lambda esapi: esapi.shutdown(0))
        self._process.kill()
        self._process.wait()
        self._process = None
        shutil.rmtree(self._run)

    def close(self) -> None:
        """Stop; the state stays where it is."""
        self.stop()

    def restart(self, *, orderly: bool = False) -> None:
        """Power cycle: transient keys and sessions are gone, NV and persistent keys stay."""
        self.stop(orderly=orderly)
        self.start()

    @contextmanager
    def running(self) -> Iterator["Swtpm"]:
        """Run for the length of a with block."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def do(self, work: Callable[[ESAPI], Any]) -> Any:
        """Run `work` on a connection of its own. No other client may be connected, or this waits for it."""
        esapi = ESAPI(self.tcti)
        try:
            return work(esapi)
        finally:
            esapi.close()

    def clear(self) -> None:
        """TPM2_Clear, as a platform's firmware menu does it: owner hierarchy, its keys and its NV indices are gone."""
        self.do(lambda esapi: esapi.clear(ESYS_TR.RH_PLATFORM))

    def lock_out(self) -> None:
        """Bring the TPM into dictionary-attack lockout; it stays there for a day, or until end_lockout()."""
        self.do(_lock_out)

    def end_lockout(self) -> None:
        """TPM2_DictionaryAttackLockReset."""
        self.do(lambda esapi: esapi.dictionary_attack_lock_reset(ESYS_TR.RH_LOCKOUT))

    def write_vendor_nv(self, index: int, data: bytes) -> None:
        """Write an NV index as the vendor's line does: under the platform hierarchy, readable by everyone."""
        self.do(lambda esapi: _write_nv(esapi, index, data))

    def erase_vendor_nv(self, index: int) -> None:
        """Remove an NV index of the vendor's, say an EK certificate."""

        def erase(esapi: ESAPI) -> None:
            esapi.nv_undefine_space(esapi.tr_from_tpmpublic(index), auth_handle=ESYS_TR.RH_PLATFORM)

        self.do(erase)

    def objects(self) -> int:
        """Return how many transient objects and loaded sessions the TPM holds: what a client has not flushed."""
        return int(self.do(lambda esapi: len(_handles(esapi, 0x80000000)) + len(_handles(esapi, 0x02000000))))


def _handles(esapi: ESAPI, first: int) -> list[int]:
    """Transient objects from 0x80000000, loaded sessions from 0x02000000 (policy sessions are 0x03...)."""
    _more, data = esapi.get_capability(TPM2_CAP.HANDLES, first, 32)
    handles = [int(handle) for handle in data.data.handles]
    return [handle for handle in handles if handle >> 24 in {first >> 24, 0x03}]


def _write_nv(esapi: ESAPI, index: int, data: bytes) -> None:
    attributes = TPMA_NV.PPWRITE | TPMA_NV.PPREAD | TPMA_NV.OWNERREAD | TPMA_NV.AUTHREAD | TPMA_NV.NO_DA
    public = TPMS_NV_PUBLIC(
        nvIndex=index, nameAlg=0x000B, attributes=attributes | TPMA_NV.PLATFORMCREATE, dataSize=len(data)
    )
    handle = esapi.nv_define_space(b"", TPM2B_NV_PUBLIC(nvPublic=public), auth_handle=ESYS_TR.RH_PLATFORM)
    for offset in range(0, len(data), 512):
        esapi.nv_write(handle, data[offset : offset + 512], offset, auth_handle=ESYS_TR.RH_PLATFORM)


def _lock_out(esapi: ESAPI) -> None:
    esapi.dictionary_attack_parameters(1, 86_400, 86_400, lock_handle=ESYS_TR.RH_LOCKOUT)
    protected = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=b"right"))
    template = TPM2B_PUBLIC.parse(
        "ecc256", objectAttributes="fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"
    )
    key, *_ = esapi.create_primary(protected, template, ESYS_TR.RH_OWNER)
    esapi.tr_set_auth(key, b"wrong")
    try:
        with suppress(TSS2_Exception):
            esapi.sign(key, bytes(32), TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL))
    finally:
        esapi.flush_context(key)


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SwtpmFailed(f"{name} is not on PATH: install Debian's swtpm and swtpm-tools")
    return path


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _read(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"
