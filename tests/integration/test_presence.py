"""The server beside a real broker: it hears its devices, and a broker that is down keeps nobody from enrolling."""

import ssl
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from birthmark_server import settings as settings_file
from birthmark_server.cli.broker_check import ask_broker
from birthmark_server.domain import CertificateProfile
from birthmark_server.presence import open_errand
from birthmark_server.settings import BrokerSettings
from birthmark_wire import topics
from birthmark_wire.rotation import Hello
from support.mqtt_client import connected
from support.ports import free_port
from support.rotating_live import broker_of
from support.server import Installation

pytestmark = pytest.mark.parts


def control_lines(site: Installation, port: int) -> str:
    chain, key = site.infra(CertificateProfile.CONTROL, "srv-control").write(site.folder, "control")
    return f'port = {port}\ncontrol = true\ncontrol_certificate = "{chain}"\ncontrol_key = "{key}"\n'


def test_doctor_finds_a_broker_by_another_address_than_the_name_in_its_certificate(tmp_path: Path) -> None:
    with Installation.create(tmp_path) as site:
        named = site.pki.infra(CertificateProfile.BROKER, "srv-broker", dns_names=("localhost",))
        with broker_of(site, named) as broker:
            lines = control_lines(site, broker.port) + 'control_host = "127.0.0.1"\n'
            settings = settings_file.load(site.settings(broker=lines))
            answer = ask_broker(settings, settings.broker.every[0])
    assert answer.connected, answer


def test_a_devices_hello_is_a_sign_of_life(tmp_path: Path) -> None:
    with (
        Installation.create(tmp_path) as site,
        broker_of(site) as broker,
        site.start(broker=control_lines(site, broker.port)) as server,
    ):
        tpm = site.listed_device("SN-ALIVE")
        ldevid = server.first_ldevid(tpm, server.enroll(tpm), "dev-sn-alive")
        born = site.store.get_device("dev-sn-alive").last_seen_at
        context = ssl.create_default_context(cafile=str(site.pki.root_pem))
        context.load_cert_chain(*ldevid.write(tmp_path, "device"))
        until = time.monotonic() + 30
        while 'event="broker connected"' not in server.log and time.monotonic() < until:
            time.sleep(0.05)
        with connected(broker.port, context, "dev-sn-alive") as client:
            client.paho.publish(topics.up("dev-sn-alive", "hello"), b"{}", qos=1)
            while site.store.get_device("dev-sn-alive").last_seen_at == born and time.monotonic() < until:
                time.sleep(0.05)
            hello = Hello(agent="birthmark-agent/9.9", serial="1", not_after=datetime(2027, 1, 1, tzinfo=UTC))
            client.paho.publish(topics.up("dev-sn-alive", "hello"), hello.encode(), qos=1)
            while not agent_on_record(site) and time.monotonic() < until:
                time.sleep(0.05)
        assert site.store.get_device("dev-sn-alive").last_seen_at != born
        assert agent_on_record(site) == "birthmark-agent/9.9"


def test_errands_of_one_process_leave_each_others_connections_alone(tmp_path: Path) -> None:
    """A server that revokes for two operators at once does two errands."""
    with Installation.create(tmp_path) as site, broker_of(site) as broker:
        control, control_key = site.infra(CertificateProfile.CONTROL, "srv-control").write(tmp_path, "control")
        settings = BrokerSettings.model_validate(
            {
                "host": "localhost",
                "port": broker.port,
                "control_certificate": str(control),
                "control_key": str(control_key),
            }
        )
        errands = [open_errand(settings, anchors=site.pki.root_pem.read_bytes) for _ in range(2)]
        try:
            for errand in errands:
                errand.start()
                assert errand.wait_tried(10)
            time.sleep(0.5)  # long enough for the second to have taken the first one's place
            assert [errand.live for errand in errands] == [True, True]
        finally:
            for errand in errands:
                errand.stop()


def agent_on_record(site: Installation) -> str:
    return site.store.device_facts(["dev-sn-alive"])["dev-sn-alive"].agent


def test_a_broker_that_is_down_keeps_nobody_from_enrolling(tmp_path: Path) -> None:
    with (
        Installation.create(tmp_path) as site,
        site.start(broker=control_lines(site, free_port())) as server,
    ):
        assert server.enroll(site.listed_device("SN-ALONE")).der
