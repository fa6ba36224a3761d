"""The gate's own C tests, its fuzzers for a few seconds each, and a busy broker under AddressSanitizer."""

import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.broker.denyfile import Denials, DenyList, encode
from birthmark_server.ca import oids
from gate.soak import asan, complaints, run_connects
from support.broker_pki import BrokerPki
from support.gate_site import Site, open_site
from support.mosquitto import GATE, build_gate
from support.mqtt_client import Client

pytestmark = pytest.mark.parts

FUZZ_SECONDS = int(os.environ.get("BIRTHMARK_FUZZ_SECONDS", "5"))


def make(*arguments: str) -> str:
    """Run make in the gate's folder, and return what it printed."""
    done = subprocess.run(["make", "-s", "-C", str(GATE), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_units_pass_under_both_sanitizers() -> None:
    build_gate("birthmark_gate.so")
    assert make("test").count("ok  ") >= 50


def test_the_plugin_is_hardened_and_exports_nothing_but_its_three_entries() -> None:
    plugin = build_gate()
    symbols = subprocess.run(["nm", "-D", "--defined-only", plugin], capture_output=True, text=True, check=True).stdout
    assert sorted(line.split()[-1] for line in symbols.splitlines()) == [
        "mosquitto_plugin_cleanup",
        "mosquitto_plugin_init",
        "mosquitto_plugin_version",
    ]
    headers = subprocess.run(["readelf", "-Wld", plugin], capture_output=True, text=True, check=True).stdout
    assert "GNU_RELRO" in headers
    assert "BIND_NOW" in headers
    stack = next(line for line in headers.splitlines() if "GNU_STACK" in line)
    assert "RWE" not in stack


@pytest.mark.parametrize("target", ["topics", "denyfile", "identity", "command", "signature"])
def test_any_bytes_are_read_or_refused(target: str, pki: BrokerPki, tmp_path: Path) -> None:
    program = build_gate(f"fuzz/{target}")
    corpus, seeds = tmp_path / "corpus", tmp_path / "seeds"
    corpus.mkdir()
    seeds.mkdir()
    for number, seed in enumerate(_seeds(target, pki)):
        (seeds / f"{number}").write_bytes(seed)
    done = subprocess.run(
        [program, f"-max_total_time={FUZZ_SECONDS}", "-verbosity=0", "-rss_limit_mb=1024", corpus, seeds],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def _seeds(target: str, pki: BrokerPki) -> list[bytes]:
    if target == "topics":
        lines = (Path(__file__).parent / "vectors" / "topics.txt").read_text().splitlines()
        return [b"\x00" + line.split(" ", 4)[4].encode() for line in lines if line.startswith(("device", "control"))]
    if target == "denyfile":
        return [encode(DenyList(1)), encode(DenyList.of(2, devices=["a", "b"], serials=["1f", "20"]))]
    if target == "command":
        return [b"7 list 100", b"8 stats", b"8 issuers", b"9 kick dev-1", b"10 revoke 1f2e 7", b"11 block dev-1 8"]
    if target == "signature":
        # Foreign to the fuzzer's own CA, so all of them must be refused; those that begin with s it signs itself.
        signed = pki.deny_signer.sign(encode(DenyList(1)))
        return [signed, b"s" + encode(DenyList(1)), b"s"]
    leaves = [
        pki.device("dev-1"),
        pki.control(),
        pki.broker(),
        pki.leaf(pki.fleet, ["a", "b"], uris=[pki.uri("a"), pki.uri("b")], purposes=[oids.CLIENT_AUTH]),
    ]
    ders = [leaf.certificate.public_bytes(Encoding.DER) for leaf in leaves]
    return [bytes([which]) + der for der in ders for which in range(3)]


def test_under_address_sanitizer_a_busy_broker_shows_nothing(pki: BrokerPki, tmp_path: Path) -> None:
    plugin = build_gate("asan/birthmark_gate.so")
    runtime = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    environment = {
        "LD_PRELOAD": str(Path(runtime.strip()).resolve()),
        # Mosquitto forgets some memory of its own at its end, so leaks are looked at below, and end nothing here.
        "ASAN_OPTIONS": "detect_leaks=1:fast_unwind_on_malloc=0:exitcode=0:abort_on_error=1:handle_abort=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    with open_site(pki, tmp_path / "broker", plugin=plugin, environment=environment) as broker:
        site = Site(pki, broker)
        _keep_busy(site)
        broker.reload()
        _keep_busy(site)
        log = _end(site)
    assert "ERROR: AddressSanitizer" not in log
    assert "runtime error" not in log
    leaks = [block for block in log.split("\n\n") if "leak of" in block]
    # The plugin is unloaded when leaks are looked for, so its frames have lost their names.
    ours = ("birthmark_gate", "unknown module", "libcrypto")
    assert not [leak for leak in leaks if any(name in leak for name in ours)]


@pytest.mark.parametrize("sanitized", [False, True])
def test_many_connections_leave_nothing_behind(tmp_path: Path, sanitized: bool) -> None:
    """The long run, in short: 800 connections of every kind, while lists, commands and SIGHUPs come and go."""
    how = asan() if sanitized else {}
    figures = run_connects(tmp_path, 800, **how)
    assert figures.wrong_answers == 0
    assert figures.complaints == 0
    if not sanitized:
        # A tenth was connected before the first reading: what grows after it grows with every connection.
        assert figures.rss_end_kib - figures.rss_begin_kib < 1024


def test_what_a_sanitizer_says_of_the_gate_is_heard() -> None:
    """What complaints() must find, as the programs write it, and what is Mosquitto's own."""
    ours = "Direct leak of 8 byte(s) in 1 object(s) allocated from:\n    #1 0x7f (<unknown module>)\n\n"
    theirs = "Direct leak of 8 byte(s) in 1 object(s) allocated from:\n    #1 0x7f in main (/usr/sbin/mosquitto)\n\n"
    valgrind = "\n==7== ".join(
        [
            "",
            "",
            "8 bytes in 1 blocks are definitely lost in loss record 1 of 2",
            "   by 0x1: lease_begin (lease.c:9)",
            "   by 0x2: gate_on_tick (changes.c:7)",
            "",
            "",
        ]
    )
    assert complaints(ours + theirs) == 1
    assert complaints(theirs) == 0
    assert complaints(valgrind) == 1
    assert complaints("x\nlease.c:3:1: runtime error: signed integer overflow\n") == 1
    assert complaints("==1==ERROR: AddressSanitizer: heap-use-after-free\n") == 1


def _end(site: Site) -> str:
    site.broker.stop()
    return site.broker.log()


def _keep_busy(site: Site) -> None:
    """Connect, publish, take over, be refused, be denied, be kicked, expire: some of everything."""
    pki, broker = site.pki, site.broker
    with site.connected(pki.control(), "srv-control") as server:
        server.subscribe("$share/birthmark/devices/+/up/#")
        clients: list[Client] = []
        for number in range(20):
            device_id = f"dev-{number}"
            lifetime = timedelta(seconds=2) if number % 5 == 4 else timedelta(hours=1)
            client = site.client(pki.device(device_id, lifetime=lifetime), device_id)
            client.will(f"devices/{device_id}/up/status", b"will")
            assert client.connect(session_expiry_s=60, clean_start=False).up
            client.subscribe(f"devices/{device_id}/down/#")
            client.subscribe("$share/x/#")
            clients.append(client)
        for number, client in enumerate(clients):
            client.publish(f"devices/dev-{number}/up/hello", b"x" * 1000)
            server.publish(f"devices/dev-{number}/down/cmd", b"y")
        for number in range(5):
            clients.append(site.client(pki.device(f"dev-{number}"), f"dev-{number}").connect())
            site.client(pki.device(f"dev-{number}", ca=pki.birth), f"dev-{number}").connect().close()
            site.client(pki.leaf(pki.fleet, ["a", "b"]), "a").connect().close()
        clients[7].publish("devices/dev-8/up/hello", b"forged")
        for number in range(200):
            server.publish("$CONTROL/birthmark/v1", b"%d list" % number)
        server.publish("$CONTROL/birthmark/v1", b"t kick dev-9")
        server.publish("$CONTROL/birthmark/v1", b"t stats")
        server.publish("$CONTROL/birthmark/v1", b"\xff\x00 nonsense")
        broker.deny.add(devices=["dev-10"])
        assert clients[10].wait_end()
        assert clients[9].ended
        assert clients[14].wait_end()
        broker.deny.replace(Denials)
        for client in clients:
            client.close()
