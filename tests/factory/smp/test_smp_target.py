"""The smp: target against a real server, a real broker and a real TPM; without a board around the TPM.

The whole of it, with a board, is in test_smp_unit.py.
"""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from birthmark_server.domain import ManifestEntry
from birthmark_server.factory.desk import ServerUnreachable, Standing
from birthmark_server.factory.errors import FactoryError
from birthmark_server.factory.smp import errors
from birthmark_server.factory.smp.agent import AgentServer
from birthmark_server.factory.smp.image import read_image_key
from birthmark_server.factory.smp.target import SmpTarget
from birthmark_server.tpm.public import parse_public
from factory.smp.desk import StoreDesk
from support.agent_site import MODEL, AgentSite, ek_sha256
from support.mcu_image import ImageSigner
from support.server import Server, now
from support.smp_board import Group64, group64
from support.swtpm import Swtpm
from support.tpm_stock import TpmStock

pytestmark = pytest.mark.parts

LIMIT = timedelta(seconds=90)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, stock: TpmStock) -> Iterator[AgentSite]:
    with AgentSite.create(tmp_path_factory.mktemp("site"), stock=stock) as made:
        yield made


@pytest.fixture(scope="module")
def server(site: AgentSite) -> Iterator[Server]:
    _port, lines = site.installation.broker_lines(site.broker.port).split("\n", 1)
    with site.server(extra=lines) as running:
        yield running


class NoNews(StoreDesk):
    """Of a server that hears nothing over the broker."""

    def device(self, serial: str) -> Standing | None:
        found = super().device(serial)
        return found and replace(found, last_seen_at=None)


@dataclass
class Bench:
    """A place for boards, as a station has it."""

    site: AgentSite
    folder: Path
    stack: ExitStack

    def board(self, serial: str, *, listed: bool = True) -> tuple[Group64, SmpTarget, Swtpm]:
        """A board with a TPM of its own, and the target for it."""
        tpm = self.site.stock.copy(int(serial.rpartition("-")[2]), self.folder / f"tpm-{serial}")
        self.stack.enter_context(tpm.running())
        state, peer = self.stack.enter_context(group64(tpm))
        installation = self.site.installation
        if listed:
            entry = ManifestEntry(ek_sha256(tpm), serial, MODEL.name, f"dev-{serial.lower()}", "test", now())
            installation.store.import_manifest([entry])
        return state, self.target(peer.address, serial), tpm

    def target(self, address: str, serial: str) -> SmpTarget:
        """A target for that address."""
        installation = self.site.installation
        signer = ImageSigner.create(self.folder)
        target = SmpTarget(
            address,
            serial=serial,
            folder=self.folder / f"unit-{serial}",
            key=read_image_key(signer.public),
            server=AgentServer(f"https://localhost:{installation.port}", installation.pki.root_pem, MODEL.ek_template),
            desk=StoreDesk(installation.store),
        )
        self.stack.callback(target.close)
        return target


@pytest.fixture
def bench(site: AgentSite, tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(site, tmp_path, stack)


def test_a_board_is_born_says_hello_over_the_broker_and_is_locked(bench: Bench, server: Server) -> None:
    state, target, tpm = bench.board("SM-1")
    seen_as = target.identify(limit=LIMIT)
    assert hashlib.sha256(parse_public(seen_as.ek_public).spki()).hexdigest() == ek_sha256(tpm)
    assert (seen_as.firmware, seen_as.mac) == ("firmware/1.2.0", "02:00:00:00:00:01")
    csr = x509.load_der_x509_csr(seen_as.csr)
    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() == "2.5.4.5=SM-1"
    born = target.attest(limit=LIMIT)
    assert born.device_id == "dev-sm-1"
    certificate = x509.load_der_x509_certificate(born.certificate)
    assert certificate.not_valid_after_utc.year == 9999
    assert certificate.public_key() == csr.public_key()
    seen = target.self_test(limit=LIMIT)
    assert (seen["device_id"], seen["broker"]) == ("dev-sm-1", f"localhost:{bench.site.broker.port}")
    assert target.lock() == {"mode": "locked", "firmware": "1.2.0", "tpm": "refused"}
    assert state.mode == "locked"
    assert target.lock()["mode"] == "locked", "after a power cut it is asked again"
    with pytest.raises(errors.BoardLocked):
        target.identify(limit=LIMIT)


def test_a_board_that_was_born_is_born_again_as_the_same(bench: Bench, server: Server) -> None:
    """The station lost its folder and starts anew: the server gives the same certificate."""
    _state, target, _tpm = bench.board("SM-2")
    first = target.attest(limit=LIMIT)
    again = bench.target(target._address, "SM-2")
    (bench.folder / "unit-SM-2").rename(bench.folder / "lost")
    (bench.folder / "unit-SM-2").mkdir()
    (bench.folder / "lost" / "agent.toml").rename(bench.folder / "unit-SM-2" / "agent.toml")
    assert again.attest(limit=LIMIT) == first


def test_a_board_that_nobody_expects_is_refused_with_the_servers_words(bench: Bench, server: Server) -> None:
    _state, target, _tpm = bench.board("SM-3", listed=False)
    with pytest.raises(errors.AttestationRefused, match="manifest") as refused:
        target.attest(limit=LIMIT)
    assert refused.value.fails


def test_without_the_server_the_unit_waits(bench: Bench, tmp_path: Path) -> None:
    state, target, _tpm = bench.board("SM-4", listed=False)
    alone = SmpTarget(
        target._address,
        serial="SM-4",
        folder=tmp_path / "alone",
        key=target._key,
        server=AgentServer("https://localhost:9", bench.site.installation.pki.root_pem),
        desk=StoreDesk(bench.site.installation.store),
    )
    with pytest.raises(ServerUnreachable):
        alone.attest(limit=LIMIT)
    assert state.mode == "factory"


def test_an_agent_that_is_never_heard_ends_with_its_limit(bench: Bench, server: Server) -> None:
    _state, target, _tpm = bench.board("SM-5")
    target.attest(limit=LIMIT)

    target._desk = NoNews(bench.site.installation.store)
    with pytest.raises(errors.NotSeen):
        target.self_test(limit=timedelta(seconds=3))


# -- TPMs


def test_a_tpm_in_lockout_is_refused_before_anything_is_asked_of_it(bench: Bench) -> None:
    _state, target, tpm = bench.board("SM-6", listed=False)
    tpm.lock_out()
    with pytest.raises(errors.TpmLockedOut) as refused:
        target.identify(limit=LIMIT)
    assert "lockout" in refused.value.next_step


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 40, bytes.fromhex("8001000000ff00000000")])
def test_a_tpm_that_answers_garbage_is_named_so(garbage: bytes, bench: Bench) -> None:
    state, target, _tpm = bench.board("SM-7", listed=False)
    state.ask = lambda _: garbage
    with pytest.raises(errors.TpmFailed, match="no TPM response"):
        target.identify(limit=LIMIT)


def test_a_tpm_that_breaks_midway_is_named_so(bench: Bench, server: Server) -> None:
    state, target, _tpm = bench.board("SM-8")
    well = state.ask

    def break_at_create_primary(command: bytes) -> bytes:
        return b"\x00" * 10 if command[6:10] == bytes.fromhex("00000131") else well(command)

    state.ask = break_at_create_primary
    with pytest.raises(errors.TpmFailed, match="the TPM answers 0000") as failed:
        target.attest(limit=LIMIT)
    assert failed.value.next_step.startswith("Look at the TPM")


# -- the wrong board, and one that is let go of


def test_another_units_board_is_named(bench: Bench) -> None:
    state, target, _tpm = bench.board("SM-9", listed=False)
    state.who["serial"] = "SM-99"
    for phase in (lambda: target.identify(limit=LIMIT), target.lock):
        with pytest.raises(errors.OtherBoard, match="want the board with the record of SM-9, this one is SM-99"):
            phase()
    assert state.mode == "factory"


def test_firmware_that_finds_its_own_signature_bad_is_refused(bench: Bench) -> None:
    state, target, _tpm = bench.board("SM-10", listed=False)
    state.who["sig"] = "bad"
    with pytest.raises(errors.WrongFirmware):
        target.identify(limit=LIMIT)


def test_a_board_that_says_locked_and_is_not_fails(bench: Bench) -> None:
    state, target, _tpm = bench.board("SM-11", listed=False)
    state.lies = True
    with pytest.raises(errors.NotLocked):
        target.lock()


def test_closing_a_target_ends_what_it_is_at(bench: Bench, server: Server) -> None:
    _state, target, _tpm = bench.board("SM-12")
    target.attest(limit=LIMIT)
    threading.Timer(2.0, target.close).start()
    target._desk = NoNews(bench.site.installation.store)
    began = time.monotonic()
    with pytest.raises(FactoryError):
        target.self_test(limit=timedelta(seconds=90))
    assert time.monotonic() - began < 60
