"""The server's own connection, on a real Mosquitto: it hears, it carries, it comes back."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.broker.errors import BrokerRefused, BrokerUnavailable
from birthmark_server.broker.link import BrokerLink, MessageHandler, control_context
from broker.contract import until
from support.broker_pki import BrokerPki, Ca
from support.gate_site import Site, open_site

pytestmark = pytest.mark.parts

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Ear:
    """Hears messages, and fails on those that say `fail`."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, bytes, datetime]] = []

    def __call__(self, device_id: str, leaf: str, payload: bytes, at: datetime) -> None:
        self.heard.append((device_id, leaf, payload, at))
        if payload == b"fail":
            raise ValueError("a handler that fails")

    def has(self, payload: bytes) -> bool:
        """Whether a message of this payload came."""
        return payload in [heard[2] for heard in self.heard]


def make_link(site: Site, ear: MessageHandler, client_id: str = "srv-control") -> BrokerLink:
    """Return a link that is not started."""
    return BrokerLink(
        host="localhost",
        port=site.broker.port,
        client_id=client_id,
        context=site.pki.client_context(site.pki.control()),
        on_message=ear,
        clock=lambda: NOON,
    )


@contextmanager
def live(link: BrokerLink) -> Iterator[BrokerLink]:
    """Run a link that must come up."""
    link.start()
    try:
        assert link.wait_live(10)
        yield link
    finally:
        link.stop()


def test_it_hears_a_device_with_its_id_and_leaf(site: Site) -> None:
    ear = Ear()
    with live(make_link(site, ear)), site.connected(site.pki.device("dev-1"), "dev-1") as device:
        device.publish("devices/dev-1/up/hello", b"hi")
        assert until(lambda: ear.heard == [("dev-1", "hello", b"hi", NOON)])


def test_a_handler_that_fails_stops_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    ear = Ear()
    with live(make_link(site, ear)) as link, site.connected(site.pki.device("dev-2"), "dev-2") as device:
        device.publish("devices/dev-2/up/status", b"fail")
        device.publish("devices/dev-2/up/unheard-of", b"no such leaf")
        device.publish("devices/dev-2/up/status", b"after")
        assert until(lambda: ear.has(b"after"))
        assert not ear.has(b"no such leaf")
        assert link.live
    assert "broker message failed" in caplog.text


def test_a_handler_may_publish_and_may_not_ask(site: Site) -> None:
    failures: list[BaseException] = []
    link: BrokerLink

    def answer(device_id: str, leaf: str, payload: bytes, at: datetime) -> None:
        link.publish(f"devices/{device_id}/down/cmd", b"answer")
        try:
            link.ask("stats")
        except RuntimeError as error:
            failures.append(error)

    link = make_link(site, answer)
    with live(link), site.connected(site.pki.device("dev-3"), "dev-3") as device:
        device.subscribe("devices/dev-3/down/#")
        device.publish("devices/dev-3/up/hello", b"hi")
        assert device.wait_message("devices/dev-3/down/cmd", b"answer")
        assert until(lambda: len(failures) == 1)


def test_what_is_sent_while_the_server_restarts_waits_for_it(site: Site) -> None:
    ear = Ear()
    with live(make_link(site, Ear())):
        pass
    with site.connected(site.pki.device("dev-4"), "dev-4") as device:
        device.publish("devices/dev-4/up/status", b"meanwhile")
        with live(make_link(site, ear)):
            assert until(lambda: ear.has(b"meanwhile"))


def test_it_comes_back_when_the_broker_does(site: Site) -> None:
    ear = Ear()
    with live(make_link(site, ear)) as link:
        site.broker.kill()
        assert until(lambda: not link.live)
        with pytest.raises(BrokerUnavailable):
            link.publish("devices/dev-5/down/cmd", b"x")
        with pytest.raises(BrokerUnavailable):
            link.ask("stats")
        site.broker.start()
        assert link.wait_live(15)
        with site.connected(site.pki.device("dev-5"), "dev-5") as device:
            device.publish("devices/dev-5/up/hello", b"again")
            assert until(lambda: ear.has(b"again"))


def test_a_broker_that_is_down_at_first_is_no_error(site: Site) -> None:
    site.broker.stop()
    link = make_link(site, Ear())
    link.start()
    try:
        assert not link.wait_live(0.5)
        site.broker.start()
        assert link.wait_live(15)
    finally:
        link.stop()


def test_a_certificate_that_is_no_control_identitys_never_goes_live(site: Site) -> None:
    link = BrokerLink(
        host="localhost",
        port=site.broker.port,
        client_id="dev-6",
        context=site.pki.client_context(site.pki.device("dev-6")),
        on_message=Ear(),
    )
    link.start()
    try:
        site.broker.wait_log("refused subscribe: reason=shared-subscription id=dev-6")
        assert not link.live
    finally:
        link.stop()


def test_the_gates_no_is_an_error_of_its_own(site: Site) -> None:
    with live(make_link(site, Ear())) as link, pytest.raises(BrokerRefused, match="unknown-verb"):
        link.ask("dance")


def test_an_answer_goes_to_the_asker_alone(site: Site) -> None:
    with (
        live(make_link(site, Ear(), "srv-control.a")) as link,
        site.connected(site.pki.control(), "srv-control.b") as other,
    ):
        other.subscribe("$CONTROL/birthmark/v1/response")
        link.ask("stats")
        assert other.messages == []


@pytest.mark.alone
def test_many_threads_ask_at_once_and_each_gets_its_own_answer(site: Site) -> None:
    results: list[int] = []
    with live(make_link(site, Ear())) as link:

        def ask() -> None:
            for _ in range(20):
                results.append(link.ask("kick nobody").integer("kicked", low=0, high=0))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Without TCP_NODELAY on both sides each answer would take 40 ms and more.
        assert time.monotonic() - began < 20 * 0.04
    assert len(results) == 80


def test_the_name_in_the_certificate_is_checked_whatever_address_is_dialled(pki: BrokerPki, tmp_path: Path) -> None:
    anchors = pki.root.certificate.public_bytes(Encoding.PEM)
    control = pki.control()
    with open_site(pki, tmp_path / "broker") as broker:
        for server_name, comes_up in (("localhost", True), ("other.test", False)):
            link = BrokerLink(
                host="127.0.0.1",
                port=broker.port,
                client_id="srv-control",
                context=control_context(
                    anchors=lambda: anchors, certificate=control.chain, key=control.key, server_name=server_name
                ),
                on_message=Ear(),
            )
            link.start()
            assert link.wait_live(5 if comes_up else 1) is comes_up
            link.stop()


def test_a_root_that_is_believed_no_more_vouches_for_no_broker(pki: BrokerPki, tmp_path: Path) -> None:
    ours, other = (ca.certificate.public_bytes(Encoding.PEM) for ca in (pki.root, Ca.make("Test Root")))
    believed, control = [ours], pki.control()
    context = control_context(
        anchors=lambda: believed[0], certificate=control.chain, key=control.key, server_name="localhost"
    )
    with open_site(pki, tmp_path / "broker") as broker:
        for roots, comes_up in ((ours, True), (other, False), (other + ours, True)):  # while the server runs
            believed[0] = roots
            link = BrokerLink(
                host="localhost", port=broker.port, client_id="srv-control", context=context, on_message=Ear()
            )
            link.start()
            assert link.wait_live(5 if comes_up else 1) is comes_up
            link.stop()
