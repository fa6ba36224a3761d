"""The command line at a real server's doors: the same commands as on its own machine, the same answers and statuses."""

import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from birthmark_server.campaigns import CampaignEvent
from birthmark_server.roles import PROFILE_OF, Role
from birthmark_server.store.sql.store import SqlStore
from integration.afar import Run, add_context, person, told
from integration.conftest import LIMITS
from support.ports import free_port
from support.server import Installation, Server, now


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.create(tmp_path_factory.mktemp("afar")) as installation:
        yield installation


@pytest.fixture(scope="module")
def server(site: Installation) -> Iterator[Server]:
    with site.start(extra=LIMITS) as running:
        tpm = site.listed_device("SN-1")
        running.first_ldevid(tpm, running.enroll(tpm), "dev-sn-1")
        running.enroll(site.listed_device("SN-2"))
        time.sleep(1.1)  # its days left are 30 for one second, then 29 for a day
        yield running


def test_every_listing_is_the_same_from_afar_and_on_the_servers_machine(run: Run, site: Installation) -> None:
    local, afar = ("--config", str(site.settings())), ("--context", "viewer")
    assert run("--context", "operator", "device", "tag", "dev-sn-1", "blue", "plant-7").status == 0
    for words in (
        ("device", "list"),
        ("device", "list", "--tag", "blue", "--expiring-before", "60d", "--never-rotated"),
        ("device", "list", "--limit", "1"),
        ("device", "show", "dev-sn-1"),
        ("device", "denials"),
        ("certificate", "list"),
        ("certificate", "list", "--profile", "idevid"),
        ("model", "list"),
        ("manifest", "list"),
        ("batch", "list"),
        ("refusal", "list", "--evidence"),
        ("operator", "list"),
        ("group", "list"),
    ):
        assert told(run, *local, *words) == told(run, *afar, *words), words
        there, here = run(*afar, *words), run(*local, *words)
        assert (there.status, there.out) == (here.status, here.out), words
    assert len(told(run, *afar, "device", "list", "--tag", "blue", "--never-rotated")) == 1


def test_errors_from_afar_have_the_sentence_and_the_status_that_they_have_here(run: Run, site: Installation) -> None:
    local, afar = ("--config", str(site.settings())), ("--context", "security-officer")
    for words, status in (
        (("device", "show", "nobody"), 1),
        (("device", "readmit", "dev-sn-2"), 73),
        (("device", "list", "--group", "none"), 1),
        (("device", "list", "--issued-by", "none"), 1),
        (("device", "list", "--last-seen-before", "soon"), 65),
        (("certificate", "show", "zz"), 65),
        (("certificate", "show", "00000000"), 1),
        (("batch", "close", "none"), 1),
        (("batch", "open", "W1", "--model", "none", "--quota", "1", "--for", "1h"), 1),
        (("operator", "revoke", "nobody", "--reason", "superseded"), 1),
        (("model", "add", "model-a", "--ek", "p384"), 73),
        (("device", "deny", "nobody", "--reason", "x"), 1),
    ):
        here, there = run(*local, *words), run(*afar, *words)
        assert (there.status, there.err) == (here.status, here.err), words
        assert there.status == status, (words, there.err)


def test_a_device_is_moved_from_afar_as_here(run: Run) -> None:
    operator = ("--context", "operator")
    here = run(*operator, "device", "quarantine", "dev-sn-2", "--note", "odd traffic", "--json")
    # This server's settings name no deny file.
    assert (here.status, json.loads(here.out)["device"]["state"], "deny_file" in here.err) == (3, "quarantined", True)
    assert "quarantine" in run("--context", "viewer", "device", "show", "dev-sn-2").out
    assert told(run, *operator, "device", "restore", "dev-sn-2")["device"]["state"] == "active"
    assert run(*operator, "device", "restore", "dev-sn-2").status == 73
    assert run(*operator, "device", "retire", "dev-sn-2", "--reason", "keyCompromise").status == 64


def test_a_role_that_does_not_cover_it_ends_with_77(run: Run) -> None:
    done = run("--context", "viewer", "device", "revoke", "dev-sn-2")
    assert (done.status, "the certificate's is viewer" in done.err) == (77, True)


def test_a_manifest_and_a_batch_from_afar_name_the_operator_and_the_lines_at_fault(
    run: Run, site: Installation, tmp_path: Path
) -> None:
    factory, lot = ("--context", "factory"), tmp_path / "lot.csv"
    lot.write_text("serial,model,ek_sha256\n" + "".join(f"AF-{i},model-a,{i:064x}\n" for i in range(1200)))
    assert told(run, *factory, "manifest", "import", str(lot)) == {
        "lines": 1200, "new": 1200, "imported_by": "the-factory",
    }  # fmt: skip
    assert len(told(run, *factory, "manifest", "list", "--limit", "2000")) >= 1202
    lot.write_text(f"serial,model,ek_sha256\nAF-X,model-a,{7:064x}\nAF-Y,model-z,{9999:064x}\n")
    done = run(*factory, "manifest", "import", str(lot))
    assert done.status in (1, 73)
    assert "line 2, column ek_sha256" in done.err
    assert "line 3, column model" in done.err
    assert run(*factory, "batch", "open", "AF", "--model", "model-a", "--quota", "2", "--for", "2h").status == 0
    assert "the-factory" in run(*factory, "batch", "list").out


def test_a_revocation_from_afar_whose_broker_is_not_told_ends_with_3(run: Run, site: Installation) -> None:
    operator = ("--context", "operator")
    done = run(*operator, "device", "revoke", "dev-sn-1", "--reason", "keyCompromise")
    assert (done.status, "revoked by the-operator" in done.err, "deny_file" in done.err) == (3, True, True)
    assert site.store.device_revocations("dev-sn-1")[-1].by == "the-operator"
    assert run(*operator, "device", "readmit", "dev-sn-1").status == 0


def test_an_officer_makes_an_operator_from_afar_who_then_works(
    run: Run, site: Installation, server: Server, tmp_path: Path
) -> None:
    officer = ("--context", "security-officer")
    made = run(*officer, "operator", "add", "dora", "--role", "operator", "--folder", str(tmp_path / "dora"))
    assert made.status == 0, made.err
    pem = tmp_path / "dora" / "dora.pem"
    assert oct(pem.stat().st_mode & 0o777) == "0o600"
    add_context(run, site, "dora", pem, server.port)
    assert run("--context", "dora", "group", "save", "doras", "--model", "model-a").status == 0
    assert told(run, "--context", "dora", "group", "show", "doras")["saved_by"] == "dora"
    assert run(*officer, "operator", "revoke", "dora", "--reason", "affiliationChanged").status == 0
    done = run("--context", "dora", "status")
    assert (done.status, "is revoked" in done.err) == (77, True)


def test_a_board_swap_takes_two_contexts(run: Run) -> None:
    ek = "7" * 64
    assert run("--context", "operator", "device", "swap", "dev-sn-2", "--new-ek", ek).status == 0
    assert run("--context", "operator", "device", "swap", "dev-sn-2", "--approve").status == 77
    done = run("--context", "security-officer", "device", "swap", "dev-sn-2", "--approve", "--new-ek", ek)
    assert "the-operator asked, the-security-officer approved" in done.err


def test_a_server_that_is_not_there_ends_with_69(run: Run, site: Installation, tmp_path: Path) -> None:
    leaf = person(site.infra(PROFILE_OF[Role.VIEWER], "lonely"), tmp_path)
    add_context(run, site, "nowhere", leaf, free_port())
    done = run("--context", "nowhere", "status")
    assert (done.status, "https://localhost" in done.err) == (69, True)


def test_who_asks_too_often_is_told_later_and_waits(run: Run, site: Installation, tmp_path: Path) -> None:
    with site.start(port=free_port(), extra="[limits]\nrequests_per_s = 3\nburst = 1\n") as slow:
        leaf = person(site.infra(PROFILE_OF[Role.VIEWER], "eager"), tmp_path)
        add_context(run, site, "slow", leaf, slow.port)
        assert [run("--context", "slow", "status").status for _ in range(4)] == [0, 0, 0, 0]
        assert "code=too-many-requests" in slow.log


def test_an_answer_that_was_lost_is_asked_for_again_and_the_act_done_once(
    run: Run, site: Installation, server: Server, tmp_path: Path
) -> None:
    leaf, before = person(site.infra(PROFILE_OF[Role.FACTORY], "cut-off"), tmp_path), len(granted(server))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lose_the_first_answer, args=(listening, server.port), daemon=True)
        thread.start()
        add_context(run, site, "lossy", leaf, listening.getsockname()[1])
        words = ("batch", "open", "ONCE", "--model", "model-a", "--quota", "1", "--for", "1h")
        done = run("--context", "lossy", *words)
        thread.join(10)
    assert done.status == 0, done.err
    assert len(granted(server)) == before + 2
    assert [b.opened_by for b in site.store.list_batches() if b.name == "ONCE"] == ["cut-off"]


def granted(server: Server) -> list[str]:
    """The log's lines of batches that were opened, or said to be."""
    wanted = ("method=POST", "path=/v1/batches ", "status=201")
    return [line for line in server.log.splitlines() if all(word in line for word in wanted)]


def lose_the_first_answer(listening: socket.socket, port: int) -> None:
    """Pass two connections on to `port`. The first is cut when the server answers the request: its first words are the
    handshake's, and the next that it says after the client's are the answer (TLS 1.3 without tickets)."""
    for number in range(2):
        client = listening.accept()[0]
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            heard, asked = False, False
            while True:
                ready, _, _ = select.select([client, server], [], [], 10)
                for source, sink in ((client, server), (server, client)):
                    if source not in ready:
                        continue
                    data = source.recv(65_536)
                    if source is server and asked and number == 0:
                        data = b""
                    if not data:
                        break
                    heard, asked = heard or source is server, asked or (heard and source is client)
                    sink.sendall(data)
                else:
                    if ready:
                        continue
                break


def test_a_watch_waits_for_a_server_that_is_started_anew(
    run: Run, site: Installation, server: Server, tmp_path: Path
) -> None:
    tpm = site.listed_device("SN-W")
    server.first_ldevid(tpm, server.enroll(tpm), "dev-sn-w")
    port, leaf = free_port(), person(site.infra(PROFILE_OF[Role.OPERATOR], "patient"), tmp_path)
    add_context(run, site, "restarted", leaf, port)
    first, second, away = ExitStack(), ExitStack(), threading.Event()
    first.enter_context(site.start(port=port, extra=LIMITS))

    def start_anew() -> None:
        time.sleep(1.5)
        first.close()
        away.set()
        time.sleep(1)
        second.enter_context(site.start(port=port, extra=LIMITS))
        assert isinstance(site.store, SqlStore)
        site.store.campaigns.happen("long", CampaignEvent.ABORTED, by="alice", at=now(), reason="enough")

    assert run("--context", "restarted", "campaign", "start", "long", "--device", "dev-sn-w").status == 0
    thread = threading.Thread(target=start_anew)
    thread.start()
    try:
        watched = run("--context", "restarted", "campaign", "watch", "long", "--json")
    finally:
        thread.join(60)
        second.close()
    assert watched.status == 0, watched.err
    assert away.is_set()
    assert [json.loads(line)["state"] for line in watched.out.splitlines()] == ["running", "aborted"]


def test_another_installations_server_is_not_believed(run: Run, site: Installation, tmp_path: Path) -> None:
    with Installation.create(tmp_path / "other") as other, other.start() as stranger:
        leaf = person(site.infra(PROFILE_OF[Role.VIEWER], "careful"), tmp_path)
        add_context(run, site, "other", leaf, stranger.port)
        done = run("--context", "other", "status")
    assert (done.status, "does not lead to the pinned root" in done.err) == (69, True)


def test_an_operator_of_another_installation_is_told_so(
    run: Run, site: Installation, server: Server, tmp_path: Path
) -> None:
    with Installation.create(tmp_path / "other") as other:
        leaf = person(other.infra(PROFILE_OF[Role.VIEWER], "lost"), tmp_path)
    add_context(run, site, "lost", leaf, server.port)
    done = run("--context", "lost", "status")
    assert (done.status, "TLS failed" in done.err or "reset" in done.err.lower()) == (69, True), done.err


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 403 No\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\n\r\n[]",
        b"\x00\x01 not HTTP at all\r\n\r\n",
    ],
)
def test_a_server_that_speaks_nonsense_ends_with_69(
    run: Run, site: Installation, tmp_path: Path, answer: bytes
) -> None:
    chain, key = site.pki.server().write(tmp_path, "odd")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(2):  # what only reads is asked twice
                try:
                    with tls.wrap_socket(listening.accept()[0], server_side=True) as peer:
                        peer.recv(65_536)
                        peer.sendall(answer)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        leaf = person(site.infra(PROFILE_OF[Role.VIEWER], "puzzled"), tmp_path)
        add_context(run, site, "odd", leaf, listening.getsockname()[1])
        done = run("--context", "odd", "status")
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    assert done.status == 69, done.err
    assert len(done.err.strip().splitlines()) == 1
