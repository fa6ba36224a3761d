"""Long runs against a real broker with the gate, for figures and for leaks. `make -C server/mosquitto_gate soak`.

    python tests/gate/soak.py connects 100000              connections that come, are judged and go; memory at the end
    python tests/gate/soak.py connects 100000 --asan       the same under AddressSanitizer and UBSan
    python tests/gate/soak.py connects 1000 --valgrind     the same under valgrind
    python tests/gate/soak.py cut 5000                     revoke request to closed socket, with 5,000 connected

Prints one JSON object; ends with 1 where an answer was not the one wanted, or memory was lost.
"""

import argparse
import json
import multiprocessing
import re
import resource
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from birthmark_server.broker.control import MosquittoControl
from birthmark_server.broker.errors import BrokerUnavailable
from birthmark_server.broker.link import BrokerLink
from support.broker_pki import BrokerPki, Leaf
from support.cut import NOT_AUTHORIZED, SUCCESS, Spread, dial, mqtt_connect, spread, time_cut
from support.gate_site import open_site
from support.mosquitto import Broker, build_gate

WORKERS = 2
ASAN = {
    # Mosquitto forgets some memory of its own at its end, so leaks are looked at by whoever reads the log.
    "ASAN_OPTIONS": "detect_leaks=1:exitcode=0:abort_on_error=1:handle_abort=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}
VALGRIND = (
    "valgrind",
    "--leak-check=full",
    "--show-leak-kinds=definite,possible",
    "--error-exitcode=0",
    "--keep-debuginfo=yes",
    "--num-callers=30",
)


@dataclass(frozen=True)
class Connects:
    """What a run of connections came to. rss_*: the broker's resident memory after a tenth of them, and at the end."""

    connects: int
    per_s: float
    wrong_answers: int
    rss_begin_kib: int
    rss_end_kib: int
    lists_read: int
    complaints: int


@dataclass(frozen=True)
class Cut:
    """Revoke request to closed socket, in ms: BrokerControl.deny() was called, and the device's socket came to its end.
    That is a signed list of so many entries on the disk, the command, the cut, and the device's own TLS layer."""

    connected: int
    entries: int
    revocations: int
    took: Spread


@dataclass(frozen=True)
class Attempt:
    """Who tries, and what must come of it."""

    context: ssl.SSLContext
    client_id: str
    wanted: int


def run_connects(folder: Path, count: int, **how: Any) -> Connects:
    """Make `count` connections of every kind, while lists, commands and SIGHUPs come and go."""
    pki = _pki(folder)
    denied = pki.device("dev-denied")
    with open_site(pki, folder / "broker", **how) as broker:
        broker.deny.add(serials=[denied.serial], devices=["dev-blocked"])
        broker.wait_log("version 2 in force", timeout_s=30)
        _prepared[:] = _attempts(pki, denied)  # the workers are forked, and have them too
        with _control(pki, broker) as control, multiprocessing.get_context("fork").Pool(WORKERS) as pool:
            begun = time.monotonic()
            wrong = _share(pool, broker.port, count // 10)
            rss_begin = _rss_kib(broker)
            stop = threading.Event()
            unrest = threading.Thread(target=_unrest, args=(broker, control, stop))
            unrest.start()
            wrong += _share(pool, broker.port, count - count // 10)
            stop.set()
            unrest.join()
            elapsed = time.monotonic() - begun
            rss_end = _rss_kib(broker)
        broker.stop()
        log = broker.log()
    return Connects(
        count, round(count / elapsed, 1), wrong, rss_begin, rss_end, log.count("in force,"), complaints(log)
    )


def complaints(log: str) -> int:
    """Count what a sanitizer or valgrind says of the gate in a broker's log; Mosquitto's own leaks are its own."""
    found = log.count("ERROR: AddressSanitizer") + log.count("runtime error")
    # valgrind's errors, and both programs' leaks: blocks that name our plugin, or what it alone calls so.
    blocks = re.split(r"\n(?:==\d+== *)?\n", log)
    ours = ("birthmark_gate", "unknown module", "gate_on_", "mosquitto_plugin_init")
    return found + sum(
        any(name in block for name in ours)
        for block in blocks
        if "leak of" in block or "definitely lost in" in block or "Invalid " in block or "uninitialised" in block
    )


def run_cut(folder: Path, connected: int, revocations: int, entries: int) -> Cut:
    """Connect so many devices, revoke some of them one after the other, and take the time of each."""
    pki = _pki(folder)
    with ExitStack() as stack:
        broker = stack.enter_context(open_site(pki, folder / "broker", max_connections=connected + 100))
        if entries:
            broker.deny.add(serials=[f"1{number:08x}" for number in range(entries)])
            broker.wait_log("version 2 in force", timeout_s=30)
        control = stack.enter_context(_control(pki, broker))  # first: paho's select() takes no descriptor above 1023
        leaves = [pki.device(f"dev-{number}") for number in range(connected)]
        sockets = []
        for number, leaf in enumerate(leaves):
            # One after the other: Mosquitto gives a connection a minute to say CONNECT.
            sockets.append(stack.enter_context(dial(broker.port, pki.client_context(leaf))))
            if mqtt_connect(sockets[-1], f"dev-{number}") != SUCCESS:
                raise RuntimeError(f"dev-{number} was not let in")
        if len(control.connections()) != connected + 1:
            raise RuntimeError("not everybody is connected")
        step = max(1, connected // revocations)
        took = [
            time_cut(sockets[number], partial(control.deny, serials=[leaves[number].serial]))
            for number in range(0, step * revocations, step)
        ]
    return Cut(connected, entries, len(took), spread(took))


def _pki(folder: Path) -> BrokerPki:
    (folder / "pki").mkdir()
    return BrokerPki(folder / "pki")


def _attempts(pki: BrokerPki, denied: Leaf) -> list[Attempt]:
    def of(leaf: Leaf, client_id: str, wanted: int) -> Attempt:
        return Attempt(pki.client_context(leaf), client_id, wanted)

    good = [of(pki.device(f"dev-{number}"), f"dev-{number}", SUCCESS) for number in range(12)]
    return [
        *good,
        of(denied, "dev-denied", NOT_AUTHORIZED),
        of(pki.device("dev-blocked"), "dev-blocked", NOT_AUTHORIZED),
        of(pki.device("dev-a"), "dev-b", NOT_AUTHORIZED),
        of(pki.device("dev-birth", ca=pki.birth), "dev-birth", NOT_AUTHORIZED),
        of(pki.leaf(pki.fleet, ["a", "b"]), "a", NOT_AUTHORIZED),
        of(pki.leaf(pki.fleet, ["dev-x"], uris=[pki.uri("dev-y")]), "dev-x", NOT_AUTHORIZED),
    ]


_prepared: list[Attempt] = []


def _share(pool: Any, port: int, count: int) -> int:
    """Make `count` attempts in all workers; return how many answers were wrong."""
    parts = [(port, count // WORKERS + (number < count % WORKERS), number) for number in range(WORKERS)]
    return sum(pool.starmap(_work, parts, chunksize=1))


def _work(port: int, count: int, first: int) -> int:
    wrong = 0
    for number in range(first, first + count):
        attempt = _prepared[number % len(_prepared)]
        # Both workers use the same ids: some connections are taken over.
        with dial(port, attempt.context) as tls:
            wrong += mqtt_connect(tls, attempt.client_id) != attempt.wanted
            if number % 3:
                tls.sendall(b"\xe0\x00")  # DISCONNECT; every third just goes
    return wrong


def _unrest(broker: Broker, control: MosquittoControl, stop: threading.Event) -> None:
    """A new list and a command every half second, a SIGHUP every five."""
    number = 0
    while not stop.wait(0.5):
        number += 1
        control.deny(serials=[f"1{number:08x}"])
        with suppress(BrokerUnavailable):  # on a busy machine a sanitized broker may need longer than it is waited for
            control.health()
        if number % 10 == 0:
            broker.reload()


@contextmanager
def _control(pki: BrokerPki, broker: Broker) -> Iterator[MosquittoControl]:
    def ignore(device_id: str, leaf: str, payload: bytes, at: datetime) -> None:
        pass

    link = BrokerLink(
        host="localhost",
        port=broker.port,
        client_id="srv-control",
        context=pki.client_context(pki.control()),
        on_message=ignore,
    )
    link.start()
    if not link.wait_live(30):
        raise RuntimeError("the control identity was not let in")
    try:
        yield MosquittoControl(link=link, deny_file=broker.deny)
    finally:
        link.stop()


def _rss_kib(broker: Broker) -> int:
    status = Path(f"/proc/{broker.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def _how(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.valgrind:
        return {"under": VALGRIND}
    return asan() if arguments.asan else {}


def asan() -> dict[str, Any]:
    """Return how a broker is run under AddressSanitizer."""
    runtime = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    preload = {"LD_PRELOAD": str(Path(runtime.strip()).resolve())}
    return {"plugin": build_gate("asan/birthmark_gate.so"), "environment": {**ASAN, **preload}}


def main(argv: Sequence[str]) -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    what = parser.add_subparsers(dest="what", required=True)
    connects = what.add_parser("connects")
    connects.add_argument("count", type=int)
    connects.add_argument("--asan", action="store_true")
    connects.add_argument("--valgrind", action="store_true")
    cut = what.add_parser("cut")
    cut.add_argument("connected", type=int)
    cut.add_argument("--revocations", type=int, default=200)
    cut.add_argument("--entries", type=int, default=0, help="that the list has before")
    arguments = parser.parse_args(argv)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="birthmark-soak-") as folder:
        if arguments.what == "cut":
            figures: Connects | Cut = run_cut(
                Path(folder), arguments.connected, arguments.revocations, arguments.entries
            )
            well = True
        else:
            figures = run_connects(Path(folder), arguments.count, **_how(arguments))
            well = figures.wrong_answers == 0 and figures.complaints == 0
    print(json.dumps(asdict(figures)))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
